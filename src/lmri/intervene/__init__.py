"""What can be done to a unit, and running a subject under it."""

from lmri.intervene.answering import answer_scores, exact
from lmri.intervene.curves import scale_curve
from lmri.intervene.decoding import (
    AfterBatch,
    BeforePass,
    Responses,
    Sampling,
    common_random_numbers,
    respond,
    says_exactly,
)
from lmri.intervene.directions import ablated_direction, ablated_subspace
from lmri.intervene.experts import (
    run_chosen,
    runs_grouped,
    skipping_experts,
    tapped_experts,
)
from lmri.intervene.key_space import Hypercube, abstained, last_keys
from lmri.intervene.likelihood import continuation_log_probabilities, next_token_distributions
from lmri.intervene.means import (
    donor_activity,
    donors_of,
    mean_activity,
    means_of,
    preactivation_statistics,
)
from lmri.intervene.patterns import (
    changed_patterns,
    clamped_patterns,
    induction_pattern,
    previous_token_pattern,
    recorded_patterns,
)
from lmri.intervene.plan_checks import can_reroute, check_plan, feasible
from lmri.intervene.plan_records import plan_record, read_plan
from lmri.intervene.plans import INTACT, PHASES, AnyPlan, Combined, Plan, Values
from lmri.intervene.points import changed_state
from lmri.intervene.routing import intervened
from lmri.intervene.row_space import (
    LEAST_KEPT,
    RowSpaceReport,
    read_out,
    row_space_report,
    split_directions,
)
from lmri.intervene.session import Session
from lmri.intervene.sharing import onsets, same_plans
from lmri.intervene.steering import (
    ScaleSearch,
    Shift,
    ablation_plan,
    control_vector,
    early_exit,
    entropy_weighted,
    last_states,
    mean_difference,
    output_shift,
    search_scale,
    steering_plan,
)
from lmri.intervene.thinking_budget import most_new_tokens
from lmri.intervene.units import KINDS, MODES, OFF_MODES, Unit, UnitKind, modes_of

__all__ = [
    "AnyPlan",
    "AfterBatch",
    "BeforePass",
    "Combined",
    "Hypercube",
    "INTACT",
    "KINDS",
    "LEAST_KEPT",
    "MODES",
    "OFF_MODES",
    "PHASES",
    "Plan",
    "Responses",
    "RowSpaceReport",
    "Sampling",
    "ScaleSearch",
    "Session",
    "Shift",
    "Unit",
    "UnitKind",
    "Values",
    "ablated_direction",
    "ablated_subspace",
    "ablation_plan",
    "abstained",
    "answer_scores",
    "can_reroute",
    "changed_patterns",
    "changed_state",
    "check_plan",
    "clamped_patterns",
    "common_random_numbers",
    "continuation_log_probabilities",
    "control_vector",
    "donor_activity",
    "donors_of",
    "early_exit",
    "entropy_weighted",
    "exact",
    "feasible",
    "induction_pattern",
    "intervened",
    "last_keys",
    "last_states",
    "mean_activity",
    "mean_difference",
    "means_of",
    "modes_of",
    "most_new_tokens",
    "next_token_distributions",
    "onsets",
    "output_shift",
    "plan_record",
    "preactivation_statistics",
    "previous_token_pattern",
    "read_out",
    "read_plan",
    "recorded_patterns",
    "respond",
    "row_space_report",
    "run_chosen",
    "runs_grouped",
    "same_plans",
    "says_exactly",
    "scale_curve",
    "search_scale",
    "skipping_experts",
    "split_directions",
    "steering_plan",
    "tapped_experts",
]
