"""Running experts: only the chosen ones, with a tap on their neurons.

transformers runs all experts of a layer through one fused module and lets other packages register
how. The implementation here sorts the (token, slot) pairs by expert, runs one product per expert
that has any pair, and leaves out pairs whose index is past the last expert: those slots are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from lmri.anatomy import expert_groups

IMPLEMENTATION = "lmri"

Tap = Callable[[torch.Tensor, torch.Tensor], None]
"""Called with neurons (n_tokens, top_k, expert_size) and expert ids (n_tokens, top_k)."""


def run_chosen(
    module: nn.Module,
    hidden: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Combine the outputs of the chosen experts: ``y = sum_s w_s W_down a_s``.

    ``a_s = act(W_gate x) * (W_up x)`` are the neurons of the expert in slot s.

    Parameters
    ----------
    module : torch.nn.Module
        Fused experts of transformers with ``gate_up_proj`` (experts, 2 size, hidden) and
        ``down_proj`` (experts, hidden, size).
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
    ids = indices.reshape(-1)  # (pairs,)
    # Stable, so that the order of pairs, and with it every bit, is the same on every run.
    order = torch.sort(ids, stable=True).indices
    counts = torch.bincount(ids, minlength=module.num_experts + 1).tolist()
    executed = sum(counts[: module.num_experts])
    chosen = order[:executed]  # empty slots sort last and are left out
    inputs = hidden[chosen // top_k]  # (executed, hidden)
    products = _per_expert(inputs, module.gate_up_proj, counts)  # (executed, 2 size)
    neurons = module._apply_gate(products)  # (executed, size)
    outputs = _per_expert(neurons, module.down_proj, counts)  # (executed, hidden)
    _tap(module, neurons, chosen, indices)
    slots = hidden.new_zeros(n_tokens * top_k, hidden.shape[-1])
    slots[chosen] = outputs * weights.reshape(-1)[chosen].unsqueeze(-1)
    return slots.view(n_tokens, top_k, -1).sum(dim=1).to(hidden.dtype)


def _per_expert(inputs: torch.Tensor, matrices: torch.Tensor, counts: list[int]) -> torch.Tensor:
    outputs = inputs.new_empty(len(inputs), matrices.shape[1])
    start = 0
    for expert, count in enumerate(counts[: len(matrices)]):
        if count:
            rows = slice(start, start + count)
            torch.mm(inputs[rows], matrices[expert].T, out=outputs[rows])
            start += count
    return outputs


def _tap(
    module: nn.Module, neurons: torch.Tensor, chosen: torch.Tensor, indices: torch.Tensor
) -> None:
    tap: Tap | None = getattr(module, "lmri_tap", None)
    if tap is None:
        return
    slots = neurons.new_zeros(indices.numel(), neurons.shape[-1])
    slots[chosen] = neurons
    tap(slots.view(*indices.shape, -1), indices)


@contextmanager
def skipping_experts(model: nn.Module) -> Iterator[None]:
    """Use :func:`run_chosen` in a model, and restore what it used before.

    Parameters
    ----------
    model : torch.nn.Module
        Causal language model of transformers.
    """
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
        Causal language model of transformers.
    tap : callable
        Gets the layer, neurons of shape (n_tokens, top_k, expert_size) in the order of the
        router's slots (0 in an empty slot), and expert ids of shape (n_tokens, top_k).
    """
    groups = expert_groups(model)
    with skipping_experts(model):
        for layer, module in groups.items():
            module.lmri_tap = lambda neurons, ids, layer=layer: tap(layer, neurons, ids)
        try:
            yield
        finally:
            for module in groups.values():
                del module.lmri_tap
