"""Rate reduction: how many fewer nats code the rows of each class by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lmri.errors import EvidenceError
from lmri.information.spectral import spectrum, unit_rows


@dataclass(frozen=True)
class RateReduction:
    """Coding rates of all rows and of the classes.

    Attributes
    ----------
    rate : float
        Of all rows, in nats.
    within : float
        Mean over rows of the rate of their class.
    epsilon : float
        Distortion.
    null : ndarray of shape (n_draws,)
        ``reduction`` with the classes exchanged; empty where none were drawn.
    flags : tuple of str
        ``failed_null`` if the reduction is not above the 95 % quantile of the null,
        ``few_samples`` if a class has no more rows than dimensions and no null was drawn.
    """

    rate: float
    within: float
    epsilon: float
    null: np.ndarray
    flags: tuple[str, ...]

    @property
    def reduction(self) -> float:
        """``rate - within``, at least 0 up to rounding."""
        return self.rate - self.within

    @property
    def excess(self) -> float:
        """Reduction beyond the mean of the null; NaN without one."""
        return self.reduction - self.null.mean() if len(self.null) else float("nan")

    @property
    def p(self) -> float:
        """``(1 + as large) / (1 + draws)``; NaN without a null."""
        if not len(self.null):
            return float("nan")
        return float((1 + (self.null >= self.reduction).sum()) / (1 + len(self.null)))


def rate_reduction(
    rows: np.ndarray,
    labels: np.ndarray,
    epsilon: float = 0.5,
    *,
    draws: int = 0,
    carriers: np.ndarray | None = None,
    seed: int = 0,
) -> RateReduction:
    """Rate reduction of maximal coding rate reduction (Yu et al. 2020, arXiv:2006.08558).

    ``R(Z) - Σ_j n_j / n R(Z_j)`` with rows of length 1, not centred. It is 0 for classes of one
    distribution only with infinitely many rows; with few, any classes have a reduction above 0.
    Draw a null and read :attr:`RateReduction.excess`.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        States; each is divided by its length.
    labels : ndarray of shape (n,)
        Class of each row.
    epsilon : float
        Distortion.
    draws : int
        Exchanges of the classes, for the null.
    carriers : ndarray of shape (n,), optional
        What carries the class: exchanged as a whole. By default every row by itself.
    seed : int
        Of the exchanges.

    Returns
    -------
    RateReduction
        The rates.

    Raises
    ------
    EvidenceError
        If there are fewer than two classes, one has a single row, or a carrier has two classes.
    """
    rows, labels = unit_rows(rows), np.asarray(labels)
    names, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(labels) != len(rows) or len(names) < 2 or counts.min() < 2:
        raise EvidenceError(
            f"A rate reduction must have a label for each of {len(rows)} rows, and at least two "
            f"classes of at least 2 rows. Got {len(labels)} labels in classes of "
            f"{', '.join(map(str, counts))}."
        )
    rate = spectrum(rows, centred=False).coding_rate(epsilon)

    def within(own: np.ndarray) -> float:
        parts = (rows[own == j] for j in range(len(names)))
        return sum(
            len(part) / len(rows) * spectrum(part, centred=False).coding_rate(epsilon)
            for part in parts
        )

    null = np.array([rate - within(own) for own in _exchanged(classes, carriers, draws, seed)])
    found = within(classes)
    flags = []
    if draws and (not len(null) or rate - found <= np.quantile(null, 0.95)):
        flags.append("failed_null")
    if not draws and counts.min() <= rows.shape[1]:
        flags.append("few_samples")
    return RateReduction(rate, found, epsilon, null, tuple(flags))


def _exchanged(
    classes: np.ndarray, carriers: np.ndarray | None, draws: int, seed: int
) -> Iterator[np.ndarray]:
    """Classes of the rows, exchanged between carriers."""
    generator = np.random.default_rng(seed)
    places = np.arange(len(classes))
    if carriers is not None:
        _, places = np.unique(np.asarray(carriers), return_inverse=True)
    of_carrier = np.full(places.max() + 1, -1)
    of_carrier[places] = classes
    if (of_carrier[places] != classes).any():
        raise EvidenceError("A carrier must have one class to be exchanged. One has several.")
    for _ in range(draws):
        own = generator.permutation(of_carrier)[places]
        # A draw that leaves a class with fewer than two rows has no rate.
        if (np.bincount(own, minlength=classes.max() + 1) >= 2).all():
            yield own
