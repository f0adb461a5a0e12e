"""Outcomes of claims as rows of ``claims.parquet``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lmri.validate.claims.judging import Outcome

CLAIM_COLUMNS = (
    *("subject", "contrast", "phase", "kind", "method", "finding", "claim", "claim_kind"),
    *("statement", "statistic", "threshold", "controls", "split", "family", "n", "n_carriers"),
    *("effect", "low", "high", "p", "p_corrected", "outcome", "reason", "finding_hash"),
)


def claim_rows(finding: dict, outcomes: Sequence[Outcome]) -> list[dict]:
    """Describe what came of the claims of a finding.

    Parameters
    ----------
    finding : dict
        The finding.
    outcomes : sequence of Outcome
        Of its claims.

    Returns
    -------
    list of dict
        Rows with :data:`CLAIM_COLUMNS`.
    """
    return [_row(finding, own) for own in outcomes]


def untested_rows(finding: dict) -> list[dict]:
    """Describe that a finding that could not be tested has no claim that could.

    Parameters
    ----------
    finding : dict
        A hypothesis, null or not testable.

    Returns
    -------
    list of dict
        One row, for its primary claim.
    """
    return [
        {
            **_named(finding),
            "claim": "necessity",
            "claim_kind": "necessity",
            "statement": "",
            "statistic": "",
            "threshold": math.nan,
            "controls": "",
            "split": "",
            "family": "primary",
            **dict.fromkeys(("n", "n_carriers"), 0),
            **dict.fromkeys(("effect", "low", "high", "p", "p_corrected"), math.nan),
            "outcome": "not testable",
            "reason": finding["reason"],
            "finding_hash": finding["hash"],
        }
    ]


def _named(finding: dict) -> dict:
    place = f"{finding['contrast']}.{finding['phase']}"
    return {
        **{name: finding[name] for name in ("subject", "contrast", "phase", "kind", "method")},
        "finding": f"{place}/{finding['kind']}.{finding['method']}",
    }


def _row(finding: dict, own: Outcome) -> dict:
    claim, effect = own.judged.claim, own.judged.effect
    numbers = dict.fromkeys(("effect", "low", "high"), math.nan)
    if effect is not None:
        numbers = {"effect": effect.mean, "low": effect.low, "high": effect.high}
    return {
        **_named(finding),
        "claim": claim.name,
        "claim_kind": claim.kind,
        "statement": claim.statement,
        "statistic": claim.statistic,
        "threshold": claim.margin,
        "controls": ", ".join(claim.controls),
        "split": claim.split,
        "family": own.family,
        "n": 0 if effect is None else effect.n,
        "n_carriers": 0 if effect is None else effect.n_carriers,
        **numbers,
        "p": own.judged.p,
        "p_corrected": own.p_corrected,
        "outcome": own.outcome,
        "reason": own.judged.reason,
        "finding_hash": finding["hash"],
    }
