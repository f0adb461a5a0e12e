"""Rate reduction: how many fewer nats code the rows of each class by itself."""

from __future__ import annotations

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
    exchanged: np.ndarray | None = None,
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
    exchanged : ndarray of shape (n_draws, n), optional
        Classes of the rows where nothing is to be found, for the null. A draw that leaves a class
        with fewer than two rows has no rate and is left out.

    Returns
    -------
    RateReduction
        The rates.

    Raises
    ------
    EvidenceError
        If there are fewer than two classes, or one has a single row.
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

    drawn = [] if exchanged is None else np.searchsorted(names, exchanged)
    possible = [own for own in drawn if (np.bincount(own, minlength=len(names)) >= 2).all()]
    null = np.array([rate - within(own) for own in possible])
    found = within(classes)
    flags = []
    if len(drawn) and (not len(null) or rate - found <= np.quantile(null, 0.95)):
        flags.append("failed_null")
    if not len(drawn) and counts.min() <= rows.shape[1]:
        flags.append("few_samples")
    return RateReduction(rate, found, epsilon, null, tuple(flags))
