"""What each architecture is made of: loading, sites, counts."""

from lmri.anatomy.batches import equal_length_batches
from lmri.anatomy.loading import Subject, check_load, load_model, load_subject
from lmri.anatomy.sites import (
    Anatomy,
    after_attention,
    attention_outputs,
    attentions,
    blocks,
    describe,
    expert_groups,
    routers,
)
from lmri.anatomy.weights import (
    MODEL_FILES,
    POINTER,
    check_weights,
    model_files,
    pickled_files,
    resolve_pointer,
)

__all__ = [
    "Anatomy",
    "MODEL_FILES",
    "POINTER",
    "Subject",
    "after_attention",
    "attention_outputs",
    "attentions",
    "blocks",
    "check_load",
    "check_weights",
    "describe",
    "equal_length_batches",
    "expert_groups",
    "load_model",
    "load_subject",
    "model_files",
    "pickled_files",
    "resolve_pointer",
    "routers",
]
