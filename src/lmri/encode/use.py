"""What bands explain of the residual, beside what their subspaces do for the output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmri.anatomy import Subject
from lmri.encode.activity import Trials, Units, blocks
from lmri.encode.analysis import Design
from lmri.encode.moments import Moments, Trained
from lmri.encode.ridge import choose, fit
from lmri.encode.scores import held_out_scores
from lmri.encode.subspaces import (
    band_subspace,
    matched_subspace,
    next_tokens,
    output_effect,
    recorded_texts,
    share_of,
)
from lmri.errors import EvidenceError
from lmri.store import Recording

PHASE = "prompt_last"
"""Phase that states are read and ablated in."""

UNSEEN = "calibration"
"""Split whose trials are run; its carriers are not those of the fit."""

LEAST = 10
"""Trials that an effect is measured on, at least."""


def use_of_bands(
    subject: Subject,
    recordings: Sequence[Recording],
    trials: Trials,
    units: Units,
    design: Design,
    *,
    draws: int,
    most: int,
    seed: int,
) -> pd.DataFrame:
    """Ablate the subspace of every band in every layer.

    Parameters
    ----------
    subject : Subject
        The subject.
    recordings : sequence of Recording
        Shards of a task, with the split :data:`UNSEEN`.
    trials : Trials
        Rows that bands are fitted on, in :data:`PHASE`.
    units : Units
        Dimensions of the residual.
    design : Design
        Features, bands and folds.
    draws : int
        Random subspaces beside each.
    most : int
        Trials that are run.
    seed : int
        Seed of the draws.

    Returns
    -------
    DataFrame
        One row per layer and band: ``role``, ``rank``, ``explained`` (held-out, the band's part of
        R² of the whole state), ``predicted`` and ``share`` (of variance), ``divergence`` and
        ``changed`` (see :func:`lmri.encode.subspaces.output_effect`), the mean and the largest
        divergence of random subspaces, their mean share and ``overlap`` with the band's (mean
        squared cosine: near 1 where so much variance is in one direction that no other has it),
        ``p``, ``n``.

    Raises
    ------
    EvidenceError
        If too few trials of the split were recorded.
    """
    texts = recorded_texts(recordings, UNSEEN, most)
    if len(texts) < LEAST:
        raise EvidenceError(
            f"The effect of ablating subspaces needs at least {LEAST} recorded trials of the split "
            f"'{UNSEEN}'. Got {len(texts)}: add it to 'record.splits'."
        )
    intact = next_tokens(subject, texts)
    rows = []
    for place, layer in enumerate(units.layers):
        states = _states(trials, units, place)
        rng = np.random.default_rng([seed, layer])
        for found in _layer(states, design):
            basis, share = found.pop("basis"), found["share"]
            origin, covariance = states.mean(axis=0), np.cov(states.T)
            random = [matched_subspace(covariance, found["rank"], share, rng) for _ in range(draws)]
            effects = [
                output_effect(intact, next_tokens(subject, texts, layer, own, origin))
                for own in [basis, *random]
            ]
            null = np.array([own["divergence"] for own in effects[1:]])
            rows.append(
                {
                    "phase": PHASE,
                    "layer": layer,
                    **found,
                    **effects[0],
                    "random_mean": null.mean(),
                    "random_most": null.max(),
                    "overlap": np.mean([((basis.T @ own) ** 2).sum() for own in random])
                    / found["rank"],
                    "random_share": np.mean([share_of(covariance, own) for own in random]),
                    "p": (1 + (null >= effects[0]["divergence"]).sum()) / (1 + len(null)),
                    "draws": draws,
                    "n": len(texts),
                }
            )
    return pd.DataFrame(rows)


def _states(trials: Trials, units: Units, place: int) -> np.ndarray:
    """States after one layer: (n_rows, hidden)."""
    return np.concatenate([Y for _, Y in blocks(trials, units, only=place)], axis=1)


def _layer(states: np.ndarray, design: Design) -> list[dict]:
    """Fit all bands to the states of a layer and describe the subspace of each."""
    layout, folds, search = design.layout, design.folds, design.search
    moments = Moments(len(folds.apart), design.X.shape[1], states.shape[1])
    moments.add(design.X, states, folds.cell)
    variance = states.var(axis=0)
    split = held_out_scores(moments, folds, search, layout.sizes).split
    everywhere = np.arange(len(folds.apart))
    chosen = choose(moments, folds, everywhere, search, layout.sizes)
    trained = Trained.of(moments, everywhere)
    weights = fit(trained, chosen, search, layout.sizes)
    covariance = np.cov(states.T)
    found = []
    for place, (name, role) in enumerate(zip(layout.names, layout.roles, strict=True)):
        own = band_subspace(trained, weights, layout.slices[name], covariance)
        if own is None:
            continue
        found.append(
            {
                "band": name,
                "role": role,
                "rank": own.basis.shape[1],
                "explained": float(np.nansum(split[place] * variance) / variance.sum()),
                "predicted": own.predicted,
                "share": own.share,
                "basis": own.basis,
            }
        )
    return found
