"""Localisation: which units respond to a contrast, and what that predicts."""

from lmri.localise.activity import Activity, CountedRates, TrialActivity
from lmri.localise.design import (
    Design,
    contrast_design,
    null_design,
    null_splits,
    split_design,
)
from lmri.localise.draws import layer_matched, load_matched
from lmri.localise.endpoint import size_check
from lmri.localise.group import map_group
from lmri.localise.inference import Inference, check_resolution, permutation_test
from lmri.localise.job import localise_subject
from lmri.localise.labelling import Labelling
from lmri.localise.maps import UnitMap, null_split_rate, to_dataset, unit_map
from lmri.localise.max_statistic import MaxStatistic
from lmri.localise.measures import Measure, needed_quantity, parse_measure
from lmri.localise.planning import needed_trials, plan_lines
from lmri.localise.preconditions import check_conditions, check_separation
from lmri.localise.reliability import Reliability, split_half
from lmri.localise.resonance import Cells, condition_rates, count_cells, mote_sums, rate_scores
from lmri.localise.shams import check_shams, sham_maps
from lmri.localise.statistics import STATISTICS, Sides, Statistic
from lmri.localise.survival import compare_maps
from lmri.localise.units import DIMENSIONS, Units, ranked
from lmri.localise.values import Rows, select_rows

__all__ = [
    "Activity",
    "Cells",
    "CountedRates",
    "DIMENSIONS",
    "Design",
    "Inference",
    "Labelling",
    "MaxStatistic",
    "Measure",
    "Reliability",
    "Rows",
    "STATISTICS",
    "Sides",
    "Statistic",
    "TrialActivity",
    "UnitMap",
    "Units",
    "check_conditions",
    "check_resolution",
    "check_separation",
    "check_shams",
    "compare_maps",
    "condition_rates",
    "contrast_design",
    "count_cells",
    "layer_matched",
    "load_matched",
    "localise_subject",
    "map_group",
    "mote_sums",
    "needed_quantity",
    "needed_trials",
    "null_design",
    "null_split_rate",
    "null_splits",
    "parse_measure",
    "plan_lines",
    "permutation_test",
    "ranked",
    "rate_scores",
    "select_rows",
    "sham_maps",
    "size_check",
    "split_design",
    "split_half",
    "to_dataset",
    "unit_map",
]
