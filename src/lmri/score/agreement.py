"""Agreement of labels by hand with a scorer, arm by arm, with intervals over carriers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from lmri.checks import shortened
from lmri.errors import ScoreError
from lmri.score.intervals import Resampler
from lmri.score.sheets import CARRIER, hash_of

LEVEL, RESAMPLES = 0.95, 2000


def cohens_kappa(
    first: np.ndarray, second: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Agreement beyond chance: ``(p_o - p_e) / (1 - p_e)``.

    ``p_o`` is the share of equal labels and ``p_e = p q + (1 - p)(1 - q)`` what it would be if two
    raters with these rates p and q of ones labelled independently.

    Parameters
    ----------
    first, second : ndarray of shape (n,)
        Labels, 0 or 1.
    weights : ndarray of shape (draws, n), optional
        Weights that add up to 1; by default one draw of equal ones.

    Returns
    -------
    ndarray of shape (draws,), float64
        At most 1; NaN where both raters always gave the same one label, so that chance agrees.

    Notes
    -----
    Cohen 1960, A coefficient of agreement for nominal scales.
    """
    weights = np.full((1, len(first)), 1 / len(first)) if weights is None else weights
    observed = weights @ (first == second)
    p, q = weights @ first, weights @ second
    expected = p * q + (1 - p) * (1 - q)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)


def agreement_by_arm(
    labels: pd.DataFrame,
    scores: pd.DataFrame,
    scorer: str,
    *,
    threshold: float = 0.5,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare labels with a scorer, in every arm and in all together.

    Parameters
    ----------
    labels : DataFrame
        From :func:`lmri.score.read_labels`, indexed by the row of the response.
    scores : DataFrame
        Indexed likewise, with ``answer`` and the scorer's column.
    scorer : str
        Name of the scorer's column.
    threshold : float
        A score of at least this is a 1.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    DataFrame
        Per arm, ``all`` last: ``n``, ``n_carriers``, ``labelled`` and ``scored`` (rates of ones),
        ``agreement`` with ``agreement_low`` and ``agreement_high``, ``kappa`` with ``kappa_low``
        and ``kappa_high``: 95 % over carriers (:class:`lmri.score.Resampler`). Without any
        disagreement the bootstrap knows no other kappa, and it has no interval; nor has it where
        it is undefined.

    Raises
    ------
    ScoreError
        If the key is of other responses, or nothing labelled has a score.
    """
    missing = labels.index.difference(scores.index)
    if len(missing):
        raise ScoreError(
            f"The key must be of these responses. Got the row {missing[0]}, past the last of them."
        )
    own = scores.loc[labels.index]
    for row, wanted in labels["answer_hash"].items():
        if hash_of(own.at[row, "answer"]) != wanted:
            raise ScoreError(
                f"The key must be of these responses. Got another answer in row {row}: "
                f"{shortened(own.at[row, 'answer'])}."
            )
    known = own[scorer].notna().to_numpy()
    if not known.any():
        raise ScoreError(
            f"The scorer '{scorer}' must apply to a labelled response. It does to none."
        )
    labels = labels[known]
    said = (own[scorer][known] >= threshold).to_numpy(dtype=np.float64)
    rows = [
        _agreement(arm, labels[mine], said[mine], seed)
        for arm in sorted(labels["arm"].unique())
        for mine in [(labels["arm"] == arm).to_numpy()]
    ]
    rows.append(_agreement("all", labels, said, seed))
    return pd.DataFrame(rows)


def _agreement(arm: str, labels: pd.DataFrame, said: np.ndarray, seed: int) -> dict:
    by_hand = labels["label"].to_numpy(dtype=np.float64)
    same = (by_hand == said).astype(np.float64)
    resampler = Resampler(_carriers(labels), RESAMPLES, seed)
    rate = resampler.effect(same, LEVEL)
    kappa = float(cohens_kappa(by_hand, said)[0])
    low = high = math.nan
    if not same.all() and not math.isnan(kappa):
        drawn = cohens_kappa(by_hand, said, resampler.weights)
        tail = (1 - LEVEL) / 2
        low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return {
        "arm": arm,
        "n": len(labels),
        "n_carriers": rate.n_carriers,
        "labelled": float(by_hand.mean()),
        "scored": float(said.mean()),
        "agreement": rate.mean,
        "agreement_low": max(0.0, rate.low),
        "agreement_high": min(1.0, rate.high),
        "kappa": kappa,
        "kappa_low": float(low),
        "kappa_high": float(high),
    }


def _carriers(labels: pd.DataFrame) -> pd.DataFrame:
    """Carriers that all rows have; without any the trial is one."""
    names = [name for name in labels if name.startswith(CARRIER) and (labels[name] != "").all()]
    return labels[names] if names else labels[["trial"]]
