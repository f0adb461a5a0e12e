"""Validation: re-runs that confirm or refute a finding, by the rule stored with it."""

from lmri.validate.comparing import (
    Comparison,
    compare_lineages,
    compare_subjects,
    comparison_lines,
    comparison_table,
    write_comparisons,
)
from lmri.validate.draws_job import score_draws
from lmri.validate.job import validate_subject
from lmri.validate.statistics import rank_p, within_margin
from lmri.validate.verdict import VERDICTS, Check, Evidence, Verdict, decide, not_testable, stays

__all__ = [
    "VERDICTS",
    "Check",
    "Comparison",
    "Evidence",
    "Verdict",
    "compare_lineages",
    "compare_subjects",
    "comparison_lines",
    "comparison_table",
    "decide",
    "not_testable",
    "rank_p",
    "score_draws",
    "stays",
    "validate_subject",
    "within_margin",
    "write_comparisons",
]
