"""Profiles of single tokens: massive activations, and how many neurons are active."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from lmri.errors import EvidenceError
from lmri.information.clustered import ClusteredMeans
from lmri.information.texts import text_values
from lmri.store import Recording

EXTREMES = ("tokens/extremes/value", "tokens/extremes/median")

NEURONS = ("neuron", "expert_neuron", "shared_neuron")
"""Kinds of neurons; those of an expert count where it is chosen."""

TAIL = 0.2
"""Share of the norm of a token's activity that its inactive neurons have together."""


def massive_profile(
    recordings: Sequence[Recording], *, split: str | None = "selection"
) -> xr.Dataset:
    """Profile by layer how far the largest dimension of a state is above the others.

    ``mean over texts of max |h_i|`` over ``mean over texts of median |h_i|``, the ratio that is
    followed over training.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task, with ``extremes``.
    split : str, optional
        Trials; None takes all.

    Returns
    -------
    Dataset
        Over (layer, place): ``largest`` and ``median`` (units of the residual stream), means over
        texts; ``ratio`` with ``ratio_error``, its standard error over texts and their
        carriers; ``flags``: ``few_samples`` below 10 texts. Attribute ``texts``.

    Raises
    ------
    EvidenceError
        If the recording lacks the array, or the split has no trial.

    Notes
    -----
    Gallego-Feliciano et al. 2025 (arXiv:2508.03616) average ten texts.
    """
    _check(recordings, EXTREMES[:1], "'extremes' to 'record.quantities'")
    sums: ClusteredMeans | None = None
    totals = np.zeros(0)
    for carriers, (values, medians) in text_values(recordings, EXTREMES, split):
        largest = np.abs(values.astype(np.float64)).max(axis=(0, -1))  # (layers, places)
        median = medians.astype(np.float64).mean(axis=0)
        if sums is None:
            sums, totals = ClusteredMeans(largest.shape), np.zeros((2, *largest.shape))
        sums.add(largest, median, carriers)
        totals += np.stack([largest, median])
    if sums is None:
        raise EvidenceError(_without_trials("Massive activations", split))
    array = recordings[0].array
    dims = ("layer", "place")
    few = "few_samples" if sums.clusters < 10 else ""
    return xr.Dataset(
        {
            "largest": (dims, totals[0] / sums.clusters),
            "median": (dims, totals[1] / sums.clusters),
            "ratio": (dims, sums.mean()),
            "ratio_error": (dims, sums.error()),
            "flags": (dims, np.full(totals[0].shape, few, dtype="U11")),
        },
        coords={
            "layer": [int(own) for own in array("tokens/extremes/layer")[:]],
            "place": [str(own) for own in array("tokens/extremes/place")[:]],
        },
        attrs={"texts": sums.clusters},
    )


def activity_profile(
    recordings: Sequence[Recording], *, split: str | None = "selection", tail: float = TAIL
) -> xr.Dataset:
    """Profile by layer which share of its neurons a token needs.

    A neuron is active in a token if it is among the fewest whose others together have at most
    ``tail`` of the norm of the token's activity. Neurons of experts are those of the chosen ones.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task, with ``neuron`` in ``record.full``.
    split : str, optional
        Trials; None takes all.
    tail : float
        Above 0 and below 1.

    Returns
    -------
    Dataset
        Over (kind, layer), kinds of :data:`NEURONS`, NaN where a layer has none: ``active``, mean
        over tokens of the share of active neurons; ``nonzero``, that of neurons that are not
        exactly 0, which is the activation ratio of rectifiers; both with ``<name>_error`` over
        texts; ``flags``: ``few_samples`` below 10 texts. Attributes ``texts``, ``tail``.

    Raises
    ------
    EvidenceError
        If the recording lacks the neurons of its tokens, or the split has no trial.

    Notes
    -----
    The Sparsing Law (arXiv:2411.02335) weighs what neurons write and allows one threshold for a
    layer; here it is their activity alone, token by token.
    """
    if not 0 < tail < 1:
        raise EvidenceError(f"The 'tail' of active neurons must be in (0, 1). Got {tail!r}.")
    names = {kind: f"tokens/{kind}/activation" for kind in NEURONS}
    held = {kind: name for kind, name in names.items() if recordings and recordings[0].holds(name)}
    if not held:
        keys = "'neuron' to 'record.quantities' and 'record.full'"
        _check(recordings, [names["neuron"]], keys)
    parts = {kind: _active(recordings, name, split, tail) for kind, name in held.items()}
    missing = {name: "" if name == "flags" else np.nan for name in next(iter(parts.values()))}
    kinds = pd.Index(list(parts), name="kind")
    return xr.concat(list(parts.values()), kinds, join="outer", fill_value=missing)


def _active(
    recordings: Sequence[Recording], name: str, split: str | None, tail: float
) -> xr.Dataset:
    means: ClusteredMeans | None = None
    for carriers, (values,) in text_values(recordings, [name], split):
        own = np.abs(values.astype(np.float64)).reshape(*values.shape[:2], -1)
        if means is None:
            means = ClusteredMeans((2, own.shape[1]))
        shares = np.stack([active_share(own, tail), (own > 0).mean(axis=-1)])  # (2, tokens, layers)
        means.add(shares.sum(axis=1), np.full(shares.shape[::2], len(own)), carriers)
    if means is None:
        raise EvidenceError(_without_trials("Active neurons", split))
    node = name.rpartition("/")[0]
    layers = [int(own) for own in recordings[0].array(f"{node}/layer")[:]]
    mean, error = means.mean(), means.error()
    few = "few_samples" if means.clusters < 10 else ""
    return xr.Dataset(
        {
            "active": ("layer", mean[0]),
            "active_error": ("layer", error[0]),
            "nonzero": ("layer", mean[1]),
            "nonzero_error": ("layer", error[1]),
            "flags": ("layer", np.full(len(layers), few, dtype="U11")),
        },
        coords={"layer": layers},
        attrs={"texts": means.clusters, "tail": tail},
    )


def active_share(sizes: np.ndarray, tail: float = TAIL) -> np.ndarray:
    """Smallest share of units whose others have at most ``tail`` of the Euclidean norm.

    Parameters
    ----------
    sizes : ndarray of shape (..., n_units)
        Magnitudes, not negative.
    tail : float
        Share of the norm.

    Returns
    -------
    ndarray of shape (...), float64
        From 0, where all are 0, to 1.
    """
    squares = np.sort(np.square(sizes), axis=-1)
    left = np.cumsum(squares, axis=-1)
    spared = (left <= tail**2 * left[..., -1:]).sum(axis=-1)
    return 1 - spared / sizes.shape[-1]


def _check(recordings: Sequence[Recording], names: Sequence[str], keys: str) -> None:
    for recording in recordings:
        for name in names:
            if not recording.holds(name):
                raise EvidenceError(
                    f"{recording.path}: the recording must hold '{name}'. It does not: add {keys} "
                    "of the configuration and record again."
                )


def _without_trials(what: str, split: str | None) -> str:
    return f"{what} must be looked for in recorded trials. The split '{split}' has none."
