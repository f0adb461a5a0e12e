"""What can be done to a unit, and running a subject under it."""

from lmri.intervene.decoding import (
    BeforePass,
    Responses,
    Sampling,
    common_random_numbers,
    respond,
    says_exactly,
)
from lmri.intervene.directions import ablated_direction
from lmri.intervene.experts import run_chosen, skipping_experts, tapped_experts
from lmri.intervene.plans import (
    INTACT,
    MODES,
    OFF_MODES,
    Plan,
    can_reroute,
    check_plan,
    feasible,
)
from lmri.intervene.routing import Session, intervened
from lmri.intervene.thinking_budget import most_new_tokens

__all__ = [
    "BeforePass",
    "INTACT",
    "MODES",
    "OFF_MODES",
    "Plan",
    "Responses",
    "Sampling",
    "Session",
    "ablated_direction",
    "can_reroute",
    "check_plan",
    "common_random_numbers",
    "feasible",
    "intervened",
    "most_new_tokens",
    "respond",
    "run_chosen",
    "says_exactly",
    "skipping_experts",
    "tapped_experts",
]
