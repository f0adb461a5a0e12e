"""What a subject is made of: counts, and the modules where its units live.

Found by the row of its architecture, read off the modules' shapes, and checked: every block must
have attention and either a dense MLP or a router with experts, of the same sizes in every layer,
in those layers and as many as the configuration says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lmri.anatomy.architectures import ARCHITECTURES, SEQUENTIAL_GPT_NEOX, Architecture
from lmri.anatomy.mixtures import contradictions
from lmri.anatomy.structure import unknown_architecture
from lmri.errors import SubjectError

ACTIVATIONS = tuple({kind[0] if isinstance(kind, tuple) else kind for kind in ACT2FN.values()})
"""Classes of the activation functions that transformers gives its models by name."""

STANDS_FOR = "lmri_stands_for"
"""Attribute of a module of attention: functions by those in whose place they are called."""


@dataclass(frozen=True)
class Anatomy:
    """Counts and sites of one subject.

    Attributes
    ----------
    architecture : str
        ``model_type`` of its configuration.
    layers : int
        Transformer blocks.
    hidden : int
        Dimensions of the residual stream.
    heads, head_size : int
        Attention heads per layer, and the width of their outputs.
    vocabulary : int
        Tokens it can say.
    context : int or None
        Longest text in tokens, if the architecture has a limit.
    dense_layers : tuple of int
        Layers with a dense MLP.
    neurons : int
        Neurons of a dense MLP; 0 without.
    moe_layers : tuple of int
        Layers with experts; the layer ids of every routing quantity.
    experts, top_k, expert_size : int
        Experts per layer, experts per token, neurons per expert; 0 without.
    shared_layers : tuple of int
        Layers with experts that every token passes.
    shared_size : int
        Neurons of these; 0 without.
    routing : str or None
        Rule of the router, see :mod:`lmri.anatomy.routing`.
    places : tuple of str
        Where the residual stream is read: ``before`` a block, ``mid`` between attention and MLP
        (not in parallel blocks), ``after`` it.
    encoder : bool
        Whether it reads both sides and predicts no next token.
    feature_layers : tuple of int
        Layer of the dictionary that the subject was given, see :mod:`lmri.anatomy.dictionary`.
    features : int
        Features of the dictionary; 0 without.
    """

    architecture: str
    layers: int
    hidden: int
    heads: int
    head_size: int
    vocabulary: int
    context: int | None
    dense_layers: tuple[int, ...] = ()
    neurons: int = 0
    moe_layers: tuple[int, ...] = ()
    experts: int = 0
    top_k: int = 0
    expert_size: int = 0
    shared_layers: tuple[int, ...] = ()
    shared_size: int = 0
    routing: str | None = None
    places: tuple[str, ...] = ("before", "mid", "after")
    encoder: bool = False
    feature_layers: tuple[int, ...] = ()
    features: int = 0


def describe(model: nn.Module) -> Anatomy:
    """Read a model's anatomy from its configuration and check it against its modules.

    Parameters
    ----------
    model : torch.nn.Module
        A language model of transformers; it may be on the meta device.

    Returns
    -------
    Anatomy
        Its anatomy.

    Raises
    ------
    SubjectError
        If the architecture is unknown, or a module is not where the table says.
    """
    row, config = architecture_of(model), model.config
    _check_sites(model, row)
    heads = config.num_attention_heads
    dense, experts, shared = dense_outputs(model), expert_groups(model), shared_outputs(model)
    head_sizes = {layer: _inputs(m) / heads for layer, m in attention_outputs(model).items()}
    anatomy = Anatomy(
        architecture=config.model_type,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=heads,
        head_size=int(_same(model, "outputs per head", head_sizes)),
        vocabulary=config.vocab_size,
        context=getattr(config, "max_position_embeddings", None),
        dense_layers=tuple(dense),
        neurons=_same(model, "neurons", {i: _inputs(m) for i, m in dense.items()}),
        moe_layers=tuple(experts),
        experts=_same(model, "experts", {i: m.num_experts for i, m in experts.items()}),
        top_k=_same(model, "experts per token", {i: m.top_k for i, m in routers(model).items()}),
        expert_size=_same(model, "neurons", {i: _expert_size(m) for i, m in experts.items()}),
        shared_layers=tuple(shared),
        shared_size=_same(model, "shared neurons", {i: _inputs(m) for i, m in shared.items()}),
        routing=row.routing if experts else None,
        places=("before", "mid", "after") if row.mid else ("before", "after"),
        encoder=row.encoder,
    )
    if row.router is not None:
        _check_mixture(model, row, anatomy)
    return anatomy


def architecture_of(model: nn.Module) -> Architecture:
    """Row of the table for a model.

    Parameters
    ----------
    model : torch.nn.Module
        A language model of transformers.

    Returns
    -------
    Architecture
        Its row.

    Raises
    ------
    SubjectError
        If there is none: names the class, what was found of it, and how to add one.
    """
    kind = model.config.model_type
    if kind not in ARCHITECTURES:
        raise unknown_architecture(kind, type(model).__name__, model)
    if kind == "gpt_neox" and not model.config.use_parallel_residual:
        return SEQUENTIAL_GPT_NEOX
    return ARCHITECTURES[kind]


def trunk(model: nn.Module) -> nn.Module:
    """Model without its projection to the vocabulary: token ids to last hidden states."""
    return model.get_submodule(architecture_of(model).blocks.split(".")[0])


def blocks(model: nn.Module) -> list[nn.Module]:
    """Transformer blocks in order."""
    return list(_get(model, architecture_of(model).blocks) or [])


def routers(model: nn.Module) -> dict[int, nn.Module]:
    """Routers by layer."""
    return _by_layer(model, architecture_of(model).router)


def expert_groups(model: nn.Module) -> dict[int, nn.Module]:
    """Fused experts modules by layer."""
    return _by_layer(model, architecture_of(model).experts)


def shared_outputs(model: nn.Module) -> dict[int, nn.Module]:
    """Output projections of shared experts by layer."""
    return _by_layer(model, architecture_of(model).shared)


def shared_gates(model: nn.Module) -> dict[int, nn.Module]:
    """Gates of shared experts by layer."""
    return _by_layer(model, architecture_of(model).shared_gate)


def dense_outputs(model: nn.Module) -> dict[int, nn.Module]:
    """Output projections of dense MLPs by layer."""
    return _by_layer(model, architecture_of(model).dense)


def dense_activations(model: nn.Module) -> dict[int, nn.Module]:
    """Activation functions of dense MLPs by layer; they read what is called preactivation.

    That is the gate's projection where there is one, also where one matrix makes gate and rest,
    and the first projection elsewhere. The table has no path to them: they are found by their
    class, as the only one of :data:`ACTIVATIONS` in their block.

    Parameters
    ----------
    model : torch.nn.Module
        A language model of transformers.

    Returns
    -------
    dict of int to torch.nn.Module
        One for each layer with a dense MLP.

    Raises
    ------
    SubjectError
        If a block with a dense MLP has none, as where its activation is a plain function, or
        several.
    """
    every = blocks(model)
    return {layer: _only_activation(model, layer, every[layer]) for layer in dense_outputs(model)}


def attentions(model: nn.Module) -> dict[int, nn.Module]:
    """Attention modules by layer."""
    return _by_layer(model, architecture_of(model).attention)


def attention_function(module: nn.Module, implementation: str) -> Callable[..., tuple]:
    """Find the function by which a module of attention attends.

    Parameters
    ----------
    module : torch.nn.Module
        The module.
    implementation : str
        Name of transformers.

    Returns
    -------
    callable
        The one of that name, or what the module's attribute :data:`STANDS_FOR` has in its place.
    """
    if implementation == "eager":
        found = sys.modules[type(module).__module__].eager_attention_forward
    else:
        found = ALL_ATTENTION_FUNCTIONS[implementation]
    return getattr(module, STANDS_FOR, {}).get(found, found)


def attention_outputs(model: nn.Module) -> dict[int, nn.Module]:
    """Output projections of attention by layer."""
    return _by_layer(model, architecture_of(model).attention_output)


def after_attention(model: nn.Module) -> dict[int, nn.Module]:
    """Modules that read the residual between attention and MLP, by layer."""
    return _by_layer(model, architecture_of(model).mid)


def added_by_attention(model: nn.Module) -> dict[int, nn.Module]:
    """Modules whose output attention adds to the residual, by layer."""
    return _by_layer(model, architecture_of(model).attention_added)


def added_by_mlp(model: nn.Module) -> dict[int, nn.Module]:
    """Modules whose output the MLP, dense or of experts, adds to the residual, by layer."""
    return _by_layer(model, architecture_of(model).mlp_added)


def residual_multiplier(model: nn.Module) -> float:
    """Factor by which what attention and MLP add to the residual is scaled."""
    name = architecture_of(model).multiplier
    return getattr(model.config, name) if name else 1.0


def _check_sites(model: nn.Module, row: Architecture) -> None:
    """Every block must have what its row says, and either a dense MLP or experts."""
    expected = model.config.num_hidden_layers
    if len(blocks(model)) != expected:
        _refuse(model, f"{expected} blocks at '{row.blocks}'", f"{len(blocks(model))}")
    everywhere = (row.attention, row.attention_output, row.attention_added, row.mlp_added, row.mid)
    for path in filter(None, everywhere):
        if len(found := _by_layer(model, path)) != expected:
            _refuse(model, f"'{path}' in each of its {expected} blocks", f"it in {len(found)}")
    for layer, block in enumerate(blocks(model)):
        routed = [path for path in (row.router, row.experts) if _get(block, path) is not None]
        dense = _get(block, row.dense) is not None
        if len(routed) == 1 or dense == bool(routed):
            wanted = " and ".join(f"'{path}'" for path in (row.router, row.experts) if path)
            either = f"either '{row.dense}' or {wanted}" if row.dense and wanted else wanted
            got = [*routed, *([row.dense] if dense else [])]
            _refuse(
                model,
                f"{either or repr(row.dense)} in block {layer}",
                " and ".join(f"'{path}'" for path in got) or "none of them",
            )


def _check_mixture(model: nn.Module, row: Architecture, anatomy: Anatomy) -> None:
    """A renamed shared expert, or a layer without its experts, would leave nothing to be found."""
    paths = filter(None, (row.shared, row.shared_gate))
    shared = {path: _by_layer(model, path) for path in paths}
    found = anatomy.moe_layers, anatomy.experts, anatomy.top_k
    for expected, instead in contradictions(model.config, *found, shared):
        _refuse(model, expected, instead)


def _only_activation(model: nn.Module, layer: int, block: nn.Module) -> nn.Module:
    found = {name: m for name, m in block.named_modules() if isinstance(m, ACTIVATIONS)}
    if len(found) != 1:
        names = ", ".join(f"'{name}'" for name in found) or "none"
        raise SubjectError(
            f"A subject of architecture '{model.config.model_type}' ({type(model).__name__}) must "
            "have one activation function of transformers, as a module, in block "
            f"{layer} ({type(block).__name__}) for 'preactivation' to be recorded. Found {names}. "
            "Leave 'preactivation' out of 'record.quantities'."
        )
    return next(iter(found.values()))


def _same(model: nn.Module, what: str, by_layer: dict[int, float]) -> float:
    values = sorted(set(by_layer.values()))
    if len(values) > 1:
        _refuse(
            model, f"as many {what} in every layer that has any", f"{values[0]} to {values[-1]}"
        )
    return values[0] if values else 0


def _refuse(model: nn.Module, expected: str, found: str) -> None:
    raise SubjectError(
        f"A subject of architecture '{model.config.model_type}' ({type(model).__name__}) must have "
        f"{expected}. Found {found}. If transformers has renamed its modules, correct the row in "
        "lmri.anatomy.architectures, see docs/architectures.md."
    )


def _inputs(projection: nn.Module) -> int:
    # GPT-2 keeps its matrices transposed (Conv1D).
    transposed = type(projection).__name__ == "Conv1D"
    return projection.weight.shape[0 if transposed else 1]


def _expert_size(group: nn.Module) -> int:
    # Llama 4 multiplies from the other side and is not decorated.
    transposed = getattr(group, "is_transposed", True)
    return group.down_proj.shape[1 if transposed else 2]


def _by_layer(model: nn.Module, path: str | None) -> dict[int, nn.Module]:
    found = {layer: _get(block, path) for layer, block in enumerate(blocks(model))}
    return {layer: module for layer, module in found.items() if module is not None}


def _get(module: nn.Module, path: str | None) -> nn.Module | None:
    try:
        return None if path is None else module.get_submodule(path)
    except AttributeError:
        return None
