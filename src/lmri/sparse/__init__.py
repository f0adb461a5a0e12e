"""Sparsity: policies that say what to skip, kernels that skip it, and what that costs."""

from lmri.sparse.calibrating import calibrate_subject
from lmri.sparse.measures import measure_subject
from lmri.sparse.recording import record_sparse

__all__ = ["calibrate_subject", "measure_subject", "record_sparse"]
