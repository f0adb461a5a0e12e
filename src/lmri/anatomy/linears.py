"""Linear projections of every block by name, and how those of an MLP make its neurons.

transformers has several projections in one matrix in many families. Each is found here by the
structure of its block, and checked against the shapes that follow from the others; a block of
another structure is refused.

===================  ============================================================================
where                how queries, keys, values are made
===================  ============================================================================
three matrices       ``q_proj k_proj v_proj``, or ``query key value`` (BERT)
``c_attn``           queries, keys, values one after another, transposed (GPT-2)
``qkv_proj``         queries, keys, values one after another, fewer of the latter (Phi-3)
``query_key_value``  of each head: its query, key, value (GPT-NeoX)
``kv_b_proj``        latent attention (DeepSeek), see below
===================  ============================================================================

Latent attention has ``query`` and ``attention_output`` only. ``query`` is the matrix that makes the
queries: ``q_proj``, or the second of two (``q_b_proj``), whose input is a normalised latent. Keys
and values of all positions are made again from cached latents at every token, by one matrix, so no
product with the state of one token makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lmri.anatomy.sites import (
    ACTIVATIONS,
    Anatomy,
    after_attention,
    attention_outputs,
    attentions,
    blocks,
    dense_outputs,
    describe,
    expert_groups,
    shared_outputs,
)
from lmri.errors import SubjectError

SEPARATE = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"))
ATTENTION_PARTS = ("query", "key", "value")


@dataclass(frozen=True, eq=False)
class Projection:
    """One linear projection: where its weights are.

    Attributes
    ----------
    name : str
        ``query key value attention_output gate up down``; with ``expert_`` or ``shared_`` before
        the last three in layers with experts.
    layer : int
        Its layer.
    module : torch.nn.Module
        The module that holds the matrix.
    attribute : str
        Its name there.
    rows : slice or Tensor of shape (outputs,), int64
        Outputs of the matrix that are outputs of this projection.
    transposed : bool
        Whether the matrix is (inputs, outputs).
    """

    name: str
    layer: int
    module: nn.Module = field(repr=False)
    attribute: str = "weight"
    rows: slice | Tensor = field(default_factory=lambda: slice(None))
    transposed: bool = False

    @property
    def matrix(self) -> Tensor:
        """What the module holds: one matrix, or one for each expert, maybe of other outputs too."""
        return getattr(self.module, self.attribute)

    @property
    def weight(self) -> Tensor:
        """Weights of shape (outputs, inputs); of experts (experts, outputs, inputs).

        A view of the model's own wherever the rows are a slice.
        """
        matrix = self.matrix.detach()
        return (matrix.mT if self.transposed else matrix)[..., self.rows, :]

    @property
    def bias(self) -> Tensor | None:
        """Bias of shape (outputs,), of experts (experts, outputs); None without."""
        name = "bias" if self.attribute == "weight" else f"{self.attribute}_bias"
        bias = getattr(self.module, name, None)
        return None if bias is None else bias.detach()[..., self.rows]

    @property
    def inputs(self) -> int:
        """Channels it reads."""
        return self.matrix.shape[-2 if self.transposed else -1]

    @property
    def outputs(self) -> int:
        """Channels it makes."""
        of_all = self.matrix.shape[-1 if self.transposed else -2]
        if isinstance(self.rows, slice):
            return len(range(*self.rows.indices(of_all)))
        return len(self.rows)

    @property
    def whole(self) -> bool:
        """Whether the matrix has no other outputs."""
        return self.outputs == self.matrix.shape[-1 if self.transposed else -2]

    @property
    def experts(self) -> int:
        """Experts that have such a projection each; 0 outside the experts."""
        return self.matrix.shape[0] if self.matrix.dim() == 3 else 0

    @property
    def parameters(self) -> int:
        """Weights that one token is multiplied with: of one expert, where there are several."""
        return self.inputs * self.outputs


@dataclass(frozen=True, eq=False)
class Mlp:
    """A place with neurons: ``down(combine(act(gate(x)), up(x)))``, or ``down(act(up(x)))``.

    Attributes
    ----------
    group : str
        ``dense``, ``expert`` or ``shared``.
    layer : int
        Its layer.
    module : torch.nn.Module
        What is called with the input: a module whose output is that of ``down``, a group of
        experts, or, with ``split``, one whose output are the neurons.
    gate : Projection or None
        None where the neurons are what ``up`` makes, after the activation function.
    up, down : Projection
        The others.
    activation : callable
        From the preactivations of the gate to ``a``, of any shape.
    combine : callable
        From ``a`` and what ``up`` makes to the neurons.
    split : bool
        Whether another module than that of the neurons reads them (BERT).
    """

    group: str
    layer: int
    module: nn.Module = field(repr=False)
    gate: Projection | None
    up: Projection
    down: Projection
    activation: Callable[[Tensor], Tensor] = field(repr=False)
    combine: Callable[[Tensor, Tensor], Tensor] = field(default=torch.mul, repr=False)
    split: bool = False

    @property
    def product(self) -> bool:
        """Whether ``combine`` is the product of both."""
        return self.combine is torch.mul

    @property
    def neurons(self) -> int:
        """Neurons, of one expert where there are several."""
        return self.down.inputs

    @property
    def projections(self) -> tuple[Projection, ...]:
        """Those it has, in the order in which they are run."""
        return tuple(part for part in (self.gate, self.up, self.down) if part is not None)


def linears(model: nn.Module) -> dict[int, dict[str, Projection]]:
    """Find the linear projections of every block.

    Routers, gates of shared experts, and first stages of latent attention are left out.

    Parameters
    ----------
    model : torch.nn.Module
        Language model of an architecture in the table.

    Returns
    -------
    dict of int to dict of str to Projection
        By layer and name.

    Raises
    ------
    SubjectError
        If a block is built in another way.
    """
    anatomy, outputs = describe(model), attention_outputs(model)
    found = {
        layer: _attention(anatomy, layer, module, outputs[layer])
        for layer, module in attentions(model).items()
    }
    for layer, groups in mlps(model).items():
        for mlp in groups.values():
            found[layer] |= {part.name: part for part in mlp.projections}
    return found


def mlps(model: nn.Module) -> dict[int, dict[str, Mlp]]:
    """Find what has neurons in every block.

    Parameters
    ----------
    model : torch.nn.Module
        Language model of an architecture in the table.

    Returns
    -------
    dict of int to dict of str to Mlp
        By layer and group: ``dense``; or ``expert``, with or without ``shared``.

    Raises
    ------
    SubjectError
        If a block is built in another way.
    """
    found: dict[int, dict[str, Mlp]] = {layer: {} for layer in range(len(blocks(model)))}
    for group, outputs in (("dense", dense_outputs), ("shared", shared_outputs)):
        for layer, down in outputs(model).items():
            found[layer][group] = _plain(model, layer, group, down)
    for layer, experts in expert_groups(model).items():
        found[layer]["expert"] = _experts(layer, experts)
    return found


def _attention(
    anatomy: Anatomy, layer: int, module: nn.Module, output: nn.Module
) -> dict[str, Projection]:
    out = _of("attention_output", layer, output)
    found = {part.name: part for part in _read_by_attention(module, layer, anatomy.heads)}
    if not found:
        raise SubjectError(
            f"The projections of '{type(module).__name__}' (layer {layer}) must be among those "
            "that lmri.anatomy.linears knows. Found none: add them there."
        )
    sizes = {name: part.outputs for name, part in found.items()}
    odd = [name for name, size in sizes.items() if size % anatomy.heads and name == "query"]
    if sizes.get("key") != sizes.get("value") or odd or out.outputs != anatomy.hidden:
        _refuse(module, layer, {**sizes, "attention_output": out.outputs})
    return found | {out.name: out}


def _read_by_attention(module: nn.Module, layer: int, heads: int) -> list[Projection]:
    def parts(fused: nn.Module, *rows: slice | Tensor) -> list[Projection]:
        made = zip(ATTENTION_PARTS, rows, strict=True)
        return [_of(name, layer, fused, own) for name, own in made]

    if hasattr(module, "kv_b_proj"):
        query = getattr(module, "q_b_proj", None) or module.q_proj
        return [_of("query", layer, query)]
    for names in SEPARATE:
        if all(hasattr(module, name) for name in names):
            made = zip(ATTENTION_PARTS, names, strict=True)
            return [_of(part, layer, getattr(module, name)) for part, name in made]
    if hasattr(module, "c_attn"):
        size = _of("query", layer, module.c_attn).outputs // 3
        return parts(module.c_attn, *_cuts(size, size, size))
    if hasattr(module, "qkv_proj"):
        total = _of("query", layer, module.qkv_proj).outputs
        keys = module.num_key_value_heads * module.head_dim
        return parts(module.qkv_proj, *_cuts(total - 2 * keys, keys, keys))
    if hasattr(module, "query_key_value"):
        rows = torch.arange(_of("query", layer, module.query_key_value).outputs)
        by_head = rows.view(heads, 3, -1)  # (heads, part, head_size)
        return parts(module.query_key_value, *(by_head[:, i].reshape(-1) for i in range(3)))
    return []


def _plain(model: nn.Module, layer: int, group: str, down: nn.Module) -> Mlp:
    """A dense MLP, or the shared experts: the module that holds ``down`` holds the rest too."""
    prefix = "" if group == "dense" else f"{group}_"
    last = _of(f"{prefix}down", layer, down)
    module = next(m for m in blocks(model)[layer].modules() if down in m.children())
    split = not any(_is_linear(m) for m in module.children() if m is not down)
    if split:  # BERT: what reads the residual before the MLP makes the neurons
        module = after_attention(model)[layer]
    others = {n: m for n, m in module.named_children() if _is_linear(m) and m is not down}
    gate, up = _gate_and_up(others, layer, prefix, last.inputs)
    functions = [m for m in module.children() if isinstance(m, ACTIVATIONS)]
    if up is None or len(functions) != 1:
        sizes = {name: _of(name, layer, m).outputs for name, m in others.items()}
        _refuse(module, layer, {**sizes, "neurons": last.inputs, "activations": len(functions)})
    return Mlp(group, layer, module, gate, up, last, functions[0], split=split)


def _gate_and_up(
    others: dict[str, nn.Module], layer: int, prefix: str, neurons: int
) -> tuple[Projection | None, Projection | None]:
    names = f"{prefix}gate", f"{prefix}up"
    if set(others) == {"gate_up_proj"}:
        halves = _cuts(neurons, neurons)
        made = zip(names, halves, strict=True)
        gate, up = (_of(name, layer, others["gate_up_proj"], rows) for name, rows in made)
        total = _of(names[1], layer, others["gate_up_proj"]).outputs
        return (gate, up) if total == 2 * neurons else (None, None)
    if set(others) == {"gate_proj", "up_proj"}:
        gate = _of(names[0], layer, others["gate_proj"])
        up = _of(names[1], layer, others["up_proj"])
        return (gate, up) if gate.outputs == up.outputs == neurons else (None, None)
    if len(others) == 1:
        up = _of(names[1], layer, next(iter(others.values())))
        return None, up if up.outputs == neurons else None
    return None, None


def _experts(layer: int, module: nn.Module) -> Mlp:
    """Fused experts: two tensors for all of them."""
    # Llama 4 multiplies from the other side and is not decorated.
    transposed = getattr(module, "is_transposed", True)
    down = Projection("expert_down", layer, module, "down_proj", transposed=transposed)
    size = down.inputs
    concatenated = getattr(module, "is_concatenated", True)
    rows = _cuts(size, size) if concatenated else (slice(0, None, 2), slice(1, None, 2))
    gate, up = (
        Projection(name, layer, module, "gate_up_proj", part, transposed)
        for name, part in zip(("expert_gate", "expert_up"), rows, strict=True)
    )
    both = gate.matrix.shape[-1 if transposed else -2]
    if both != 2 * size or gate.inputs != down.outputs:
        _refuse(module, layer, {"gate_up_proj": both, "neurons": size, "inputs": gate.inputs})
    activation, combine = _gating(module)
    mlp = Mlp("expert", layer, module, gate, up, down, activation, combine)
    _check_gating(mlp, layer)
    return mlp


def _gating(module: nn.Module) -> tuple[Callable, Callable]:
    if hasattr(module, "act_fn"):
        return module.act_fn, torch.mul
    if hasattr(module, "alpha") and hasattr(module, "limit"):  # GPT-OSS
        alpha, limit = module.alpha, module.limit

        def activation(gate: Tensor) -> Tensor:
            gate = gate.clamp(max=limit)
            return gate * torch.sigmoid(gate * alpha)

        def combine(a: Tensor, up: Tensor) -> Tensor:
            return (up.clamp(min=-limit, max=limit) + 1) * a

        return activation, combine
    raise SubjectError(
        f"The gate of '{type(module).__name__}' must be one that lmri.anatomy.linears knows. "
        "Add it there."
    )


def _check_gating(mlp: Mlp, layer: int) -> None:
    """Compare what was found with the module's own gating, where it has one by name."""
    own = getattr(mlp.module, "_apply_gate", None)
    if own is None or mlp.gate.matrix.is_meta:
        return
    both = torch.linspace(-9.0, 9.0, 4 * mlp.neurons, device=mlp.gate.matrix.device)
    both = both.view(2, -1).to(mlp.gate.matrix.dtype)
    gate, up = both[:, mlp.gate.rows], both[:, mlp.up.rows]
    if not torch.equal(mlp.combine(mlp.activation(gate), up), own(both)):
        raise SubjectError(
            f"The neurons of '{type(mlp.module).__name__}' (layer {layer}) must be made as "
            "lmri.anatomy.linears says. They are not: correct it there."
        )


def _of(name: str, layer: int, module: nn.Module, rows: slice | Tensor = slice(None)) -> Projection:
    # GPT-2 keeps its matrices transposed (Conv1D).
    transposed = type(module).__name__ == "Conv1D"
    return Projection(name, layer, module, "weight", rows, transposed)


def _cuts(*sizes: int) -> tuple[slice, ...]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(slice(end - size, end) for end, size in zip(ends, sizes, strict=True))


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _refuse(module: nn.Module, layer: int, sizes: dict[str, int]) -> None:
    found = ", ".join(f"{name} {size}" for name, size in sizes.items())
    raise SubjectError(
        f"The projections of '{type(module).__name__}' (layer {layer}) must fit each other. Found "
        f"{found}: correct lmri.anatomy.linears."
    )
