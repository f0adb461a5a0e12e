"""Thresholds on what neurons write: a shared tail error, and the largest that perplexity allows.

With ``n_i = h_i W_down[:, i]`` the output of neuron i of an MLP and ``D = {i : ||n_i|| <= eps}``,
``CETT = ||sum over D of n_i|| / ||sum over all of n_i||`` of a token; the mean over tokens is
brought to one value in every layer by a threshold of its own (Luo et al. 2024, Sparsing Law,
arXiv:2411.02335). Vectors that are dropped can cancel, so a larger ``eps`` may have a smaller tail:
the searches here go over grids, from the largest value that passes, and suppose no monotony.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from lmri.errors import SparseError
from lmri.sparse.calibration import Activity, Look, Score
from lmri.sparse.calibration.looks import Site
from lmri.sparse.calibration.selection import Selection
from lmri.sparse.plan import SparsePlan
from lmri.sparse.policies.draft import (
    Draft,
    Runs,
    column_norms,
    groups_of,
    per_channel,
    rows_of,
)
from lmri.sparse.rules import InputThreshold

GRID = 33
"""Thresholds that are tried at once: 0, and the quantiles of 1/32, 2/32 and so on to all."""

Curves = Mapping[Site, tuple[Tensor, Tensor]]
"""Of every site thresholds and their CETT, each of shape (n,), ascending thresholds."""


@dataclass(frozen=True)
class CettOptions:
    """Options of :func:`cett`.

    Attributes
    ----------
    cett : float
        Tail error of every layer, in [0, 1).
    """

    cett: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.cett < 1:
            raise SparseError(f"The 'cett' of a policy must be in [0, 1). Got {self.cett}.")


def cett(activity: Activity, options: CettOptions, runs: Runs) -> Draft:
    """Skip what neurons write where it is little, up to one tail error in every layer.

    Parameters
    ----------
    activity : Activity
        Of the calibration.
    options : CettOptions
        What is asked for.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        One `InputThreshold` on ``down`` of each group of neurons; ``found`` has the tail errors.
    """
    norms = _norms(activity)
    coarse = tail_errors(activity, norms, _quantiles(activity, norms))
    brackets = {site: _bracket(*own, options.cett) for site, own in coarse.items()}
    fine = tail_errors(
        activity,
        norms,
        {site: torch.linspace(*map(float, own), GRID) for site, own in brackets.items()},
    )
    draft = Draft()
    for (layer, group), (thresholds, errors) in fine.items():
        best = int((errors <= options.cett).nonzero().max())
        own = per_channel(thresholds[best], norms[layer, group])
        draft.add(InputThreshold(layer, _down(group), own))
        draft.found[f"cett.{layer}.{_down(group)}"] = float(errors[best])
    return draft


@dataclass(frozen=True)
class PplSearchOptions:
    """Options of :func:`ppl_search`.

    Attributes
    ----------
    percent : float
        Perplexity may rise by less than this, in percent.
    tries : int
        Plans that are evaluated, at most: half of them on an even grid of tail errors.
    """

    percent: float = 1.0
    tries: int = 16

    def __post_init__(self) -> None:
        if not self.percent > 0 or self.tries < 2:
            raise SparseError(
                "The 'percent' of the policy 'ppl_search' must be above 0 and its 'tries' at least "
                f"2. Got {self.percent} and {self.tries}."
            )


def ppl_search(activity: Activity, options: PplSearchOptions, runs: Runs) -> Draft:
    """Skip as much as perplexity allows: CETT-PPL-p%.

    The largest shared CETT is searched at which the perplexity of the plan is below ``1 + p / 100``
    times that of the dense model. The plan that is returned was itself evaluated.

    Parameters
    ----------
    activity : Activity
        Of the calibration.
    options : PplSearchOptions
        What is asked for.
    runs : Runs
        Its ``perplexity`` evaluates plans.

    Returns
    -------
    Draft
        As of :func:`cett`; ``found`` has the tail error and the ratio of perplexities.

    Raises
    ------
    SparseError
        If nothing evaluates plans, or the dense model has no finite perplexity.
    """
    if runs.perplexity is None:
        raise SparseError(
            "The policy 'ppl_search' evaluates plans: it needs the runtime ('perplexity'). Got "
            "none: use 'cett'."
        )
    norms = _norms(activity)
    curves = tail_errors(activity, norms, _quantiles(activity, norms))
    empty = SparsePlan("ppl_search", activity.texts.subject)
    dense = runs.perplexity(empty)
    if not 0 < dense < float("inf"):
        raise SparseError(f"The perplexity of the dense model must be finite. Got {dense}.")

    def ratio(value: float) -> float:
        rules = tuple(_interpolated(curves, norms, value).rules)
        return runs.perplexity(replace(empty, rules=rules)) / dense

    value, found = largest_passing(ratio, 1 + options.percent / 100, options.tries)
    draft = _interpolated(curves, norms, value)
    draft.found = {"cett": value, "perplexity_ratio": found}
    return draft


def largest_passing(
    ratio: Callable[[float], float], bound: float, tries: int
) -> tuple[float, float]:
    """Search the largest value in [0, 1) whose ratio is below a bound.

    A grid comes first, from 0 at which the ratio is 1; then the gap above the largest value that
    passed is halved. Where the ratio dips below the bound again above a failure, the value there is
    taken: what counts is that it passed.

    Parameters
    ----------
    ratio : callable
        From a value to its ratio.
    bound : float
        Above 1.
    tries : int
        Calls of ``ratio``, at most.

    Returns
    -------
    value : float
        The largest value that was tried and passed; 0 if none did.
    found : float
        Its ratio.
    """
    grid = [i / (tries // 2 + 1) for i in range(1, tries // 2 + 1)]
    ratios = {0.0: 1.0} | {value: ratio(value) for value in grid}

    def passed() -> float:
        return max(value for value, own in ratios.items() if own < bound)

    for _ in range(tries - len(grid)):
        low = passed()
        high = min((value for value in ratios if value > low), default=1.0)
        middle = (low + high) / 2
        ratios[middle] = ratio(middle)
    return passed(), ratios[passed()]


def tail_errors(
    activity: Activity, norms: Mapping[Site, Tensor], thresholds: Mapping[Site, Tensor]
) -> dict[Site, tuple[Tensor, Tensor]]:
    """Measure the CETT of thresholds, in one pass.

    Parameters
    ----------
    activity : Activity
        Of the calibration.
    norms : mapping of (int, str) to Tensor of shape (neurons,) or (experts, neurons)
        Norms of the columns of ``down``.
    thresholds : mapping of (int, str) to Tensor of shape (n,), float32
        ``eps``, ascending.

    Returns
    -------
    dict of (int, str) to (Tensor, Tensor), each of shape (n,), float32 and float64
        The thresholds again, and the mean over tokens of their CETT; of experts over routed pairs.
        Tokens to which an MLP adds nothing are left out.
    """
    sums = {site: torch.zeros(len(own), dtype=torch.float64) for site, own in thresholds.items()}
    counts = dict.fromkeys(thresholds, 0)

    def listen(site: Site) -> Callable[[Look], None]:
        def hear(look: Look) -> None:
            scores = sizes(look, norms[site])
            full = look.written(look.neurons).double().norm(dim=-1)  # (n_rows,)
            some = full > 0
            counts[site] += int(some.sum())
            for i, threshold in enumerate(thresholds[site].tolist()):
                dropped = look.neurons.masked_fill(scores > threshold, 0)
                tail = look.written(dropped).double().norm(dim=-1)
                sums[site][i] += float((tail[some] / full[some]).sum())

        return hear

    activity.look({site: [listen(site)] for site in thresholds})
    return {site: (thresholds[site], sums[site] / max(1, counts[site])) for site in thresholds}


def sizes(look: Look, norms: Tensor) -> Tensor:
    """Norms of what each neuron writes: ``|h_i| ||W_down[:, i]||``, of shape (n_rows, neurons)."""
    return look.neurons.float().abs() * rows_of(norms, look.experts)


def _norms(activity: Activity) -> dict[Site, Tensor]:
    return {
        (layer, group): column_norms(activity.mlps[layer][group].down.weight)
        for layer, group in groups_of(activity)
    }


def _quantiles(activity: Activity, norms: Mapping[Site, Tensor]) -> dict[Site, Tensor]:
    """Thresholds of a grid: nothing, and even shares of all neurons."""

    def score(site: Site) -> Score:
        return Score(site, lambda look: sizes(look, norms[site]))

    counted = activity.coarse({site: score(site) for site in norms})
    return {site: torch.cat([torch.zeros(1), _even(own)]) for site, own in counted.items()}


def _even(selection: Selection) -> Tensor:
    ranks = [max(1, selection.total * i // (GRID - 1)) for i in range(1, GRID)]
    return selection.coarse(ranks)


def _bracket(thresholds: Tensor, errors: Tensor, value: float) -> tuple[Tensor, Tensor]:
    """Largest threshold of a grid that passes, and the next."""
    # Of threshold 0 the tail is 0: there is always one.
    best = int((errors <= value).nonzero().max())
    return thresholds[best], thresholds[min(best + 1, len(thresholds) - 1)]


def _interpolated(curves: Curves, norms: Mapping[Site, Tensor], value: float) -> Draft:
    """Rules for a shared CETT, between the values that were measured."""
    draft = Draft()
    for (layer, group), (thresholds, errors) in curves.items():
        threshold = _at(thresholds.tolist(), errors.cummax(0).values.tolist(), value)
        own = per_channel(torch.tensor(threshold), norms[layer, group])
        draft.add(InputThreshold(layer, _down(group), own))
    return draft


def _at(thresholds: list[float], errors: list[float], value: float) -> float:
    points = list(zip(thresholds, errors, strict=True))
    for (low, low_error), (high, high_error) in pairwise(points):
        if low_error <= value < high_error:
            return low + (high - low) * (value - low_error) / (high_error - low_error)
    return thresholds[-1]


def _down(group: str) -> str:
    return "down" if group == "dense" else f"{group}_down"
