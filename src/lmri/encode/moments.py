"""Sums that a ridge regression needs, cell by cell: all of the data that is ever kept.

For every cell ``c`` of the folds::

    n_c,  Σx,  Σy,  Σxx',  Σxy',  Σy²

Training sets are sums over cells, so every fold, inner fold, penalty and band is fitted and scored
from these alone. Rows are added in blocks and forgotten: memory is that of
``cells × features × (features + units)`` and grows neither with tokens nor with trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

LEAST_SPREAD = 0.1
"""Deviation in training, as a share of that over all rows, up to which a feature is constant.

Its few values in training say little, and one in the test would be many deviations away.
"""


@dataclass
class Moments:
    """Running sums of features and units, by cell, in float64.

    Sums are taken about the mean of the first block, which loses fewer digits.

    Parameters
    ----------
    cells, features, units : int
        Number of each.

    Attributes
    ----------
    n : ndarray of shape (cells,)
        Rows.
    x, y : ndarray of shape (cells, features), (cells, units)
        Sums.
    xx : ndarray of shape (cells, features, features)
        Sums of products of features.
    xy : ndarray of shape (cells, features, units)
        Sums of products of features and units.
    yy : ndarray of shape (cells, units)
        Sums of squares.
    about : tuple of ndarray of shape (features,), (units,), or None
        What the sums are about; None before the first row.
    """

    cells: int
    features: int
    units: int
    n: np.ndarray = field(init=False)
    x: np.ndarray = field(init=False)
    y: np.ndarray = field(init=False)
    xx: np.ndarray = field(init=False)
    xy: np.ndarray = field(init=False)
    yy: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        cells, features, units = self.cells, self.features, self.units
        self.n = np.zeros(cells)
        self.x, self.y = np.zeros((cells, features)), np.zeros((cells, units))
        self.xx = np.zeros((cells, features, features))
        self.xy = np.zeros((cells, features, units))
        self.yy = np.zeros((cells, units))
        self.about: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, X: np.ndarray, Y: np.ndarray, cell: np.ndarray) -> None:
        """Add rows.

        Parameters
        ----------
        X : ndarray of shape (n_rows, features)
            Features.
        Y : ndarray of shape (n_rows, units)
            Activity.
        cell : ndarray of shape (n_rows,), int64
            Cell of each row.
        """
        if not len(X):
            return
        if self.about is None:
            self.about = X.mean(axis=0, dtype=np.float64), Y.mean(axis=0, dtype=np.float64)
        for own in np.unique(cell):
            rows = cell == own
            features = X[rows].astype(np.float64) - self.about[0]
            units = Y[rows].astype(np.float64) - self.about[1]
            self.n[own] += len(features)
            self.x[own] += features.sum(axis=0)
            self.y[own] += units.sum(axis=0)
            self.xx[own] += features.T @ features
            self.xy[own] += features.T @ units
            self.yy[own] += np.einsum("ij,ij->j", units, units)

    def of(self, columns: np.ndarray) -> Moments:
        """Take some of the features: the moments of a model with fewer bands."""
        made = Moments(self.cells, len(columns), 0)
        made.units, made.n, made.y, made.yy = self.units, self.n, self.y, self.yy
        if self.about is not None:
            made.about = self.about[0][columns], self.about[1]
        made.x, made.xy = self.x[:, columns], self.xy[:, columns]
        made.xx = self.xx[:, columns][:, :, columns]
        return made


@dataclass(frozen=True)
class Trained:
    """Centred and scaled sums of training cells.

    Attributes
    ----------
    n : float
        Rows.
    x, y : ndarray of shape (features,), (units,)
        Means.
    scale : ndarray of shape (features,)
        Standard deviations; infinite for a feature that varies too little (see
        :data:`LEAST_SPREAD`), which is then 0 in training and in test.
    xx, xy : ndarray of shape (features, features), (features, units)
        Sums of products of standardised features, and of these with centred units.
    """

    n: float
    x: np.ndarray
    y: np.ndarray
    scale: np.ndarray
    xx: np.ndarray
    xy: np.ndarray

    @classmethod
    def of(cls, moments: Moments, cells: Sequence[int] | np.ndarray) -> Trained:
        """Sum the training cells.

        Parameters
        ----------
        moments : Moments
            All cells.
        cells : sequence of int
            Those to train on.

        Returns
        -------
        Trained
            Their sums.
        """
        cells = np.asarray(cells)
        n = moments.n[cells].sum()
        x, y = moments.x[cells].sum(axis=0) / n, moments.y[cells].sum(axis=0) / n
        xx = moments.xx[cells].sum(axis=0) - n * np.outer(x, x)
        spread = np.sqrt(np.clip(np.diag(xx), 0, None) / n)
        # Dividing by infinity leaves nothing of a feature that all but stands still in training.
        scale = np.where(spread > LEAST_SPREAD * _spread(moments), spread, np.inf)
        xy = sum(moments.xy[cell] for cell in cells) - n * np.outer(x, y)
        return cls(n, x, y, scale, xx / np.outer(scale, scale), xy / scale[:, None])

    def seen(self, moments: Moments, cell: int) -> Tested:
        """Sums of a test cell as this training sees it, standardised by its means and scales."""
        n, x, y = moments.n[cell], moments.x[cell], moments.y[cell]
        xx = moments.xx[cell] - np.outer(x, self.x) - np.outer(self.x, x)
        xx = (xx + n * np.outer(self.x, self.x)) / np.outer(self.scale, self.scale)
        xy = moments.xy[cell] - np.outer(x, self.y) - np.outer(self.x, y)
        xy = (xy + n * np.outer(self.x, self.y)) / self.scale[:, None]
        yy = moments.yy[cell] - 2 * y * self.y + n * self.y**2
        return Tested(n, (x - n * self.x) / self.scale, y - n * self.y, xx, xy, yy)


@dataclass(frozen=True)
class Tested:
    """Sums of a test cell about the means of its training, see :meth:`Trained.seen`.

    Attributes
    ----------
    n : float
        Rows.
    x, y : ndarray of shape (features,), (units,)
        Sums.
    xx, xy, yy : ndarray
        Sums of products.
    """

    n: float
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray


def _spread(moments: Moments) -> np.ndarray:
    """Standard deviation of every feature over all rows: array of shape (features,)."""
    n, x = moments.n.sum(), moments.x.sum(axis=0)
    squares = np.einsum("cff->f", moments.xx)
    return np.sqrt(np.clip(squares - x * x / n, 0, None) / n)
