"""What may be said of information between two layers, or two checkpoints, as a table."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import false_discovery_control

from lmri.information.agreement import LEVEL, NOT_SHOWN, QUANTITIES, information_change

OF_INPUTS = "I(X;T)"

COLUMNS = (
    "quantity",
    "target",
    "phase",
    "layer",
    "until_layer",
    "word",
    "p",
    "q",
    "channels",
    "left_out",
)


def between_layers(profile: xr.Dataset) -> pd.DataFrame:
    """Compare the first layer of a profile with the last.

    All comparisons of a table are corrected together (:func:`corrected`).

    Parameters
    ----------
    profile : Dataset
        From :func:`lmri.information.mutual_profile.information_of`.

    Returns
    -------
    DataFrame
        A row per phase for I(X;T), of no target, and per phase and target for I(T;Y):
        :data:`COLUMNS`. ``channels`` is JSON, the sign of
        the change by family; ``p`` is of one comparison, ``q`` of all in the table, and ``word``
        is said by q; ``left_out`` names flagged or missing estimates. No row of a profile with one
        layer.
    """
    layers = [int(layer) for layer in profile["layer"].values]
    if len(layers) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    pairs = [(profile, layers[0], profile, layers[-1])]
    return _changes(pairs)


def between_checkpoints(first: xr.Dataset, last: xr.Dataset) -> pd.DataFrame:
    """Compare the profiles of two checkpoints, layer by layer.

    Parameters
    ----------
    first, last : Dataset
        As for :func:`between_layers`.

    Returns
    -------
    DataFrame
        As of :func:`between_layers`, a row per layer too, where both have the target, phase and
        layer.
    """
    shared = [int(own) for own in first["layer"].values if own in last["layer"].values]
    return _changes([(first, layer, last, layer) for layer in shared])


def _changes(pairs: list[tuple[xr.Dataset, int, xr.Dataset, int]]) -> pd.DataFrame:
    rows = []
    for before, layer, after, until in pairs:
        targets = [own for own in before["target"].values if own in after["target"].values]
        phases = [own for own in before["phase"].values if own in after["phase"].values]
        for number, target in enumerate(targets):
            for phase in phases:
                at = {"target": target, "phase": phase}
                one, other = before.sel({**at, "layer": layer}), after.sel({**at, "layer": until})
                # What is told of the inputs is the same whatever attribute is asked about.
                rows += [
                    _row(one, other, own) for own in QUANTITIES if own != OF_INPUTS or not number
                ]
    return corrected(pd.DataFrame(rows, columns=list(COLUMNS)))


def corrected(changes: pd.DataFrame) -> pd.DataFrame:
    """Correct comparisons for their number, and take back the words that do not stand it.

    Parameters
    ----------
    changes : DataFrame
        With ``p``, NaN where nothing could be compared, and ``word``.

    Returns
    -------
    DataFrame
        With ``q`` (Benjamini and Hochberg over all that could be compared); ``not shown`` where q
        is above :data:`lmri.information.agreement.LEVEL`.
    """
    p = changes["p"].to_numpy(dtype=np.float64)
    q = np.full(len(p), np.nan)
    tested = np.isfinite(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested])
    word = changes["word"].where(q <= LEVEL, NOT_SHOWN)
    return changes.assign(q=q, word=word)


def _row(before: xr.Dataset, after: xr.Dataset, quantity: str) -> dict:
    claim = information_change(before, after, quantity)
    return {
        "quantity": quantity,
        "target": "" if quantity == OF_INPUTS else str(before["target"].values),
        "phase": str(before["phase"].values),
        "layer": int(before["layer"]),
        "until_layer": int(after["layer"]),
        "word": claim.word,
        "p": claim.p,
        "channels": json.dumps(claim.channels, sort_keys=True),
        "left_out": ", ".join(claim.left_out),
    }
