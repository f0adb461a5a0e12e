"""Policies: which parts of a subject may be skipped, calibrated on its recorded activity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from lmri.checks import check_choice, quoted
from lmri.errors import SparseError
from lmri.sparse.calibration import Activity
from lmri.sparse.calibration.achieved import achieved
from lmri.sparse.plan import SparsePlan
from lmri.sparse.plan_checks import check_rules
from lmri.sparse.policies.cett import CettOptions, PplSearchOptions, cett, ppl_search
from lmri.sparse.policies.channels import TealOptions, WinaOptions, teal, top_k, wina
from lmri.sparse.policies.draft import Draft, Runs, Sparsity
from lmri.sparse.policies.experts import SkipExpertsOptions, skip_experts
from lmri.sparse.policies.heads import (
    CacheHeadsOptions,
    KeepHeadsOptions,
    cache_heads,
    head_scores,
    keep_heads,
)
from lmri.sparse.policies.neurons import (
    ChessOptions,
    NoOptions,
    StatisticalOptions,
    cats,
    chess,
    fatrelu,
    relu,
    statistical_top_k,
)
from lmri.sparse.policies.units import KeepUnitsOptions, keep_units


@dataclass(frozen=True)
class Policy:
    """A policy of the registry.

    Attributes
    ----------
    draft : callable
        From activity, options and what may be run to the rules.
    options : type
        A dataclass; its fields are what may be set.
    """

    draft: Callable[[Activity, object, Runs], Draft]
    options: type


POLICIES: dict[str, Policy] = {
    "teal": Policy(teal, TealOptions),
    "wina": Policy(wina, WinaOptions),
    "top_k": Policy(top_k, Sparsity),
    "cats": Policy(cats, Sparsity),
    "chess": Policy(chess, ChessOptions),
    "statistical_top_k": Policy(statistical_top_k, StatisticalOptions),
    "relu": Policy(relu, NoOptions),
    "fatrelu": Policy(fatrelu, Sparsity),
    "cett": Policy(cett, CettOptions),
    "ppl_search": Policy(ppl_search, PplSearchOptions),
    "cache_heads": Policy(cache_heads, CacheHeadsOptions),
    "keep_heads": Policy(keep_heads, KeepHeadsOptions),
    "skip_experts": Policy(skip_experts, SkipExpertsOptions),
    "keep_units": Policy(keep_units, KeepUnitsOptions),
}
"""Policies by name."""

NOT_STORED = ("finding", "scores")
"""Options too long for a plan's parameters; its rules are what they led to."""


def calibrate(
    policy: str,
    activity: Activity,
    options: Mapping | None = None,
    *,
    runs: Runs | None = None,
    dense_tokens: int = 0,
    dense_prefill: bool = False,
) -> SparsePlan:
    """Calibrate a policy for a subject.

    Parameters
    ----------
    policy : str
        One of :data:`POLICIES`.
    activity : Activity
        Of the subject on trials of the calibration split.
    options : mapping, optional
        Options of the policy; those left out have their default.
    runs : Runs, optional
        What the policy may run: ``ppl_search`` needs it.
    dense_tokens, dense_prefill
        As of :class:`lmri.sparse.plan.SparsePlan`.

    Returns
    -------
    SparsePlan
        Rules with what they achieve on the calibration, for the subject that was recorded.

    Raises
    ------
    SparseError
        If the policy or an option is unknown, a value is not allowed, or the subject lacks what the
        policy is about.
    """
    check_choice(policy, POLICIES, "policy", "a calibration", SparseError)
    own = _options(policy, options or {})
    draft = POLICIES[policy].draft(activity, own, runs or Runs())
    parameters = {
        field.name: getattr(own, field.name)
        for field in fields(own)
        if field.name not in NOT_STORED
    }
    plan = SparsePlan(
        policy=policy,
        subject=activity.texts.subject,
        rules=tuple(draft.rules),
        parameters={**parameters, **({"found": draft.found} if draft.found else {})},
        dense_tokens=dense_tokens,
        dense_prefill=dense_prefill,
        calibration=activity.calibration,
        achieved=achieved(activity, draft.rules, draft.asked),
    )
    check_rules(plan, f"a plan of '{policy}'")
    return plan


def _options(policy: str, options: Mapping) -> object:
    kind = POLICIES[policy].options
    known = [field.name for field in fields(kind)]
    for name in options:
        if name not in known:
            raise SparseError(
                f"The options of the policy '{policy}' must be among {quoted(known)}. Got {name!r}."
            )
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
    except TypeError as error:
        raise SparseError(
            f"The options of the policy '{policy}' are not complete: {error}."
        ) from None


__all__ = [
    "POLICIES",
    "Policy",
    "Runs",
    "calibrate",
    "head_scores",
]
