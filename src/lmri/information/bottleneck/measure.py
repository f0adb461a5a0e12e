"""Information of a layer's activity through the estimators of the study.

A network without noise tells everything of its inputs, so every number here belongs to its channel:
adaptive bins (EBAB), noise that follows the layer's scale (aKDE) at each of several strengths, and
bins of one width. An estimate that tells nearly every input from every other is flagged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmri.information.binning import ebab, fixed_bins
from lmri.information.bottleneck.network import LAYERS, Snapshot
from lmri.information.estimate import Estimate
from lmri.information.guards import guard
from lmri.information.kernel import adaptive_kde

FIXED_BINS = "bins"
WIDTH = 0.07
"""Width of the fixed bins, that of Saxe et al. 2018."""


def channel_names(variances: Sequence[float]) -> tuple[str, ...]:
    """Names of the channels: ``ebab``, ``akde_<variance>`` for each, ``bins``."""
    return ("ebab", *(f"akde_{own:g}" for own in variances), FIXED_BINS)


def measure_snapshot(
    snapshot: Snapshot, labels: np.ndarray, rows: np.ndarray, variances: Sequence[float]
) -> list[dict[str, object]]:
    """Estimate the information of every network and layer.

    Parameters
    ----------
    snapshot : Snapshot
        Networks after an epoch.
    labels : ndarray of shape (n_inputs,)
        Labels of all inputs.
    rows : ndarray of int
        Inputs that aKDE is of, whose time is that of all pairs; bins take all.
    variances : sequence of float
        Variances of its noise, in units of the squared largest magnitude of the layer.

    Returns
    -------
    list of dict
        One for each network, layer and channel: ``epoch``, ``initialisation``, ``layer``,
        ``channel``, ``i_xt`` and ``i_ty`` in nats, ``n`` (inputs) and ``saturated``.
    """
    found = []
    for layer, activity in zip(LAYERS, snapshot.activity, strict=True):
        for number, own in enumerate(activity):
            place = {"epoch": snapshot.epoch, "initialisation": number, "layer": layer}
            measured = measure_layer(own, labels, rows, variances)
            found.extend({**place, **values} for values in measured)
    return found


def measure_layer(
    activity: np.ndarray, labels: np.ndarray, rows: np.ndarray, variances: Sequence[float]
) -> list[dict[str, object]]:
    """Estimate the information of one layer of one network.

    Parameters
    ----------
    activity : ndarray of shape (n_inputs, width)
        Activity on all inputs.
    labels, rows, variances
        As for :func:`measure_snapshot`.

    Returns
    -------
    list of dict
        One for each channel, without the place.
    """
    some = activity[rows]
    if np.ptp(some, axis=0).any():
        noisy = [
            own
            for own in adaptive_kde(some, labels[rows], variances=variances)
            if own.estimator == "akde_upper"
        ]
        kernel = [_values(pair) for pair in zip(noisy[::2], noisy[1::2], strict=True)]
    else:
        # A layer that died says nothing of anything, through whatever noise.
        still = {"i_xt": 0.0, "i_ty": 0.0, "n": len(rows), "saturated": False}
        kernel = [still] * len(variances)
    found = [
        _values(ebab(activity, labels)),
        *kernel,
        _values(fixed_bins(activity, labels, width=WIDTH)),
    ]
    names = channel_names(variances)
    return [{"channel": name, **own} for name, own in zip(names, found, strict=True)]


def _values(pair: Sequence[Estimate]) -> dict[str, object]:
    about_inputs, about_labels = pair
    return {
        "i_xt": about_inputs.value,
        "i_ty": about_labels.value,
        "n": about_inputs.n,
        "saturated": guard(about_inputs).has("saturation"),
    }
