"""Calibration: what the policies need of a subject's activity on recorded trials."""

from lmri.sparse.calibration.activity import LEAST_TOKENS, Activity, Score
from lmri.sparse.calibration.flow import hidden_flow
from lmri.sparse.calibration.looks import SITES, Look, Site, observed, sites_of
from lmri.sparse.calibration.texts import MOST_TOKENS, Texts, calibration_texts

__all__ = [
    "Activity",
    "LEAST_TOKENS",
    "Look",
    "MOST_TOKENS",
    "SITES",
    "Score",
    "Site",
    "Texts",
    "calibration_texts",
    "hidden_flow",
    "observed",
    "sites_of",
]
