"""Compression scores of layers, from how their information went over training.

``C = (max_t I(t) - I(end)) / max_t I(t)`` of I(X;T), after a moving mean over three measured
epochs. The paper's own formula is not known. C is never below 0, and any wobble makes it positive:
that is why claims ask for more than :data:`lmri.information.bottleneck.claims.LEAST`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd

from lmri.errors import EvidenceError
from lmri.information.bottleneck.network import LAYERS

WINDOW = 3
"""Measured epochs of the moving mean."""

LEARNED = 0.1
"""A network has learned if its training accuracy exceeds that of the majority by as much."""

HIDDEN = slice(0, len(LAYERS) - 1)
OUTPUT = len(LAYERS) - 1


def compression(information: np.ndarray) -> np.ndarray:
    """Score how much of its largest information a layer has lost at the end of training.

    Parameters
    ----------
    information : ndarray of shape (..., n_epochs)
        I(X;T) at the measured epochs.

    Returns
    -------
    ndarray of shape (...)
        C in [0, 1]; NaN where there never was any information.

    Raises
    ------
    EvidenceError
        If there are fewer epochs than the moving mean takes.
    """
    values = np.asarray(information, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] < WINDOW:
        raise EvidenceError(
            f"A compression score needs at least {WINDOW} measured epochs. Got the shape "
            f"{values.shape}: raise 'bottleneck.measured'."
        )
    smooth = smoothed(values)
    most = smooth.max(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(most > 0, (most - smooth[..., -1]) / most, np.nan)


def smoothed(values: np.ndarray) -> np.ndarray:
    """Moving mean over the last axis; the first and the last value count twice at the ends."""
    ends = [(0, 0)] * (values.ndim - 1) + [(WINDOW // 2, WINDOW // 2)]
    padded = np.pad(values, ends, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=-1).mean(axis=-1)


@dataclass(frozen=True)
class Trajectories:
    """What every network of the study did.

    Attributes
    ----------
    settings : dict of str to tuple of (str, float)
        Activation and penalty by name.
    epochs : ndarray of int
        Measured epochs.
    information : dict of str to ndarray of shape (setting, initialisation, layer, epoch)
        I(X;T) in nats by channel.
    accuracy : ndarray of shape (setting, initialisation)
        On test inputs at the end.
    learned : ndarray of shape (setting, initialisation), bool
        Which networks have learned, see :data:`LEARNED`.
    scores : dict of str to ndarray of shape (setting, initialisation, layer)
        Compression by channel; NaN for networks that have not learned.
    """

    settings: Mapping[str, tuple[str, float]]
    epochs: np.ndarray
    information: Mapping[str, np.ndarray]
    accuracy: np.ndarray
    learned: np.ndarray
    scores: Mapping[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        """Score every network that has learned."""
        scores = {
            channel: np.where(self.learned[..., None], compression(values), np.nan)
            for channel, values in self.information.items()
        }
        object.__setattr__(self, "scores", scores)

    @classmethod
    def from_tables(
        cls,
        settings: Mapping[str, tuple[str, float]],
        information: pd.DataFrame,
        training: pd.DataFrame,
    ) -> Self:
        """Arrange the tables of all settings.

        Parameters
        ----------
        settings : mapping of str to tuple of (str, float)
            Activation and penalty by name, in order.
        information, training : DataFrame
            Tables of :func:`lmri.information.bottleneck.train_bottleneck`, of all settings.

        Returns
        -------
        Trajectories
            The study.

        Raises
        ------
        EvidenceError
            If settings were trained differently, or one is missing.
        """
        names = list(settings)
        epochs = np.sort(information["epoch"].unique())
        numbers = np.sort(information["initialisation"].unique())
        shape = (len(names), len(numbers), len(LAYERS), len(epochs))
        arranged = {}
        for channel, own in information.groupby("channel", sort=False):
            keys = [own[key] for key in ("setting", "initialisation", "layer", "epoch")]
            orders = (names, numbers, LAYERS, epochs)
            places = tuple(
                pd.Index(order).get_indexer(key) for key, order in zip(keys, orders, strict=True)
            )
            values = np.full(shape, np.nan)
            values[places] = own["i_xt"]
            if len(own) != values.size or np.isnan(values).any() or min(map(min, places)) < 0:
                raise EvidenceError(
                    f"Every setting must have the same initialisations and epochs in '{channel}': "
                    f"expected {values.size} rows of {len(names)} settings, got {len(own)}. Train "
                    "all settings with the same options."
                )
            arranged[str(channel)] = values
        last = training[training["epoch"] == epochs[-1]].set_index(["setting", "initialisation"])
        last = last.reindex(pd.MultiIndex.from_product([names, numbers]))
        by_network = {name: last[name].to_numpy().reshape(shape[:2]) for name in last.columns}
        learned = by_network["accuracy_training"] >= by_network["majority"] + LEARNED
        return cls(settings, epochs, arranged, by_network["accuracy_test"], learned)

    def place(self, activation: str, l2: bool = False) -> int | None:
        """Number of the setting of an activation; with ``l2`` that of its strongest penalty.

        None if the study has no such setting.
        """
        own = [
            (penalty, number)
            for number, (name, penalty) in enumerate(self.settings.values())
            if name == activation and (penalty > 0) == l2
        ]
        return max(own)[1] if own else None
