"""The report of a study: a page that opens from a file, without a network, and some beside it.

It reads what the other stages wrote (see ``docs/artefacts.md``), computes no new statistic, and
lists what is missing instead of failing on it.
"""

from lmri.report.explain import explain_verdict
from lmri.report.tally import tally_claims, tally_lines
from lmri.report.write import write_report

__all__ = ["explain_verdict", "tally_claims", "tally_lines", "write_report"]
