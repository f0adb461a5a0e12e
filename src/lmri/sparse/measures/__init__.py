"""Measures of sparse runs: quality, achieved sparsity, speed."""

from lmri.sparse.measures.job import backend_of, measure_subject
from lmri.sparse.measures.quality import DenseScores, largest_within, paired_scores, summarise
from lmri.sparse.measures.speed import measure_speed
from lmri.sparse.measures.trials import Trials, read_trials

__all__ = [
    "DenseScores",
    "Trials",
    "backend_of",
    "largest_within",
    "measure_speed",
    "measure_subject",
    "paired_scores",
    "read_trials",
    "summarise",
]
