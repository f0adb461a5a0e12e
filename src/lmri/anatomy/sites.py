"""What a subject is made of: counts, and the modules where its units live.

One row per architecture; the row is checked against the model when it is loaded, so that a new
version of the library with other names fails loudly instead of recording nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lmri.errors import SubjectError


@dataclass(frozen=True)
class Paths:
    """Where the modules of one architecture are, below the causal language model.

    Attributes
    ----------
    blocks : str
        List of transformer blocks.
    router, experts : str
        Below a block with experts.
    attention : str
        Attention below a block; the second value it returns are the attention weights.
    attention_output : str
        Output projection of attention below a block; its input is the heads' outputs.
    after_attention : str
        Normalisation below a block whose input is the residual between attention and MLP.
    """

    blocks: str
    router: str
    experts: str
    attention: str
    attention_output: str
    after_attention: str


PATHS = {
    "olmoe": Paths(
        blocks="model.layers",
        router="mlp.gate",
        experts="mlp.experts",
        attention="self_attn",
        attention_output="self_attn.o_proj",
        after_attention="post_attention_layernorm",
    ),
}
"""Module paths by ``model_type`` of the configuration."""


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
        Attention heads per layer, and their width.
    moe_layers : tuple of int
        Layers with experts; the layer ids of every routing quantity.
    experts, top_k, expert_size : int
        Experts per layer, experts per token, neurons per expert.
    normalised : bool
        Whether the router divides the chosen weights by their sum.
    """

    architecture: str
    layers: int
    hidden: int
    heads: int
    head_size: int
    moe_layers: tuple[int, ...]
    experts: int
    top_k: int
    expert_size: int
    normalised: bool


def describe(model: nn.Module) -> Anatomy:
    """Read a model's anatomy from its configuration and check it against its modules.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model of transformers.

    Returns
    -------
    Anatomy
        Its anatomy.

    Raises
    ------
    SubjectError
        If the architecture is unknown, or a module is not where the table says.
    """
    config = model.config
    kind = config.model_type
    if kind not in PATHS:
        raise SubjectError(
            f"The architecture of the subject must be one of {', '.join(sorted(PATHS))}. "
            f"Got '{kind}' ({type(model).__name__}). Add a row to lmri.anatomy.sites.PATHS."
        )
    layers = blocks(model)
    anatomy = Anatomy(
        architecture=kind,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        head_size=config.hidden_size // config.num_attention_heads,
        moe_layers=tuple(i for i, block in enumerate(layers) if _has(block, PATHS[kind].router)),
        experts=config.num_experts,
        top_k=config.num_experts_per_tok,
        expert_size=config.intermediate_size,
        normalised=config.norm_topk_prob,
    )
    _check_counts(model, anatomy)
    return anatomy


def blocks(model: nn.Module) -> list[nn.Module]:
    """Transformer blocks in order."""
    return list(_get(model, _paths(model).blocks))


def routers(model: nn.Module) -> dict[int, nn.Module]:
    """Routers by layer."""
    return _by_layer(model, _paths(model).router)


def expert_groups(model: nn.Module) -> dict[int, nn.Module]:
    """Fused experts modules by layer."""
    return _by_layer(model, _paths(model).experts)


def attentions(model: nn.Module) -> dict[int, nn.Module]:
    """Attention modules by layer."""
    return _by_layer(model, _paths(model).attention)


def attention_outputs(model: nn.Module) -> dict[int, nn.Module]:
    """Output projections of attention by layer."""
    return _by_layer(model, _paths(model).attention_output)


def after_attention(model: nn.Module) -> dict[int, nn.Module]:
    """Normalisations that read the residual between attention and MLP, by layer."""
    return _by_layer(model, _paths(model).after_attention)


def _check_counts(model: nn.Module, anatomy: Anatomy) -> None:
    sites = (routers(model), expert_groups(model))
    if not anatomy.moe_layers or any(tuple(site) != anatomy.moe_layers for site in sites):
        found = [len(site) for site in sites]
        raise SubjectError(
            f"A subject of architecture '{anatomy.architecture}' must have a router and experts "
            f"in the same layers. Found {found[0]} routers and {found[1]} groups of experts."
        )
    for name, site in (
        ("attentions", attentions(model)),
        ("attention outputs", attention_outputs(model)),
        ("normalisations after attention", after_attention(model)),
    ):
        if len(site) != anatomy.layers:
            raise SubjectError(
                f"A subject of architecture '{anatomy.architecture}' must have "
                f"{anatomy.layers} {name}. Found {len(site)}."
            )
    for layer, group in expert_groups(model).items():
        if group.num_experts != anatomy.experts:
            raise SubjectError(
                f"Layer {layer} must have {anatomy.experts} experts. Found {group.num_experts}."
            )


def _paths(model: nn.Module) -> Paths:
    return PATHS[model.config.model_type]


def _by_layer(model: nn.Module, path: str) -> dict[int, nn.Module]:
    return {i: _get(b, path) for i, b in enumerate(blocks(model)) if _has(b, path)}


def _get(module: nn.Module, path: str) -> nn.Module:
    return module.get_submodule(path)


def _has(module: nn.Module, path: str) -> bool:
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True
