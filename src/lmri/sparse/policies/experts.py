"""Policies that skip whole experts: by a list, or by their weight beside the token's largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lmri.checks import check_choice
from lmri.errors import SparseError
from lmri.intervene import OFF_MODES, Plan, can_reroute, check_plan
from lmri.sparse.calibration import Activity, Look, Score
from lmri.sparse.plan_checks import check_sparsity
from lmri.sparse.policies.draft import Draft, Runs
from lmri.sparse.rules import ExpertRatio, SkippedExperts

OWNER = "the policy 'skip_experts'"


@dataclass(frozen=True)
class SkipExpertsOptions:
    """Options of :func:`skip_experts`.

    Attributes
    ----------
    experts : sequence of (int, int) or None
        (layer, expert) of those that are never run; None skips by the ratio of weights.
    mode : str
        What becomes of their slots: one of :data:`lmri.intervene.OFF_MODES`.
    quantile : float
        Of the ratios of weights on the calibration, in [0, 1): the ratio below which an expert is
        skipped. The median is that of NAEE.
    renormalise : bool
        Whether the weights left are scaled to the sum of all.
    """

    experts: Sequence[Sequence[int]] | None = None
    mode: str = "mask"
    quantile: float = 0.5
    renormalise: bool = False

    def __post_init__(self) -> None:
        check_choice(self.mode, OFF_MODES, "mode", OWNER, SparseError)
        check_sparsity(self.quantile, f"{OWNER} ('quantile')")


def skip_experts(activity: Activity, options: SkipExpertsOptions, runs: Runs) -> Draft:
    """Skip experts of a list, or those with ``w_e < beta max(w)`` at a token.

    beta is the quantile of the ratios ``w_e / max(w)`` of all chosen experts but the first, in each
    layer.

    Parameters
    ----------
    activity : Activity
        Of the calibration.
    options : SkipExpertsOptions
        What is asked for.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        One `SkippedExperts` for each layer named, or one `ExpertRatio` for each with experts.

    Raises
    ------
    SparseError
        If the subject runs no experts one by one, a token has one expert alone, an expert does not
        exist, or too few would be left.

    References
    ----------
    Lu et al. 2024, Not all experts are equal, arXiv:2402.14800.
    """
    subject = activity.subject
    if not can_reroute(subject.anatomy):
        raise SparseError(
            "The policy 'skip_experts' needs a subject that runs experts one by one. Got "
            f"'{subject.name}' ({subject.anatomy.architecture}), which does not."
        )
    if options.experts is not None:
        units = tuple(sorted({tuple(map(int, unit)) for unit in options.experts}))
        return skipped(activity, units, options.mode)
    return _by_ratio(activity, options)


def skipped(activity: Activity, units: Sequence[tuple[int, ...]], mode: str) -> Draft:
    """Make rules that never run some experts.

    Parameters
    ----------
    activity : Activity
        Of the subject.
    units : sequence of (int, int)
        (layer, expert), each once.
    mode : str
        One of :data:`lmri.intervene.OFF_MODES`.

    Returns
    -------
    Draft
        One `SkippedExperts` for each layer named.

    Raises
    ------
    LmriError
        As :func:`lmri.intervene.check_plan`.
    """
    check_plan(Plan(mode, tuple(units)), activity.subject.anatomy)
    draft = Draft()
    for layer in sorted({layer for layer, _ in units}):
        experts = tuple(sorted(expert for own, expert in units if own == layer))
        draft.add(SkippedExperts(layer, experts, mode))
    return draft


def _by_ratio(activity: Activity, options: SkipExpertsOptions) -> Draft:
    anatomy = activity.subject.anatomy
    if anatomy.top_k < 2:
        raise SparseError(
            "The policy 'skip_experts' by the ratio of weights needs at least 2 experts per token. "
            f"Got {anatomy.top_k}: name 'experts'."
        )
    scores = {layer: Score((layer, "router"), _ratios) for layer in anatomy.moe_layers}
    found = activity.least_kept(scores, dict.fromkeys(scores, options.quantile))
    draft = Draft()
    slots = (anatomy.top_k - 1) / anatomy.top_k
    for layer, ratio in found.items():
        if 0 < ratio < 1:  # else all are equal, or nothing is below
            rule = ExpertRatio(layer, float(ratio), options.renormalise)
            draft.add(rule, options.quantile * slots)
    return draft


def _ratios(look: Look) -> Tensor:
    """Weights of a token's experts by the largest, which is left out: (n_tokens, top_k - 1)."""
    weights = look.input.float().sort(dim=-1, descending=True).values
    return weights[:, 1:] / weights[:, :1]
