"""Claims of findings put to the test, each by the rule that is stored with it."""

from lmri.validate.claims.ground import Ground
from lmri.validate.claims.judging import Judged, Outcome, outcomes
from lmri.validate.claims.table import CLAIM_COLUMNS, claim_rows, untested_rows
from lmri.validate.claims.testing import Primary, judge_claims

__all__ = [
    "CLAIM_COLUMNS",
    "Ground",
    "Judged",
    "Outcome",
    "Primary",
    "claim_rows",
    "judge_claims",
    "outcomes",
    "untested_rows",
]
