"""Statements of an experiment as rows, corrected for each other and decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from lmri.experiment.outcome import Statement
from lmri.validate.claims import CLAIM_COLUMNS
from lmri.validate.statistics import holm

KIND = "experiment"
"""In the place of a kind of units and of claims."""

UNTESTED = "not testable"


def statement_rows(
    subject: str, experiment: str, statements: Sequence[Statement], alpha: float
) -> pd.DataFrame:
    """Decide the statements of an experiment on one subject.

    Those that could be tested are corrected for each other by Holm. A statement fails if its
    interval lies wholly at or below its threshold, holds if its corrected p is at most alpha, and
    is undecided otherwise. One that could not have failed, since the claim that it is given does
    not hold, was not testable; it counts in the correction, with which that was decided.

    Parameters
    ----------
    subject, experiment : str
        Whose.
    statements : sequence of Statement
        All of them.
    alpha : float
        The level.

    Returns
    -------
    DataFrame
        One row each, in their order, with
        :data:`lmri.validate.claims.CLAIM_COLUMNS`.
    """
    tested = [own for own in statements if own.testable]
    corrected = dict(
        zip((own.claim for own in tested), holm([own.p for own in tested]), strict=True)
    )
    outcomes = {
        own.claim: _outcome(own, corrected.get(own.claim, math.nan), alpha) for own in statements
    }
    judged = [_given(own, outcomes) for own in statements]
    family = f"{len(tested)} statements (Holm)"
    rows = [
        {
            "subject": subject,
            "contrast": experiment,
            "phase": "",
            "kind": KIND,
            "method": "",
            "finding": f"experiments/{subject}/{experiment}",
            "claim": own.claim,
            "claim_kind": KIND,
            "statement": own.statement,
            "statistic": own.score,
            "threshold": own.threshold,
            "controls": own.controls,
            "split": own.split,
            "family": family if own.testable else "",
            "n": own.n,
            "n_carriers": own.n_carriers,
            "effect": own.effect,
            "low": own.low,
            "high": own.high,
            "p": own.p,
            "p_corrected": corrected[own.claim] if own.testable else math.nan,
            "outcome": outcomes[own.claim] if own.testable else UNTESTED,
            "reason": own.reason,
            "finding_hash": "",
        }
        for own in judged
    ]
    return pd.DataFrame(rows, columns=list(CLAIM_COLUMNS))


def _given(statement: Statement, outcomes: Mapping[str, str]) -> Statement:
    """Withdraw a statement that holds, or could, only since the one that it is given does not."""
    is_given = not statement.given or outcomes[statement.given] == "holds"
    if is_given or not statement.testable or outcomes[statement.claim] == "fails":
        return statement
    reason = f"'{statement.given}' does not hold: what takes nothing away spares all else"
    return Statement.untested(statement.claim, statement.statement, reason, statement.score)


def _outcome(statement: Statement, p: float, alpha: float) -> str:
    if not statement.testable:
        return UNTESTED
    if statement.high <= statement.threshold:
        return "fails"
    return "holds" if p <= alpha + 1e-12 else "undecided"
