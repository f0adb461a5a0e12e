"""Which scores a study has beside its own, and a user's scorers."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmri.config.options import Options

RESPONSE_SCORES = ("refusal_onset", "onset_margin", "refusal_exact", "fact_told", "exact")
"""Scores that every response gets, whatever the study names."""


@dataclass(frozen=True)
class FunctionOptions(Options):
    """A user's scorer: ``package.module:function`` of an installed package, or of one in a folder.

    Scores are between ``low`` and ``high``; without a bound they may be any number.
    """

    name: str
    function: str
    folder: str | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ScorersOptions(Options):
    """Scores that responses get beside those of the hypotheses; none by default.

    ``names`` are scorers of the package, of ``functions``, or ``refusal_phrases_<name>`` of a list
    in one of the files ``phrases``. ``limits`` of coherence (``log_probability``, ``repeats``) are
    for the scorer ``coherent`` alone.
    """

    names: tuple[str, ...] = ()
    functions: tuple[FunctionOptions, ...] = field(
        default=(), metadata={"section": FunctionOptions}
    )
    phrases: tuple[str, ...] = ()
    limits: dict[str, float] | None = None
