"""What each architecture is made of: loading, sites, counts."""

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

__all__ = [
    "Anatomy",
    "MODEL_FILES",
    "POINTER",
    "Subject",
    "after_attention",
    "attention_outputs",
    "attentions",
    "blocks",
    "check_weights",
    "describe",
    "equal_length_batches",
    "expert_groups",
    "load_subject",
    "model_files",
    "resolve_pointer",
    "routers",
]
