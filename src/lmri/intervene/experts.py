"""Running experts: only the chosen ones, with a tap on their neurons and a way to change them.

transformers runs all experts of a layer through one fused module and lets other packages register
how. The implementation here sorts the (token, slot) pairs by expert, runs one product per expert
that has any pair, and leaves out pairs whose index is past the last expert: those slots are empty.
Where none is, the output has the bits of transformers' own ``grouped_mm``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from lmri.anatomy import expert_groups, output_of_router, routers
from lmri.anatomy.linears import mlps

IMPLEMENTATION = "lmri"

Tap = Callable[[torch.Tensor, torch.Tensor], None]
"""Called with neurons (n_tokens, top_k, expert_size) and expert ids (n_tokens, top_k)."""


@dataclass(frozen=True)
class Pairs:
    """Which expert is run on which token.

    Attributes
    ----------
    tokens, experts : Tensor of shape (n_pairs,), int64
        Of every pair.
    n_tokens : int
        Tokens of the pass.
    """

    tokens: torch.Tensor
    experts: torch.Tensor
    n_tokens: int

    def part(self, rows: slice) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.tokens[rows], self.experts[rows], self.n_tokens)


Change = Callable[[torch.Tensor, Pairs], torch.Tensor]
"""From neurons (n_pairs, expert_size) and their pairs to the neurons that are used instead."""


def run_chosen(
    module: nn.Module,
    hidden: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Combine the outputs of the chosen experts: ``y = sum_s w_s (W_down a_s + b_down)``.

    ``a_s = act(W_gate x) * (W_up x)``, or what the family does instead, are the neurons of the
    expert in slot s.

    Parameters
    ----------
    module : torch.nn.Module
        Fused experts of transformers with ``gate_up_proj`` (experts, 2 size, hidden) and
        ``down_proj`` (experts, hidden, size), either transposed and with biases if it says so.
    hidden : Tensor of shape (n_tokens, hidden)
        Input of the experts.
    indices : Tensor of shape (n_tokens, top_k), int64
        Chosen experts; an index equal to the number of experts is an empty slot.
    weights : Tensor of shape (n_tokens, top_k)
        Their weights; 0 in an empty slot.

    Returns
    -------
    Tensor of shape (n_tokens, hidden)
        The routed output; 0 where every slot is empty.
    """
    n_tokens, top_k = indices.shape
    # The very call of transformers: where several threads share an activation function, its last
    # bits depend on which pairs of an expert come first.
    experts, chosen = torch.sort(indices.reshape(-1))  # (n_tokens * top_k,)
    counts = torch.bincount(experts, minlength=module.num_experts + 1).tolist()
    executed = len(chosen) - counts[-1]  # empty slots sort last and are left out
    experts, chosen = experts[:executed], chosen[:executed]
    pairs = Pairs(chosen // top_k, experts, n_tokens)
    factors = weights.reshape(-1, 1)[chosen]
    kind = torch.result_type(hidden, factors)
    in_bags = _in_bags(hidden, kind, top_k) and not counts[-1]
    make = torch.zeros if counts[-1] else torch.empty
    combined = make(n_tokens * top_k, hidden.shape[1], dtype=kind, device=hidden.device)
    tap: Tap | None = getattr(module, "lmri_tap", None)
    width = _matrices(module, "down_proj").shape[1]
    tapped = None if tap is None else hidden.new_zeros(n_tokens * top_k, width)
    for runs, rows in _pieces(module, hidden, counts[:-1]):
        own = pairs.part(rows)
        products = _per_expert(module, "gate_up_proj", hidden.index_select(0, own.tokens), runs)
        neurons = module._apply_gate(_changed(module, products, own, BEFORE))  # (pairs, size)
        neurons = _changed(module, neurons, own)
        if tapped is not None:
            tapped.index_copy_(0, chosen[rows], neurons)
        if in_bags:
            _per_expert(module, "down_proj", neurons, runs, combined[rows]).mul_(factors[rows])
        else:
            outputs = _per_expert(module, "down_proj", neurons, runs)  # (pairs, hidden)
            combined.index_copy_(0, chosen[rows], _product(outputs, factors[rows], kind))
    if tapped is not None:
        tap(tapped.view(n_tokens, top_k, -1), indices)
    if in_bags:
        return _sum_of_bags(combined, chosen, top_k)
    return combined.view(n_tokens, top_k, -1).sum(dim=1).to(hidden.dtype)


def _in_bags(hidden: torch.Tensor, kind: torch.dtype, top_k: int) -> bool:
    """Return whether outputs can stay in the order of experts until they are summed.

    That takes a sixth of the time of putting them into the order of slots first. ``embedding_bag``
    adds the rows of a bag one after another; so does torch's sum with up to sixteen of them, where
    they fill whole vectors, and the bits are the same. What a product writes where it is kept has
    no gradient.
    """
    floats = hidden.dtype == kind == torch.float32
    in_order = hidden.shape[1] % VECTORS == 0 and top_k <= MOST_IN_ORDER
    return floats and in_order and _alone(hidden) and not torch.is_grad_enabled()


def _sum_of_bags(rows: torch.Tensor, chosen: torch.Tensor, top_k: int) -> torch.Tensor:
    bags = torch.empty_like(chosen)
    bags[chosen] = torch.arange(len(chosen))
    return nn.functional.embedding_bag(bags.view(-1, top_k), rows, mode="sum")


def _product(outputs: torch.Tensor, factors: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    """Multiply, in place where the type allows: the cache has room for few copies."""
    return outputs.mul_(factors) if outputs.dtype == kind else outputs * factors


Run = tuple[int, int]
"""An expert and how many pairs it is run on."""

PIECE_BYTES = 2**18
"""Input of the experts that are taken together."""

VECTORS = 64
"""Numbers that whole vectors hold, of any type and processor."""

MOST_IN_ORDER = 16
"""Rows that torch sums one after another; of more it makes partial sums."""


def _runs(counts: list[int]) -> list[Run]:
    return [(expert, count) for expert, count in enumerate(counts) if count]


def _pieces(
    module: nn.Module, hidden: torch.Tensor, counts: list[int]
) -> Iterator[tuple[list[Run], slice]]:
    """Divide the pairs, in the order of experts, into those that are taken together.

    Where they may be divided these are few: what a product left is then still in the cache when it
    is read.
    """
    size = hidden.shape[1] * hidden.element_size()
    most = PIECE_BYTES // size if _divisible(module, hidden) else math.inf
    runs: list[Run] = []
    start = stop = 0
    for run in _runs(counts):
        if runs and stop + run[1] - start > most:
            yield runs, slice(start, stop)
            runs, start = [], stop
        runs.append(run)
        stop += run[1]
    yield runs, slice(start, stop)


def _divisible(module: nn.Module, hidden: torch.Tensor) -> bool:
    """Return whether no bit depends on which pairs are taken together, and it takes less time.

    torch computes an activation function vector by vector, and what is left over at the end, or
    where two threads meet, number by number: these may differ in the last bit. A change has to see
    all pairs at once. Other devices run few large operations faster.
    """
    changed = hasattr(module, AFTER) or hasattr(module, BEFORE)
    whole = _matrices(module, "down_proj").shape[1] % VECTORS == 0
    return _alone(hidden) and whole and not changed


def _alone(hidden: torch.Tensor) -> bool:
    return hidden.device.type == "cpu" and torch.get_num_threads() == 1


def _per_expert(
    module: nn.Module,
    name: str,
    inputs: torch.Tensor,
    runs: list[Run],
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    matrices = _matrices(module, name)
    bias = getattr(module, f"{name}_bias", None)  # (experts, out)
    counts = [count for _, count in runs]
    places = [None] * len(runs) if out is None else out.split(counts)
    outputs = []
    for (expert, _), rows, place in zip(runs, inputs.split(counts), places, strict=True):
        product = torch.mm(rows, matrices[expert], out=place)
        outputs.append(product if bias is None else product.add_(bias[expert]))
    if out is not None:
        return out
    if len(outputs) == 1:
        return outputs[0]
    return torch.cat(outputs) if outputs else inputs.new_empty(0, matrices.shape[2])


def _matrices(module: nn.Module, name: str) -> torch.Tensor:
    """Return those of all experts: (experts, in, out)."""
    matrices = getattr(module, name)
    # Llama 4 is transposed without saying so.
    return matrices if getattr(module, "is_transposed", True) else matrices.transpose(1, 2)


AFTER, BEFORE = "lmri_change", "lmri_change_before"
"""Where a module of experts keeps changes of its neurons, and of what makes them."""


def _changed(
    module: nn.Module, activity: torch.Tensor, pairs: Pairs, where: str = AFTER
) -> torch.Tensor:
    change: Change | None = getattr(module, where, None)
    return activity if change is None else change(activity, pairs)


def runs_grouped(model: nn.Module) -> bool:
    """Return whether :func:`run_chosen` gives the bits of what a model uses now, for less time.

    That is so on a processor for ``grouped_mm``, which is what transformers chooses by itself: it
    takes all experts through one product before the next.

    Parameters
    ----------
    model : torch.nn.Module
        Language model of transformers.

    Returns
    -------
    bool
        False if it has no experts.
    """
    groups = expert_groups(model).values()
    return bool(groups) and all(
        hasattr(group, "is_transposed")
        and group.config._experts_implementation == "grouped_mm"
        and group.down_proj.device.type == "cpu"
        for group in groups
    )


@contextmanager
def skipping_experts(model: nn.Module) -> Iterator[None]:
    """Use :func:`run_chosen` in a model, and restore what it used before.

    Parameters
    ----------
    model : torch.nn.Module
        Language model of transformers; one without experts, or whose experts are not run one by
        one (Llama 4), is left as it is.
    """
    if not any(hasattr(group, "is_transposed") for group in expert_groups(model).values()):
        yield
        return
    before = model.get_experts_implementation()
    ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, run_chosen)
    model.set_experts_implementation(IMPLEMENTATION)
    try:
        yield
    finally:
        model.set_experts_implementation(before)


@contextmanager
def tapped_experts(
    model: nn.Module, tap: Callable[[int, torch.Tensor, torch.Tensor], None]
) -> Iterator[None]:
    """Call ``tap(layer, neurons, expert ids)`` on every pass through experts.

    Parameters
    ----------
    model : torch.nn.Module
        Language model of transformers.
    tap : callable
        Gets the layer, neurons of shape (n_tokens, top_k, expert_size) in the order of the
        router's slots (0 in an empty slot), and expert ids of shape (n_tokens, top_k).
    """
    groups, choosers = expert_groups(model), routers(model)
    with ExitStack() as stack:
        stack.enter_context(skipping_experts(model))
        for layer, module in groups.items():
            module.lmri_tap = partial(tap, layer)
            stack.callback(delattr, module, "lmri_tap")
            if not hasattr(module, "is_transposed"):
                for hook in _dense_hooks(choosers[layer], module):
                    stack.callback(hook.remove)
        yield


@contextmanager
def changed_experts(
    model: nn.Module, layer: int, change: Change, *, before: bool = False
) -> Iterator[None]:
    """Change the neurons of experts before their down projection.

    Parameters
    ----------
    model : torch.nn.Module
        Language model of transformers, inside :func:`skipping_experts`.
    layer : int
        A layer with experts.
    change : callable
        Gets the neurons of all (token, expert) pairs that are run, and gives those to go on with.
        A tap sees the latter. A change within a change is made after it.
    before : bool
        Change what the activation function reads instead: the products of the gate.
    """
    module, where = expert_groups(model)[layer], BEFORE if before else AFTER
    if before:
        change = partial(_changed_gate, mlps(model)[layer]["expert"].gate.rows, change)
    first: Change | None = getattr(module, where, None)
    with ExitStack() as stack:
        if first is None:
            setattr(module, where, change)
            stack.callback(delattr, module, where)
        else:
            setattr(module, where, lambda own, pairs: change(first(own, pairs), pairs))
            stack.callback(setattr, module, where, first)
        if not hasattr(module, "is_transposed"):
            hook = module.register_forward_hook(_run_all_changed, prepend=True)
            stack.callback(hook.remove)
        yield


def _changed_gate(
    gate: slice, change: Change, products: torch.Tensor, pairs: Pairs
) -> torch.Tensor:
    """Change the products of the gate, (n_pairs, 2 size), and leave the others as they are."""
    changed = products.clone()
    changed[:, gate] = change(products[:, gate], pairs)
    return changed


def _run_all_changed(
    module: nn.Module, arguments: tuple[torch.Tensor], output: torch.Tensor
) -> torch.Tensor:
    """Run experts that all run on every token once more, with their neurons changed.

    A token that an expert was not chosen for comes in as zeros, and has no activity to change.
    """
    inputs = arguments[0].view(module.num_experts, -1, module.hidden_size)
    experts, tokens = inputs.any(dim=-1).nonzero(as_tuple=True)
    pairs = Pairs(tokens, experts, inputs.shape[1])
    products = torch.bmm(inputs, module.gate_up_proj)
    products[experts, tokens] = _changed(module, products[experts, tokens], pairs, BEFORE)
    gate, up = products.chunk(2, dim=-1)
    neurons = up * module.act_fn(gate)  # (experts, n_tokens, size)
    neurons[experts, tokens] = _changed(module, neurons[experts, tokens], pairs)
    return torch.bmm(neurons, module.down_proj).view(output.shape)


def _dense_hooks(router: nn.Module, module: nn.Module) -> list:
    """Tap experts that all run on every token: the chosen ones' neurons are computed again."""
    chosen: list[torch.Tensor] = []

    def keep_choice(router: nn.Module, arguments: tuple, output: tuple) -> None:
        chosen[:] = [output_of_router("sigmoid_input", output, router.top_k)[2]]

    def compute(module: nn.Module, arguments: tuple) -> None:
        indices = chosen.pop()  # (n_tokens, top_k)
        scaled = arguments[0].unflatten(0, (module.num_experts, -1))  # (experts, n_tokens, hidden)
        ids, order = indices.reshape(-1).sort(stable=True)
        tokens = order // indices.shape[1]
        inputs = scaled[ids, tokens]  # (pairs, hidden)
        counts = torch.bincount(ids, minlength=module.num_experts).tolist()
        pairs = Pairs(tokens, ids, len(indices))
        products = _per_expert(module, "gate_up_proj", inputs, _runs(counts))
        gate, up = _changed(module, products, pairs, BEFORE).chunk(2, dim=-1)
        neurons = _changed(module, up * module.act_fn(gate), pairs)
        slots = torch.empty_like(neurons).index_copy_(0, order, neurons)
        module.lmri_tap(slots.view(*indices.shape, -1), indices)

    return [router.register_forward_hook(keep_choice), module.register_forward_pre_hook(compute)]
