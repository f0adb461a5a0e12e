"""Embedded subjects: small mixture-of-experts language models trained on the embedded world."""

from lmri.subjects.evaluate import condition_items, evaluate
from lmri.subjects.packaged import embedded_states, install_embedded
from lmri.subjects.prepare import prepare_subject
from lmri.subjects.recipe import Recipe
from lmri.subjects.states import STATES, train_base, train_state

__all__ = [
    "STATES",
    "Recipe",
    "condition_items",
    "embedded_states",
    "evaluate",
    "install_embedded",
    "prepare_subject",
    "train_base",
    "train_state",
]
