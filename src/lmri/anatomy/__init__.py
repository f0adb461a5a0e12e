"""What each architecture is made of: loading, sites, counts."""

from lmri.anatomy.architectures import ARCHITECTURES, Architecture
from lmri.anatomy.batches import equal_length_batches
from lmri.anatomy.loading import (
    MODEL_FILES,
    POINTER,
    Subject,
    check_weights,
    load_subject,
    model_files,
    resolve_pointer,
)
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
)

__all__ = [
    "ARCHITECTURES",
    "Anatomy",
    "Architecture",
    "MODEL_FILES",
    "POINTER",
    "Subject",
    "added_by_attention",
    "added_by_mlp",
    "after_attention",
    "architecture_of",
    "attention_outputs",
    "attentions",
    "blocks",
    "check_weights",
    "dense_outputs",
    "describe",
    "equal_length_batches",
    "expert_groups",
    "load_subject",
    "model_files",
    "output_of_router",
    "resolve_pointer",
    "route",
    "routers",
    "selection_scores",
    "shared_gates",
    "shared_outputs",
]
