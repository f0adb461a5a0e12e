"""What a rule keeps, as pure functions from activations to masks: the meaning of every rule.

The reference path of the runtime, the counts of the calibration and the tests all call these. True
is kept. A value that is not a number is always kept, so that it shows. Comparisons are in float32
whatever the activations are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lmri.sparse.rules import (
    AttentionTopK,
    CacheHeads,
    ExpertRatio,
    GateCutoff,
    InputThreshold,
    InputTopK,
    NeuronThreshold,
)


def channels_read(
    rule: InputThreshold | InputTopK, x: Tensor, experts: Tensor | None = None
) -> Tensor:
    """Channels of a projection's input that are read.

    Parameters
    ----------
    rule : InputThreshold or InputTopK
        ``|x_i| > t_i``, or the k largest ``|x_i| s_i``.
    x : Tensor of shape (..., channels)
        Inputs.
    experts : Tensor of shape (...), int64, optional
        Expert of every row, for thresholds or scales that differ between experts.

    Returns
    -------
    Tensor of shape (..., channels), bool
        True where read.
    """
    if isinstance(rule, InputThreshold):
        return above(x, _of_expert(rule.threshold, x, experts))
    scores = x.float().abs()
    if rule.scale is not None:
        scores = scores * _of_expert(rule.scale, x, experts)
    return largest(scores, rule.kept)


def neurons_computed(
    rule: NeuronThreshold, activation: Tensor, experts: Tensor | None = None
) -> Tensor:
    """Neurons that are computed: ``|a_i| > t_i``.

    Parameters
    ----------
    rule : NeuronThreshold
        The rule.
    activation : Tensor of shape (..., neurons)
        The gate after its activation function; the neurons themselves where there is no gate.
    experts : Tensor of shape (...), int64, optional
        Expert of every row, for thresholds that differ between experts.

    Returns
    -------
    Tensor of shape (..., neurons), bool
        True where computed.
    """
    return above(activation, _of_expert(rule.threshold, activation, experts))


def cut_gate(rule: GateCutoff, gate: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute the gate's activation under a cutoff; neurons where it is 0 are not computed.

    Parameters
    ----------
    rule : GateCutoff
        The rule.
    gate : Tensor of shape (..., neurons)
        Preactivations ``g`` of the gate; of the first projection where there is no gate.
    function : callable
        Activation function of the subject; kept by ``statistical``, replaced by the others.

    Returns
    -------
    Tensor of shape (..., neurons)
        Activations, of the dtype of ``gate``: ``max(g, 0)``; ``g`` where ``g >= value`` (a value
        equal to the shift stays, Song et al. 2024, arXiv:2402.13516, eq. 3); or
        ``function(max(g - theta, 0))`` (You et al. 2025, arXiv:2506.06644), with 0 below the cut
        whatever the function makes of 0.
    """
    if rule.cutoff == "relu":
        return torch.relu(gate)
    if rule.cutoff == "shifted_relu":
        return gate.masked_fill(gate.float() < rule.value, 0)
    wide = gate.float()
    # Not "at most": a value that is not a number goes on.
    surplus = wide - statistical_cut(wide, rule.value)
    return function(torch.relu(surplus).to(gate.dtype)).masked_fill(surplus <= 0, 0)


def statistical_cut(values: Tensor, quantile: float | Tensor) -> Tensor:
    """Compute ``theta = mean + std * quantile`` of every row; std with the number of values.

    Parameters
    ----------
    values : Tensor of shape (..., n), float
        Rows.
    quantile : float or Tensor of shape (..., 1)
        Normal quantile of the share that is cut.

    Returns
    -------
    Tensor of shape (..., 1)
        The cut of every row.
    """
    mean = values.mean(dim=-1, keepdim=True)
    return mean + values.std(dim=-1, keepdim=True, unbiased=False) * quantile


def keys_attended(rule: AttentionTopK, scores: Tensor, visible: Tensor) -> Tensor:
    """Keys a query attends to: those it may see with a score of at least theta.

    Parameters
    ----------
    rule : AttentionTopK
        k, the number of keys that would pass were the scores normal.
    scores : Tensor of shape (..., queries, keys)
        Scores before the softmax, in float32.
    visible : Tensor that broadcasts to (..., queries, keys), bool
        Keys a query may see.

    Returns
    -------
    Tensor of shape (..., queries, keys), bool
        True where attended to. All that are visible where they are at most k; the largest always.
    """
    scores = scores.float()
    visible = visible.expand(scores.shape)
    count = visible.sum(dim=-1, keepdim=True)  # (..., queries, 1)
    kept = scores.masked_fill(~visible, 0)
    mean = kept.sum(dim=-1, keepdim=True) / count
    deviation = (kept - mean).masked_fill(~visible, 0)
    std = (deviation.square().sum(dim=-1, keepdim=True) / count).sqrt()
    share = (1 - rule.kept / count).clamp(min=0.0)
    # A share of 0 has the quantile minus infinity: those rows keep everything, by the next line.
    theta = mean + std * torch.special.ndtri(share)
    passes = ~(scores < theta) | (count <= rule.kept)
    best = scores.masked_fill(~visible, float("-inf")).amax(dim=-1, keepdim=True)
    return (passes | (scores == best)) & visible


