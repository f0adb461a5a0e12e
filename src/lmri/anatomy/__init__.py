"""What each architecture is made of: loading, sites, counts."""

from lmri.anatomy.architectures import ARCHITECTURES, Architecture
from lmri.anatomy.batches import equal_length_batches, pad, similar_length_batches
from lmri.anatomy.loading import Subject, check_load, load_model, load_subject
from lmri.anatomy.quantities import ATTENTION_SUMMARIES, QUANTITIES, Variable, variables
from lmri.anatomy.routing import output_of_router, route, selection_scores
from lmri.anatomy.sites import (
    Anatomy,
    added_by_attention,
    added_by_mlp,
    after_attention,
    architecture_of,
    attention_outputs,
    attentions,
    blocks,
    dense_outputs,
    describe,
    expert_groups,
    routers,
    shared_gates,
    shared_outputs,
    trunk,
)
from lmri.anatomy.table import anatomy_table, empty_model, read_configuration
from lmri.anatomy.weights import (
    MODEL_FILES,
    POINTER,
    check_weights,
    model_files,
    pickled_files,
    resolve_pointer,
)

__all__ = [
    "ARCHITECTURES",
    "ATTENTION_SUMMARIES",
    "Anatomy",
    "Architecture",
    "MODEL_FILES",
    "POINTER",
    "QUANTITIES",
    "Subject",
    "Variable",
    "added_by_attention",
    "added_by_mlp",
    "after_attention",
    "anatomy_table",
    "architecture_of",
    "attention_outputs",
    "attentions",
    "blocks",
    "check_load",
    "check_weights",
    "dense_outputs",
    "describe",
    "empty_model",
    "equal_length_batches",
    "expert_groups",
    "load_model",
    "load_subject",
    "model_files",
    "output_of_router",
    "pad",
    "pickled_files",
    "read_configuration",
    "resolve_pointer",
    "route",
    "routers",
    "selection_scores",
    "shared_gates",
    "shared_outputs",
    "similar_length_batches",
    "trunk",
    "variables",
]
