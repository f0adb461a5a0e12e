"""Information and geometry of recorded activity, over layers and over training."""

from lmri.information.attention_entropy import attention_entropy_map, sliding_windows
from lmri.information.attention_logits import logit_ceilings
from lmri.information.class_profiles import (
    code_profile,
    rate_reduction_profile,
    unit_entropy_profile,
)
from lmri.information.eigenscore import eigenscore_map
from lmri.information.lens import lens_profile
from lmri.information.profiles import layer_profiles
from lmri.information.resolution import resolution_curve

__all__ = [
    "attention_entropy_map",
    "code_profile",
    "eigenscore_map",
    "layer_profiles",
    "lens_profile",
    "logit_ceilings",
    "rate_reduction_profile",
    "resolution_curve",
    "sliding_windows",
    "unit_entropy_profile",
]
