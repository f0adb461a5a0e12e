"""What an experiment reads, and what comes of it: statements, tables, and figures of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lmri.anatomy import Subject
from lmri.checks import check_slug
from lmri.config import ContrastOptions, EvidenceOptions

FIGURES = ("line", "dots", "bars", "heat")
"""Kinds of figures that can be declared."""

STATEMENTS = "statements"
"""Name of the table of statements; no other table has it."""


@dataclass(frozen=True)
class Ground:
    """What an experiment may read.

    Attributes
    ----------
    subject : Subject
        The subject, loaded.
    stimuli : mapping of str to DataFrame
        Trials of every task of the study, as in ``docs/artefacts.md``.
    recordings : Path
        Folder with ``<task>/<shard>.zarr`` of the subject.
    findings : Path
        Folder with the findings of the subject.
    contrasts : sequence of ContrastOptions
        All contrasts of the study.
    evidence : EvidenceOptions
        Levels and margins.
    max_new_tokens : int
        Limit of a response.
    rows : int
        Rows of a forward pass, at most.
    seed : int
        Seed of the study.
    bootstrap : int
        Resamples of the carriers.
    """

    subject: Subject
    stimuli: Mapping[str, pd.DataFrame]
    recordings: Path
    findings: Path
    contrasts: Sequence[ContrastOptions]
    evidence: EvidenceOptions
    max_new_tokens: int
    rows: int
    seed: int
    bootstrap: int = 2000


@dataclass(frozen=True)
class Statement:
    """A claim that was fixed in code before anything was run: an effect is above a threshold.

    Attributes
    ----------
    claim : str
        Its name: letters, digits and underscores.
    statement : str
        One sentence.
    effect, low, high : float
        In the direction that is claimed, with its interval over carriers at ``evidence.alpha``.
    threshold : float
        What the effect must be above.
    p : float
        One-sided, of an effect above the threshold; at least the rank p among the controls where
        there are any.
    n, n_carriers : int
        Trials; values of the carrier with the fewest.
    controls : str
        Such as ``99 random sets of layers``.
    score : str
        What was measured.
    split : str
        Split of the trials.
    reason : str
        Why it could not be tested; empty where it was.
    given : str
        Claim of the same experiment without which this one could not have failed: that all else
        stays shows nothing where nothing is taken away.
    """

    claim: str
    statement: str
    effect: float
    low: float
    high: float
    threshold: float
    p: float
    n: int
    n_carriers: int
    controls: str
    score: str
    split: str = "evaluation"
    reason: str = ""
    given: str = ""

    def __post_init__(self) -> None:
        """Find what an experiment does wrong: a p that is none decides by accident."""
        check_slug(self.claim, "claim", "a statement")
        if self.testable and not 0 <= self.p <= 1:
            raise ValueError(f"The p of the statement '{self.claim}' must be in [0, 1]: {self.p}.")

    @property
    def testable(self) -> bool:
        """Whether it was put to a test."""
        return not self.reason

    @classmethod
    def untested(cls, claim: str, statement: str, reason: str, score: str = "") -> Statement:
        """Make a statement that could not be tested.

        Parameters
        ----------
        claim, statement, reason, score : str
            As the attributes.

        Returns
        -------
        Statement
            Without numbers.
        """
        nothing = math.nan
        numbers = (nothing, nothing, nothing, nothing, nothing, 0, 0)
        return cls(claim, statement, *numbers, "", score, reason=reason)


@dataclass(frozen=True)
class Drawn:
    """A figure of a table, declared; the report has a panel of it for each subject.

    Attributes
    ----------
    table : str
        Name of the table.
    kind : str
        ``line`` (numbers x and y), ``dots`` or ``bars`` (a row for each x, y along it), or
        ``heat`` (a cell for each x and y).
    x, y : str
        Columns.
    low, high : str or None
        Columns with the bounds of an interval of y.
    series : str or None
        Column that tells curves or marks apart; of ``heat`` the number that a cell shows.
    title : str
        What is shown.
    caption : str
        What is seen, and what is good.
    against : str
        What would have spoken against it.
    """

    table: str
    kind: str
    x: str
    y: str
    low: str | None
    high: str | None
    series: str | None
    title: str
    caption: str
    against: str = ""

    def __post_init__(self) -> None:
        """Find a kind that nothing draws."""
        if self.kind not in FIGURES:
            raise ValueError(f"The kind of a figure must be one of {FIGURES}: {self.kind!r}.")
        if self.kind == "heat" and self.series is None:
            raise ValueError("A heat map must have a series: the number that its cells show.")

    @property
    def columns(self) -> list[str]:
        """Columns that it needs."""
        asked = (self.x, self.y, self.low, self.high, self.series)
        return [name for name in asked if name is not None]


@dataclass(frozen=True)
class Outcome:
    """What came of an experiment on one subject.

    Attributes
    ----------
    statements : list of Statement
        Every claim that was made, also those that could not be tested.
    tables : dict of str to DataFrame
        By a name of letters, digits and underscores. None of them holds words of prompts or
        responses in columns of other names than those that :mod:`lmri.report.redaction` knows.
    captions : dict of str to str
        What each table says; a table without one is written and not shown.
    figures : list of Drawn
        Of these tables.
    notes : list of str
        What a reader must know; no words of a prompt or of a response.
    """

    statements: list[Statement]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    figures: list[Drawn] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Find names that stand for nothing, twice, or could not be written."""
        claims = [own.claim for own in self.statements]
        if len(set(claims)) < len(claims):
            raise ValueError(f"An experiment must not state a claim twice: {claims}.")
        if missing := {own.given for own in self.statements} - {"", *claims}:
            raise ValueError(f"Statements are given claims that are not stated: {missing}.")
        for name in self.tables:
            check_slug(name, "name", "a table")
        if STATEMENTS in self.tables or not set(self.captions) <= set(self.tables):
            raise ValueError(f"Captions {list(self.captions)} of tables {list(self.tables)}.")
        for figure in self.figures:
            missing = set(figure.columns) - set(self.tables[figure.table].columns)
            if missing:
                raise ValueError(f"The table '{figure.table}' has no column {sorted(missing)}.")
            cells = self.tables[figure.table][[figure.x, figure.y]]
            if figure.kind == "heat" and cells.duplicated().any():
                raise ValueError(f"The table '{figure.table}' has a cell of the map twice.")
