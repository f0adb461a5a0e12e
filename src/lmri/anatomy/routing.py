"""Rules that turn router logits into chosen experts and their weights, one per family.

transformers computes them inside each router. They are written out here because an intervention
on routing has to choose again under changed logits. With logits ``z`` and bias ``b``:

===================  ==========================================  ==============================
rule                 selection score                             weight of a chosen expert
===================  ==========================================  ==============================
``softmax_top_k``    p = softmax(z)                              p, by their sum if so configured
``top_k_softmax``    z                                           softmax over the chosen z
``grouped_softmax``  p inside the best groups, else 0            p × scaling
``grouped_sigmoid``  σ(z) + b inside the best groups, else −∞    σ(z), by their sum, × scaling
``biased_softmax``   p + b                                       p, by their sum
``sigmoid_input``    z                                           σ(z), multiplies the input
===================  ==========================================  ==============================
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Scores = tuple[torch.Tensor, torch.Tensor]
"""Gates and selection scores, each (n_tokens, experts)."""


def route(
    router: nn.Module,
    rule: str,
    logits: torch.Tensor,
    off: torch.Tensor | None = None,
    on: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose experts as a router does, optionally without some and with others.

    Parameters
    ----------
    router : torch.nn.Module
        The router; its counts, bias and scaling are used, not its weight.
    rule : str
        Key of :data:`RULES`.
    logits : Tensor of shape (n_tokens, experts)
        Router logits.
    off : Tensor of shape (n_tokens, experts), bool, optional
        Experts that must not be chosen: their logit becomes −∞ and, where other things than the
        logit count, their selection score too.
    on : Tensor of shape (n_tokens, experts), bool, optional
        Experts that are chosen first: their logit is set slightly above the largest and, where
        other things than the logit count, their selection score too.

    Returns
    -------
    weights : Tensor of shape (n_tokens, top_k)
        Weights of the chosen experts, float32 where the rule computes them so.
    indices : Tensor of shape (n_tokens, top_k), int64
        The chosen experts, largest selection score first. Where too few groups were left to fill
        all slots, an empty slot has the number of experts as index and weight 0.
    """
    if off is not None:
        logits = logits.masked_fill(off, float("-inf"))
    if on is not None:
        # Slightly above the maximum: equal logits would leave the choice to the order of experts.
        top = logits.max(dim=-1, keepdim=True).values + 0.01
        logits = torch.where(on, top, logits)
    gates, choice = RULES[rule](router, logits)
    if choice is not gates and choice is not logits:
        choice = _enforce(choice, off, on)
    scores, indices = torch.topk(choice, router.top_k, dim=-1)
    weights = _weights(router, rule, gates, indices)
    empty = scores == float("-inf")
    if empty.any():
        weights = weights.masked_fill(empty, 0.0)
        indices = indices.masked_fill(empty, logits.shape[-1])
    return weights, indices


def selection_scores(router: nn.Module, rule: str, logits: torch.Tensor) -> torch.Tensor | None:
    """Scores by which a router ranks its experts, where they are not its logits or gates.

    Parameters
    ----------
    router : torch.nn.Module
        The router.
    rule : str
        Key of :data:`RULES`.
    logits : Tensor of shape (n_tokens, experts)
        Router logits.

    Returns
    -------
    Tensor of shape (n_tokens, experts), float32, or None
        With bias and groups applied (−∞ or 0 outside the chosen groups); None where the order of
        the logits is the order of choice.
    """
    gates, choice = RULES[rule](router, logits)
    return None if choice is gates or choice is logits else choice.float()


def output_of_router(
    rule: str, output: tuple[torch.Tensor, ...], top_k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Read what a router module returned.

    Parameters
    ----------
    rule : str
        Key of :data:`RULES`.
    output : tuple of Tensor
        Logits, weights, ids; or, with ``sigmoid_input``, dense weights and logits.
    top_k : int
        Experts per token.

    Returns
    -------
    logits : Tensor of shape (n_tokens, experts)
        Router logits.
    weights : Tensor of shape (n_tokens, top_k)
        Weights of the chosen experts.
    indices : Tensor of shape (n_tokens, top_k), int64
        The chosen experts.
    """
    if rule != "sigmoid_input":
        return output
    dense, logits = output
    indices = torch.topk(logits, top_k, dim=-1).indices
    return logits, dense.gather(1, indices), indices


def _softmax(router: nn.Module, logits: torch.Tensor) -> Scores:
    gates = torch.softmax(logits, dim=-1, dtype=torch.float32)
    return gates, gates


def _logits(router: nn.Module, logits: torch.Tensor) -> Scores:
    return logits, logits


def _sigmoid_input(router: nn.Module, logits: torch.Tensor) -> Scores:
    return torch.sigmoid(logits.float()), logits


def _biased_softmax(router: nn.Module, logits: torch.Tensor) -> Scores:
    gates = torch.softmax(logits, dim=-1, dtype=torch.float32)
    return gates, router.moe_statics(gates)


def _grouped_softmax(router: nn.Module, logits: torch.Tensor) -> Scores:
    gates = torch.softmax(logits, dim=-1, dtype=torch.float32)
    if router.topk_method != "group_limited_greedy":
        return gates, gates
    best = gates.unflatten(-1, (router.num_group, -1)).amax(-1)  # (n_tokens, groups)
    return gates, gates.masked_fill(~_in_best_groups(router, best), 0.0)


def _grouped_sigmoid(router: nn.Module, logits: torch.Tensor) -> Scores:
    gates = torch.sigmoid(logits.float())
    choice = gates + router.e_score_correction_bias
    best = choice.unflatten(-1, (router.num_group, -1)).topk(2, dim=-1).values.sum(-1)
    return gates, choice.masked_fill(~_in_best_groups(router, best), float("-inf"))


def _in_best_groups(router: nn.Module, scores: torch.Tensor) -> torch.Tensor:
    groups = torch.topk(scores, router.topk_group, dim=-1).indices
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, groups, True)
    return chosen.repeat_interleave(router.num_experts // router.num_group, dim=-1)


RULES: dict[str, Callable[[nn.Module, torch.Tensor], Scores]] = {
    "softmax_top_k": _softmax,
    "top_k_softmax": _logits,
    "grouped_softmax": _grouped_softmax,
    "grouped_sigmoid": _grouped_sigmoid,
    "biased_softmax": _biased_softmax,
    "sigmoid_input": _sigmoid_input,
}
"""Gates and selection scores from logits, by name of the rule."""


def _enforce(
    choice: torch.Tensor, off: torch.Tensor | None, on: torch.Tensor | None
) -> torch.Tensor:
    if off is not None:
        choice = choice.masked_fill(off, float("-inf"))
    if on is not None:
        top = choice.max(dim=-1, keepdim=True).values + 0.01
        choice = torch.where(on, top, choice)
    return choice


def _weights(
    router: nn.Module, rule: str, gates: torch.Tensor, indices: torch.Tensor
) -> torch.Tensor:
    weights = gates.gather(1, indices)
    if rule == "top_k_softmax":
        return torch.softmax(weights, dim=-1)
    if rule == "softmax_top_k" and getattr(router, "norm_topk_prob", True):
        # Mixtral has no such entry and always divides.
        return weights / weights.sum(dim=-1, keepdim=True)
    if rule == "grouped_softmax":
        return weights * router.routed_scaling_factor
    if rule == "grouped_sigmoid":
        if router.norm_topk_prob:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return weights * router.routed_scaling_factor
    if rule == "biased_softmax":
        return weights / weights.sum(dim=-1, keepdim=True).clamp(min=router.norm_min)
    return weights
