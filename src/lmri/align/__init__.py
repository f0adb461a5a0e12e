"""What subjects share whose units do not correspond: representations in the same trials."""

from lmri.align.activity import components, matched_layers, read_together
from lmri.align.ceiling import shared_ceiling
from lmri.align.dissimilarity import compare, crossnobis, design_of
from lmri.align.identification import identify
from lmri.align.job import align_subjects
from lmri.align.kernels import biased_alignment, debiased_alignment, gram
from lmri.align.shared_response import procrustes, shared_response
from lmri.align.transfer import Halves, transfer

__all__ = [
    "Halves",
    "align_subjects",
    "biased_alignment",
    "compare",
    "components",
    "crossnobis",
    "debiased_alignment",
    "design_of",
    "gram",
    "identify",
    "matched_layers",
    "procrustes",
    "read_together",
    "shared_ceiling",
    "shared_response",
    "transfer",
]
