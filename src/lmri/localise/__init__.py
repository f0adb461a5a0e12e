"""Localisation: which experts respond to a contrast, and what that predicts."""

from lmri.localise.design import (
    Design,
    Labelling,
    contrast_design,
    null_design,
    null_splits,
    split_design,
)
from lmri.localise.draws import check_shams, layer_matched, load_matched, ranking, sham_maps
from lmri.localise.endpoint import size_check
from lmri.localise.inference import Inference, check_resolution, permutation_test
from lmri.localise.job import localise_subject
from lmri.localise.maps import ResonanceMap, null_split_rate, resonance_map, to_dataset
from lmri.localise.preconditions import check_conditions, check_separation
from lmri.localise.resonance import Cells, condition_rates, count_cells, mote_sums, scores

__all__ = [
    "Cells",
    "Design",
    "Inference",
    "Labelling",
    "ResonanceMap",
    "check_conditions",
    "check_resolution",
    "check_separation",
    "check_shams",
    "condition_rates",
    "contrast_design",
    "count_cells",
    "layer_matched",
    "load_matched",
    "localise_subject",
    "mote_sums",
    "null_design",
    "null_split_rate",
    "null_splits",
    "permutation_test",
    "ranking",
    "resonance_map",
    "scores",
    "sham_maps",
    "size_check",
    "split_design",
    "to_dataset",
]
