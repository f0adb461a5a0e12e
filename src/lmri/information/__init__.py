"""Information and geometry of recorded activity, over layers and over training."""

from lmri.information.agreement import information_change
from lmri.information.answers import answer_profile
from lmri.information.attention_entropy import attention_entropy_map, sliding_windows
from lmri.information.attention_logits import logit_ceilings
from lmri.information.class_profiles import rate_reduction_profile, unit_entropy_profile
from lmri.information.code_profiles import code_profile
from lmri.information.eigenscore import eigenscore_map
from lmri.information.estimate import Estimate, Flag
from lmri.information.followed import follow_series
from lmri.information.guards import Evidence, guard
from lmri.information.job import information_subject
from lmri.information.lens import lens_profile
from lmri.information.measuring import Settings
from lmri.information.mutual_profile import information_of
from lmri.information.profiles import layer_profiles
from lmri.information.question import Question
from lmri.information.resolution import resolution_curve
from lmri.information.resolution_profiles import resolution_profile
from lmri.information.token_profiles import activity_profile, massive_profile

__all__ = [
    "Estimate",
    "Evidence",
    "Flag",
    "Question",
    "Settings",
    "activity_profile",
    "answer_profile",
    "attention_entropy_map",
    "code_profile",
    "eigenscore_map",
    "follow_series",
    "guard",
    "information_change",
    "information_of",
    "information_subject",
    "layer_profiles",
    "lens_profile",
    "logit_ceilings",
    "massive_profile",
    "rate_reduction_profile",
    "resolution_curve",
    "resolution_profile",
    "sliding_windows",
    "unit_entropy_profile",
]