def weights_left(rule: ExpertRatio, weights: Tensor) -> Tensor:
    """Weights of the chosen experts, 0 for those that are skipped.

    Parameters
    ----------
    rule : ExpertRatio
        An expert is skipped where its weight is below a share of the token's largest.
    weights : Tensor of shape (n_tokens, top_k)
        Weights of the chosen experts.

    Returns
    -------
    Tensor of shape (n_tokens, top_k)
        Weights; scaled to the sum of all before if the rule says so.
    """
    run = experts_run(rule, weights)
    left = weights.masked_fill(~run, 0)
    if rule.renormalise:
        left = left * (weights.sum(dim=-1, keepdim=True) / left.sum(dim=-1, keepdim=True))
    return left


def experts_run(rule: ExpertRatio, weights: Tensor) -> Tensor:
    """Chosen experts that are run: all but those with ``w_e < ratio * max(w)``.

    Parameters
    ----------
    rule : ExpertRatio
        The rule.
    weights : Tensor of shape (n_tokens, top_k)
        Weights of the chosen experts.

    Returns
    -------
    Tensor of shape (n_tokens, top_k), bool
        True where run; the largest always is.
    """
    wide = weights.float()
    return ~(wide < rule.ratio * wide.amax(dim=-1, keepdim=True))


def positions_kept(
    rule: CacheHeads, heads: int, queries: Tensor, keys: Tensor, starts: Tensor | None = None
) -> Tensor:
    """Positions of the cache that every head of keys and values still holds at a query.

    Parameters
    ----------
    rule : CacheHeads
        Its heads hold everything; the others the first ``sinks`` and the last ``window`` positions,
        the query's own among the latter.
    heads : int
        Heads of keys and values.
    queries, keys : Tensor of shape (n_queries,) and (n_keys,), int64
        Positions in the sequence.
    starts : Tensor of shape (batch,), int64, optional
        Position of the first token of every row that is padded on the left.

    Returns
    -------
    Tensor of shape (heads, n_queries, n_keys), bool
        True where held, whether or not the query may see it; with ``starts`` of shape
        (batch, heads, n_queries, n_keys).
    """
    recent = keys > queries[:, None] - rule.window  # (n_queries, n_keys)
    full = chosen(rule.heads, heads, keys.device)[:, None, None]
    if starts is None:
        return full | recent | (keys < rule.sinks)
    first = keys < (starts + rule.sinks)[:, None, None, None]
    return full | recent | first


def chosen(indices: Sequence[int], size: int, device: torch.device | None = None) -> Tensor:
    """Mask of a list: heads, neurons or experts.

    Parameters
    ----------
    indices : sequence of int
        Which are True.
    size : int
        How many there are.
    device : torch.device, optional
        Where the mask is made.

    Returns
    -------
    Tensor of shape (size,), bool
        The mask.
    """
    mask = torch.zeros(size, dtype=torch.bool, device=device)
    mask[torch.as_tensor(indices, dtype=torch.int64, device=device)] = True
    return mask


def above(values: Tensor, threshold: Tensor | float) -> Tensor:
    """Values with ``|v| > t``, strictly, and those that are not numbers.

    Parameters
    ----------
    values : Tensor of shape (..., n)
        Values.
    threshold : Tensor that broadcasts to them, float32, or float
        Thresholds.

    Returns
    -------
    Tensor of shape (..., n), bool
        True where above.
    """
    return ~(values.float().abs() <= threshold)


def largest(scores: Tensor, kept: int) -> Tensor:
    """Exactly the k largest of every row; of equal ones those of lower index.

    Parameters
    ----------
    scores : Tensor of shape (..., n)
        Scores.
    kept : int
        k; all where it is n or more.

    Returns
    -------
    Tensor of shape (..., n), bool
        True at k places of every row.
    """
    count = scores.shape[-1]
    if kept >= count:
        return torch.ones_like(scores, dtype=torch.bool)
    # What is not a number counts as the largest, so that it shows.
    scores = scores.nan_to_num(nan=float("inf"), posinf=float("inf"), neginf=float("-inf"))
    # Not topk, which takes any of equal scores; a stable sort takes ten times longer.
    least = scores.kthvalue(count - kept + 1, dim=-1, keepdim=True).values
    above, equal = scores > least, scores == least
    return above | (equal & (equal.cumsum(-1) <= kept - above.sum(-1, keepdim=True)))


def _of_expert(values: Tensor, x: Tensor, experts: Tensor | None) -> Tensor:
    """Row of each expert where values differ between experts."""
    values = values.to(x.device)
    return values if values.dim() < 2 else values[experts]
