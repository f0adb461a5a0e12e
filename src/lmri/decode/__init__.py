"""Decoding: which labels of trials can be read from activity, where, and by whom.

Every estimate is made on carriers that the decoder was not trained on. The entry is
:func:`decode_subject`; the analyses are modules of their own.
"""

from lmri.decode.activity import Activity, open_activity
from lmri.decode.estimator import MaskedDiscriminant
from lmri.decode.instances import BagClassifier
from lmri.decode.job import decode_subject
from lmri.decode.profile import Asked, ask, profile
from lmri.decode.questions import Labelled, Question, label_trials

__all__ = [
    "Activity",
    "Asked",
    "BagClassifier",
    "Labelled",
    "MaskedDiscriminant",
    "Question",
    "ask",
    "decode_subject",
    "label_trials",
    "open_activity",
    "profile",
]
