"""What each architecture is made of: loading, sites, counts."""

from lmri.anatomy.batches import equal_length_batches
from lmri.anatomy.loading import (
    MODEL_FILES,
    POINTER,
    Subject,
    check_weights,
    load_subject,
    load_tokenizer,
    model_files,
    resolve_pointer,
)
from lmri.anatomy.prompts import (
    POST_INSTRUCTION,
    SPANS,
    Prompt,
    check_prompts,
    encode,
    prompt_room,
    render_trials,
    template_tail,
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
from lmri.anatomy.templates import check_template, read_template, template_attributes
from lmri.anatomy.thinking import THINKING, Thinking, thinking_blocks, thinking_delimiters

__all__ = [
    "Anatomy",
    "MODEL_FILES",
    "POINTER",
    "POST_INSTRUCTION",
    "Prompt",
    "SPANS",
    "Subject",
    "THINKING",
    "Thinking",
    "after_attention",
    "attention_outputs",
    "attentions",
    "blocks",
    "check_prompts",
    "check_template",
    "check_weights",
    "describe",
    "encode",
    "equal_length_batches",
    "expert_groups",
    "load_subject",
    "load_tokenizer",
    "model_files",
    "prompt_room",
    "read_template",
    "render_trials",
    "resolve_pointer",
    "routers",
    "template_attributes",
    "template_tail",
    "thinking_blocks",
    "thinking_delimiters",
]
