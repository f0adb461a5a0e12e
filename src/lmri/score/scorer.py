"""What a scorer is, and the responses that it scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from lmri.checks import check_columns, quoted
from lmri.errors import ScoreError
from lmri.score.likelihood import Reader

NEEDS = ("answer", "tokens", "measured", "logits", "intact_logits", "limits")
"""What a scorer may need: text, token ids, columns measured while generating, readers of
log-probabilities (:data:`lmri.score.likelihood.Reader`), limits of coherence."""


@dataclass(frozen=True)
class Answers:
    """Responses to be scored.

    Attributes
    ----------
    table : DataFrame
        One row a response: ``answer`` (what was said after any thought), ``ended``, and columns of
        its trial (``reference``, ``fact``, ``refusal``, ``choices`` …) or that were measured.
    tokens : sequence of ndarray of int64, optional
        Responses as token ids, with the end token.
    tokenizer : transformers.PreTrainedTokenizerBase, optional
        Of the subject; needed with the readers.
    reader, intact_reader : callable, optional
        Log-probabilities under each response's intervention, and without any.
    limits : dict, optional
        Of coherence: ``log_probability`` and ``repeats``.
    """

    table: pd.DataFrame
    tokens: Sequence[np.ndarray] | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    reader: Reader | None = None
    intact_reader: Reader | None = None
    limits: Mapping[str, float] | None = None

    def column(self, name: str, owner: str) -> list[str]:
        """Texts of a column."""
        check_columns(self.table.columns, [name], f"of the responses, for {owner},", ScoreError)
        return self.table[name].fillna("").astype(str).tolist()

    @property
    def there(self) -> frozenset[str]:
        """Which of :data:`NEEDS` are there."""
        own = {
            "tokens": self.tokens,
            "logits": self.reader,
            "intact_logits": self.intact_reader,
            "limits": self.limits,
        }
        return frozenset({"answer", "measured"} | {k for k, v in own.items() if v is not None})


@dataclass(frozen=True)
class Scorer:
    """A score of responses.

    Attributes
    ----------
    name : str
        What it is called, in configurations and as a column.
    score : callable
        From :class:`Answers` to one number a response, NaN where the score does not apply.
    needs : tuple of str
        Some of :data:`NEEDS`.
    columns : tuple of str
        Columns of the table that it reads.
    low, high : float
        Range.
    more : str
        What a higher score says: ``refusal``, ``right``, ``likely``, or ``user``.
    version : str
        Of the data it goes by, such as a list of phrases; empty for none.
    """

    name: str
    score: Callable[[Answers], np.ndarray]
    needs: tuple[str, ...] = ("answer",)
    columns: tuple[str, ...] = ("answer",)
    low: float = 0.0
    high: float = 1.0
    more: str = "right"
    version: str = ""

    def __call__(self, answers: Answers) -> np.ndarray:
        """Score responses, after checking that all that is needed is there.

        Parameters
        ----------
        answers : Answers
            The responses.

        Returns
        -------
        ndarray of shape (n_responses,), float64
            The scores.

        Raises
        ------
        ScoreError
            If something that the scorer needs is missing, or a score is out of its range.
        """
        missing = set(self.needs) - answers.there
        if missing:
            raise ScoreError(
                f"The scorer '{self.name}' needs {quoted(self.needs)} of the responses. Got no "
                f"{quoted(missing)}: {_advice(missing)}."
            )
        owner = f"of the responses, for the scorer '{self.name}',"
        check_columns(answers.table.columns, self.columns, owner, ScoreError)
        found = np.asarray(self.score(answers), dtype=np.float64)
        known = found[~np.isnan(found)]
        if len(known) and not (self.low <= known.min() and known.max() <= self.high):
            raise ScoreError(
                f"The scores of '{self.name}' must be in [{self.low}, {self.high}]. "
                f"Got {known.min()} to {known.max()}."
            )
        return found


def add_scores(table: pd.DataFrame, answers: Answers, scorers: Mapping[str, Scorer]) -> None:
    """Add the columns of scorers to a table of scores.

    Parameters
    ----------
    table : DataFrame
        Gets a column for every scorer.
    answers : Answers
        The responses of its rows.
    scorers : mapping of str to Scorer
        The scorers.

    Raises
    ------
    ScoreError
        If a score does not apply to a trial: a mean over the others would be of other trials.
    """
    for name, scorer in scorers.items():
        found = scorer(answers)
        missing = int(pd.isna(found).sum())
        if missing:
            raise ScoreError(
                f"The scorer '{name}' decides, so it must apply to every trial. Got no score of "
                f"{missing} of {len(found)} responses."
            )
        table[name] = found


def _advice(missing: set[str]) -> str:
    if missing & {"logits", "intact_logits"}:
        return "name the subject that the responses are of"
    if "limits" in missing:
        return "give the limits of coherence"
    return "they were not saved, so that the responses must be made again"
