"""Causal localisers: which units carry a difference between paired prompts to the answer."""

from lmri.localise.attribution.agreement import Agreement, agreement
from lmri.localise.attribution.inference import sign_flip_test
from lmri.localise.attribution.maps import (
    METRICS,
    ROLE_KINDS,
    AttributionOptions,
    attribution_maps,
)
from lmri.localise.attribution.methods import APPROXIMATE, METHODS, PATCHING
from lmri.localise.attribution.pairs import Pairs, contrast_pairs, render_pairs
from lmri.localise.attribution.roles import ROLES, role_masks
from lmri.localise.attribution.rules import RELP, RULES
from lmri.localise.attribution.trace import Run, Tracer, traced
from lmri.localise.attribution.units import KINDS, Site, sites

__all__ = [
    "APPROXIMATE",
    "Agreement",
    "AttributionOptions",
    "KINDS",
    "METHODS",
    "METRICS",
    "PATCHING",
    "Pairs",
    "RELP",
    "ROLES",
    "ROLE_KINDS",
    "RULES",
    "Run",
    "Site",
    "Tracer",
    "agreement",
    "attribution_maps",
    "contrast_pairs",
    "render_pairs",
    "role_masks",
    "sign_flip_test",
    "sites",
    "traced",
]
