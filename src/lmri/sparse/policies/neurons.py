"""Policies that skip neurons of an MLP by its gate: CATS, CHESS, cutoffs of the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lmri.errors import SparseError
from lmri.sparse.calibration import Activity, Look, Score
from lmri.sparse.calibration.looks import Site
from lmri.sparse.policies.channels import TealOptions, teal
from lmri.sparse.policies.draft import Draft, Runs, Sparsity, groups_of, per_channel, rows_of
from lmri.sparse.rules import AttentionTopK, GateCutoff, NeuronThreshold

ATTENDED = ("query", "attention_output")
"""What CHESS's selective attention skips; keys and values stay dense, for the cache."""


def cats(activity: Activity, options: Sparsity, runs: Runs) -> Draft:
    """Skip neurons with ``|act(gate)_i| <= t``, t the quantile of a layer.

    The released code counts in 1,000 bins from -1 to 1 and puts all that is larger into the last;
    here the quantile is exact. The gate is computed densely: of the weights of a gated MLP at most
    two thirds are skipped.

    Parameters
    ----------
    activity : Activity
        Of the calibration.
    options : Sparsity
        What is asked for.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        One `NeuronThreshold` for each group of neurons.

    References
    ----------
    Lee et al. 2024, CATS: contextually-aware thresholding for sparsity, arXiv:2404.08763.
    """
    scores = {
        site: Score(site, lambda look: look.activation.float().abs()) for site in _groups(activity)
    }
    found = activity.order_statistics(scores, dict.fromkeys(scores, options.sparsity))
    draft = Draft()
    for (layer, group), threshold in found.items():
        draft.add(NeuronThreshold(layer, group, threshold), options.sparsity)
    return draft


@dataclass(frozen=True)
class ChessOptions(Sparsity):
    """Options of :func:`chess`.

    Attributes
    ----------
    attention : bool
        Whether inputs of ``query`` and ``attention_output`` are thresholded too.
    """

    attention: bool = True


def chess(activity: Activity, options: ChessOptions, runs: Runs) -> Draft:
    """Skip neurons with ``|a_i| <= t_i``, ``t_i = sqrt(T / E[u_i ** 2])``.

    T is the quantile of ``a_i ** 2 E[u_i ** 2]`` over all tokens and neurons of a layer, so that a
    small gate of a neuron whose other factor is large is kept. The released code takes the mean of
    the quantiles of 16 parts; here it is that of all.

    Parameters
    ----------
    activity : Activity
        Of the calibration.
    options : ChessOptions
        What is asked for.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        One `NeuronThreshold` for each group of neurons, and those of attention.

    References
    ----------
    He et al. 2024, CHESS: optimizing LLM inference via channel-wise thresholding and selective
    sparsification, arXiv:2409.01366.
    """
    groups = _groups(activity)
    ups = {site: Score(site, lambda look: look.up) for site in groups}
    roots = {site: own.sqrt() for site, own in activity.mean_squares(ups).items()}
    # The root of the product has the same order, and no squares that leave the range of a float.
    scores = {site: Score(site, _weighted(root)) for site, root in roots.items()}
    found = activity.order_statistics(scores, dict.fromkeys(scores, options.sparsity))
    draft = Draft()
    for site, threshold in found.items():
        channels = per_channel(threshold, roots[site])
        draft.add(NeuronThreshold(*site, channels), options.sparsity)
    if options.attention:
        of_attention = teal(activity, TealOptions(options.sparsity, projections=ATTENDED), runs)
        draft.rules += of_attention.rules
        draft.asked += of_attention.asked
    return draft


@dataclass(frozen=True)
class StatisticalOptions(Sparsity):
    """Options of :func:`statistical_top_k`.

    Attributes
    ----------
    keys : int or None
        Keys that a query attends to, were their scores normal; None leaves attention as it is.
    """

    keys: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keys is not None and self.keys < 1:
            raise SparseError(
                f"The 'keys' of the policy 'statistical_top_k' must be at least 1. Got {self.keys}."
            )


def statistical_top_k(activity: Activity, options: StatisticalOptions, runs: Runs) -> Draft:
    """Cut the gate at ``mean + std Q(sparsity)`` of each token, Q the normal quantile.

    What is kept has the cut subtracted. The count is right for a normal gate only; what is achieved
    is counted. A sparsity of 0 has no cut (Q is minus infinity) and gives no rule.

    Parameters
    ----------
    activity : Activity
        Of the calibration; the rules need none of it.
    options : StatisticalOptions
        What is asked for.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        One `GateCutoff` for each group of neurons, one `AttentionTopK` for each layer.

    References
    ----------
    You et al. 2025, Spark Transformer: reactivating sparsity in FFN and attention,
    arXiv:2506.06644; gemma3n of transformers.
    """
    draft = Draft()
    if options.sparsity:
        share = torch.tensor(options.sparsity, dtype=torch.float64)
        quantile = float(torch.special.ndtri(share))
        for layer, group in _groups(activity):
            draft.add(GateCutoff(layer, group, "statistical", quantile), options.sparsity)
    if options.keys is not None:
        for layer in activity.linears:
            draft.add(AttentionTopK(layer, options.keys))
    return draft


@dataclass(frozen=True)
class NoOptions:
    """A policy without options."""


def relu(activity: Activity, options: NoOptions, runs: Runs) -> Draft:
    """Replace the activation function of the gate by ``max(g, 0)``.

    Parameters
    ----------
    activity : Activity
        Of the calibration; the rules need none of it.
    options : NoOptions
        None.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        One `GateCutoff` for each group of neurons.
    """
    draft = Draft()
    for layer, group in _groups(activity):
        draft.add(GateCutoff(layer, group, "relu"))
    return draft


def fatrelu(activity: Activity, options: Sparsity, runs: Runs) -> Draft:
    """Replace the activation function of the gate by ``g`` where ``g >= shift``, and 0 elsewhere.

    The shift is the least gate that is kept if the share asked for is skipped. Where the plain
    rectifier skips as much already, the rule is that: a shift is above 0.

    Parameters
    ----------
    activity : Activity
        Of the calibration.
    options : Sparsity
        What is asked for.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        One `GateCutoff` for each group of neurons.

    References
    ----------
    Song et al. 2024, ProSparse, arXiv:2402.13516, eq. 3.
    """
    scores = {
        site: Score(site, lambda look: look.gate.float().relu()) for site in _groups(activity)
    }
    found = activity.least_kept(scores, dict.fromkeys(scores, options.sparsity))
    draft = Draft()
    for (layer, group), shift in found.items():
        value = float(shift)
        rule = (
            GateCutoff(layer, group, "shifted_relu", value)
            if value > 0
            else GateCutoff(layer, group, "relu")
        )
        draft.add(rule, options.sparsity)
    return draft


def _groups(activity: Activity) -> list[Site]:
    return list(groups_of(activity))


def _weighted(root: Tensor) -> Callable[[Look], Tensor]:
    def of(look: Look) -> Tensor:
        own = rows_of(root.to(look.input.device), look.experts)
        return (look.activation.double().abs() * own).float()

    return of
