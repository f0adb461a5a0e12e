"""What can be done to a unit, and running a subject under it."""

from lmri.intervene.decoding import (
    BeforePass,
    Responses,
    Sampling,
    common_random_numbers,
    respond,
    says_exactly,
)
from lmri.intervene.directions import ablated_direction, ablated_subspace
from lmri.intervene.experts import run_chosen, skipping_experts, tapped_experts
from lmri.intervene.key_space import Hypercube, abstained, last_keys
from lmri.intervene.means import (
    donor_activity,
    donors_of,
    mean_activity,
    means_of,
    preactivation_statistics,
)
from lmri.intervene.patterns import changed_patterns, clamped_patterns, recorded_patterns
from lmri.intervene.plans import (
    INTACT,
    Plan,
    Values,
    can_reroute,
    check_plan,
    feasible,
)
from lmri.intervene.points import changed_state
from lmri.intervene.routing import intervened
from lmri.intervene.session import Session
from lmri.intervene.thinking_budget import most_new_tokens
from lmri.intervene.units import KINDS, MODES, OFF_MODES, SET_MODES, Unit, UnitKind, modes_of

__all__ = [
    "BeforePass",
    "Hypercube",
    "INTACT",
    "KINDS",
    "MODES",
    "OFF_MODES",
    "Plan",
    "Responses",
    "SET_MODES",
    "Sampling",
    "Session",
    "Unit",
    "UnitKind",
    "Values",
    "ablated_direction",
    "ablated_subspace",
    "abstained",
    "can_reroute",
    "changed_patterns",
    "changed_state",
    "check_plan",
    "clamped_patterns",
    "common_random_numbers",
    "donor_activity",
    "donors_of",
    "feasible",
    "intervened",
    "last_keys",
    "mean_activity",
    "means_of",
    "modes_of",
    "most_new_tokens",
    "preactivation_statistics",
    "recorded_patterns",
    "respond",
    "run_chosen",
    "says_exactly",
    "skipping_experts",
    "tapped_experts",
]
