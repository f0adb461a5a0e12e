"""How claims were tested, in a paragraph of the methods."""

from __future__ import annotations

from lmri.config import StudyConfig
from lmri.report import words


def describe_claims(config: StudyConfig) -> str:
    """Describe which claims were made, how they were corrected, and what a verdict had to survive.

    Parameters
    ----------
    config : StudyConfig
        A study with a hypothesis.

    Returns
    -------
    str
        A paragraph.
    """
    kinds = dict.fromkeys(own.kind for own in config.validate.claims)
    beside = f" Beside necessity, findings claim {words.listing(kinds)}." if kinds else ""
    stop = config.evidence.stop_after
    stopped = (
        ""
        if stop is None
        else f" Sham maps of the endpoint end at the {stop}th that does as much (Besag and "
        "Clifford 1991, Biometrika 78)."
    )
    return (
        f"Claims are fixed in the finding before any evaluation trial is run.{beside} Their p are "
        "twice the tail of the bootstrap over carriers beyond the margin, and where sham maps are "
        "a control no smaller than the rank p; those of secondary claims are corrected by Holm "
        "(1979) within the finding and for the findings of the study. A verdict has to be the same "
        "with all responses that were cut at the limit of their length as the behaviour and with "
        f"none, and at most {config.validate.kernel_trials} evaluation trials, run again one at a "
        f"time on the kernels that skip, must have the same score.{stopped}"
    )
