"""Information and geometry of recorded activity, over layers and over training."""

from lmri.information.agreement import information_change
from lmri.information.estimate import Estimate, Flag
from lmri.information.guards import Evidence, guard
from lmri.information.measuring import Settings
from lmri.information.mutual_profile import information_of
from lmri.information.question import Question

__all__ = [
    "Estimate",
    "Evidence",
    "Flag",
    "Question",
    "Settings",
    "guard",
    "information_change",
    "information_of",
]
