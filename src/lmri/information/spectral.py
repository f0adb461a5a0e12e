"""Spectral measures of a cloud of states, all from one eigendecomposition.

With ``λ_i`` the eigenvalues of the covariance of n rows in d dimensions and ``p_i = λ_i / Σ λ``:

- matrix entropy ``S_α = 1 / (1 - α) ln Σ p_i^α``, and ``-Σ p_i ln p_i`` for α = 1;
- effective rank, ``exp(-Σ q_i ln q_i)``, of the eigenvalues (``q = p``) or of the singular values
  (``q_i = √λ_i / Σ √λ``). The two are not comparable: 612 and 812 for the same isotropic rows;
- participation ratio ``(Σ λ)² / Σ λ²``, which is ``exp S_2``;
- coding rate ``½ Σ ln(1 + d λ_i / ε²)``.

None of them can exceed what n rows show: n - 1 centred rows span n - 1 dimensions, and isotropic
rows have a participation ratio of ``n d / (n + d)``. Compare layers and subjects at the same n.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.special import entr

from lmri.checks import check_choice, check_range
from lmri.errors import EvidenceError

SCALINGS = ("raw", "standardised", "trimmed")
"""All dimensions as they are, each divided by its deviation, or without the outlying ones."""

OUTLYING = 10.0
"""A dimension outlies if its deviation is above so many times the median over dimensions."""

LIMITED = 0.1
"""A rank above this share of n would be higher with more rows: flag ``ceiling``."""

LEAST_ROWS = 1024
"""Rows that are added at once, or as many as there are dimensions if these are more."""

OWNER = "the spectral measures"


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the covariance of some rows.

    Attributes
    ----------
    eigenvalues : ndarray of shape (min(samples, dimensions),), float64
        Of the scatter divided by the number of rows, largest first; not negative.
    samples, dimensions : int
        Rows and columns.
    centred : bool
        Whether the mean row was subtracted.
    """

    eigenvalues: np.ndarray
    samples: int
    dimensions: int
    centred: bool = True

    @property
    def rank_ceiling(self) -> int:
        """Largest rank that so many rows can show: ``min(n - 1, d)``, uncentred ``min(n, d)``."""
        return min(self.samples - self.centred, self.dimensions)

    @property
    def isotropic_participation(self) -> float:
        """Participation ratio that isotropic rows would have: ``n d / (n + d)``."""
        return self.samples * self.dimensions / (self.samples + self.dimensions)

    def entropy(self, alpha: float = 1.0) -> float:
        """Matrix entropy of order alpha.

        Parameters
        ----------
        alpha : float
            Order above 0; 1 is that of von Neumann.

        Returns
        -------
        float
            In nats, from 0 to ``ln rank_ceiling``.

        Raises
        ------
        EvidenceError
            If alpha is not above 0.
        """
        if not alpha > 0:
            raise EvidenceError(f"The 'alpha' of {OWNER} must be above 0. Got {alpha!r}.")
        return _renyi(self.eigenvalues / self.eigenvalues.sum(), alpha)

    def normalised_entropy(self, alpha: float = 1.0) -> float:
        """Matrix entropy divided by its ceiling, ``ln min(n, d)`` (Skean et al. 2025).

        NaN where that is 0: a single dimension has no entropy.
        """
        ceiling = np.log(min(self.samples, self.dimensions))
        return self.entropy(alpha) / ceiling if ceiling > 0 else float("nan")

    def effective_rank(self, of: str = "eigenvalues") -> float:
        """Effective rank (Roy and Vetterli 2007).

        Parameters
        ----------
        of : str
            ``singular_values``, as it was defined, or ``eigenvalues``, as in Diff-eRank.

        Returns
        -------
        float
            From 1 to :attr:`rank_ceiling`.

        Raises
        ------
        LmriError
            If ``of`` is neither.
        """
        check_choice(of, {"eigenvalues", "singular_values"}, "of", "the effective rank")
        values = self.eigenvalues if of == "eigenvalues" else np.sqrt(self.eigenvalues)
        return float(np.exp(_renyi(values / values.sum(), 1.0)))

    @property
    def participation_ratio(self) -> float:
        """Participation ratio, from 1 to :attr:`rank_ceiling`."""
        return float(self.eigenvalues.sum() ** 2 / np.square(self.eigenvalues).sum())

    def coding_rate(self, epsilon: float) -> float:
        """Bits, in nats, that code a row to a distortion of epsilon² (Ma et al. 2007, MCR²).

        ``½ ln det(I + d / ε² S)``, S the scatter divided by n: also the information of a Gaussian
        signal through a channel with noise of variance ``ε² / d`` in each dimension. Depends on
        the scale of the rows: give rows of unit length, and more than one epsilon.

        Parameters
        ----------
        epsilon : float
            Distortion, above 0.

        Returns
        -------
        float
            In nats; it has no ceiling, so it can exceed the logarithm of the number of rows.

        Raises
        ------
        LmriError
            If epsilon is not above 0.
        """
        check_range(epsilon, "epsilon", "the coding rate", low=np.finfo(float).tiny)
        return float(0.5 * np.log1p(self.dimensions / epsilon**2 * self.eigenvalues).sum())

    def flags(self, rank: float) -> tuple[str, ...]:
        """Say what speaks against a rank, or the exponential of an entropy, of this spectrum.

        Parameters
        ----------
        rank : float
            Participation ratio, effective rank, or ``exp`` of a matrix entropy.

        Returns
        -------
        tuple of str
            ``ceiling`` if it is above a tenth of the number of rows: a Gaussian cloud of true
            participation ratio P shows about ``n P / (n + P)``, so more rows would raise it.
        """
        return ("ceiling",) if rank > LIMITED * self.samples else ()


class Moments:
    """Mean and scatter of rows that come in chunks.

    While there are fewer rows than dimensions the rows are kept, after that only their scatter:
    memory is that of two d × d matrices, however many rows there are.

    Parameters
    ----------
    dimensions : int
        Width of a row.
    """

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.samples = 0
        self.mean = np.zeros(dimensions)
        self._scatter: np.ndarray | None = None
        self._rows: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        """Add rows.

        Parameters
        ----------
        rows : ndarray of shape (n, dimensions)
            Any number of them.

        Raises
        ------
        EvidenceError
            If they are of another width, or not finite.
        """
        rows = np.atleast_2d(np.asarray(rows, dtype=np.float64))
        if rows.shape[-1] != self.dimensions or rows.ndim != 2:
            raise EvidenceError(
                f"Rows of {OWNER} must have the shape (n, {self.dimensions}). Got {rows.shape}."
            )
        if not np.isfinite(rows).all():
            bad = int((~np.isfinite(rows)).any(axis=1).sum())
            raise EvidenceError(
                f"Rows of {OWNER} must be finite. {bad} of {len(rows)} are not: leave them out."
            )
        step = max(self.dimensions, LEAST_ROWS)
        for start in range(0, len(rows), step):
            self._add(rows[start : start + step])

    def _add(self, rows: np.ndarray) -> None:
        if self._scatter is None and self.samples + len(rows) <= self.dimensions:
            self._rows.append(rows.copy())
            self.samples += len(rows)
            self.mean += (rows.sum(axis=0) - len(rows) * self.mean) / self.samples
            return
        if self._scatter is None:
            kept = np.concatenate(self._rows) if self._rows else rows[:0]
            self._scatter = (kept - self.mean).T @ (kept - self.mean)
            self._rows = []
        # Chan, Golub and LeVeque: scatter about the mean of both parts, without a second pass.
        total = self.samples + len(rows)
        own = rows.mean(axis=0)
        gap, centred = own - self.mean, rows - own
        self._scatter += centred.T @ centred
        self._scatter += np.outer(gap, gap) * (self.samples * len(rows) / total)
        self.mean = self.mean + gap * (len(rows) / total)
        self.samples = total

    @property
    def variance(self) -> np.ndarray:
        """Variance of each dimension: array of shape (dimensions,), the scatter divided by n."""
        if self._scatter is not None:
            return np.diag(self._scatter) / self.samples
        return np.square(self._kept()).mean(axis=0)

    @property
    def mean_square(self) -> float:
        """Mean of the squares of all entries, about 0."""
        return float((self.variance + self.mean**2).mean())

    def outlying(self, factor: float = OUTLYING) -> np.ndarray:
        """Tell which dimensions outlie.

        Parameters
        ----------
        factor : float
            See :data:`OUTLYING`.

        Returns
        -------
        ndarray of shape (dimensions,), bool
            Dimensions whose deviation is above ``factor`` times the median over dimensions.
        """
        deviation = np.sqrt(self.variance)
        return deviation > factor * np.median(deviation)

    def spectrum(self, scaling: str = "raw", *, centred: bool = True) -> Spectrum:
        """Decompose the covariance of the rows so far.

        Parameters
        ----------
        scaling : str
            One of :data:`SCALINGS`. A constant dimension adds nothing.
        centred : bool
            Whether the mean is subtracted; without it only ``raw`` is possible.

        Returns
        -------
        Spectrum
            The eigenvalues.

        Raises
        ------
        EvidenceError
            If there are fewer than two rows, or all of them are the same.
        """
        check_choice(scaling, SCALINGS if centred else SCALINGS[:1], "scaling", OWNER)
        if self.samples < 2:
            raise EvidenceError(f"There must be at least 2 rows for {OWNER}. Got {self.samples}.")
        scale = self._scale(scaling)
        eigenvalues = self._eigenvalues(scale, centred)
        if not eigenvalues[0] > 0:
            raise EvidenceError(
                f"The {self.samples} rows for {OWNER} must differ. All of them are the same."
            )
        return Spectrum(eigenvalues, self.samples, int((scale > 0).sum()), centred)

    def _scale(self, scaling: str) -> np.ndarray:
        """Factor of every dimension; 0 leaves it out."""
        if scaling == "raw":
            return np.ones(self.dimensions)
        if scaling == "trimmed":
            return (~self.outlying()).astype(np.float64)
        deviation = np.sqrt(self.variance)
        tiny = np.finfo(float).eps * np.maximum(np.abs(self.mean), deviation.max())
        return np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > tiny)

    def _eigenvalues(self, scale: np.ndarray, centred: bool) -> np.ndarray:
        used = scale > 0
        if self._scatter is None:
            rows = (self._kept() if centred else self._kept() + self.mean)[:, used] * scale[used]
            matrix = rows @ rows.T if len(rows) < used.sum() else rows.T @ rows
        else:
            matrix = self._scatter[np.ix_(used, used)] * np.outer(scale[used], scale[used])
            if not centred:
                matrix = matrix + self.samples * np.outer(self.mean, self.mean)
        found = eigh(matrix, eigvals_only=True, overwrite_a=True, check_finite=False)[::-1]
        found = found / self.samples
        # What is below rounding is no dimension: its square root would count in singular values.
        rounding = len(found) * np.finfo(float).eps * max(found[0], 0.0)
        if centred:
            # Of rows that are all the same only the rounding of their mean is left.
            rounding = max(rounding, np.square(10 * np.finfo(float).eps * self.mean[used]).sum())
        return np.where(found > rounding, found, 0.0)

    def _kept(self) -> np.ndarray:
        rows = np.concatenate(self._rows) if self._rows else np.zeros((0, self.dimensions))
        return rows - self.mean


def spectrum(rows: np.ndarray, scaling: str = "raw", *, centred: bool = True) -> Spectrum:
    """Decompose the covariance of rows in memory, see :meth:`Moments.spectrum`.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        States.
    scaling : str
        One of :data:`SCALINGS`.
    centred : bool
        Whether the mean row is subtracted.

    Returns
    -------
    Spectrum
        The eigenvalues.

    Raises
    ------
    EvidenceError
        If there are fewer than two rows, they are not finite, or all of them are the same.
    """
    rows = np.atleast_2d(np.asarray(rows))
    moments = Moments(rows.shape[-1])
    moments.add(rows)
    return moments.spectrum(scaling, centred=centred)


def unit_rows(rows: np.ndarray, mean: np.ndarray | float = 0.0) -> np.ndarray:
    """Subtract a mean from rows and divide each by its length.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        States.
    mean : ndarray of shape (d,) or float
        Their mean, so that rows which come in chunks are centred alike.

    Returns
    -------
    ndarray of shape (n, d), float64
        Rows of length 1; a row that is the mean itself stays 0.
    """
    centred = np.asarray(rows, dtype=np.float64) - mean
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)


def matrix_spectrum(rows: np.ndarray) -> Spectrum:
    """Spectrum whose entropy is the prompt or dataset entropy of Skean et al. 2025.

    The rows are centred, divided by their lengths, and ``R R^T`` is decomposed. Rows are the tokens
    of one prompt (prompt entropy, to be averaged over prompts) or pooled prompts (dataset entropy).

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        States.

    Returns
    -------
    Spectrum
        Not centred again, as there.

    Raises
    ------
    EvidenceError
        As :func:`spectrum`.

    Notes
    -----
    arXiv:2502.02013. The released code also sets negative entries of ``R R^T`` to 0, which leaves a
    matrix that need not be positive and has another spectrum; that is not done here. The entropy
    of a prompt rises with its length: compare :meth:`Spectrum.normalised_entropy`, or fix it.
    """
    rows = np.atleast_2d(np.asarray(rows, dtype=np.float64))
    return spectrum(unit_rows(rows, rows.mean(axis=0)), centred=False)


def spectral_summary(found: Spectrum) -> Mapping[str, float]:
    """Collect the scale-free measures of a spectrum.

    Parameters
    ----------
    found : Spectrum
        Eigenvalues.

    Returns
    -------
    mapping of str to float
        ``entropy``, ``entropy_2`` (nat), ``entropy_normalised``, ``effective_rank``,
        ``effective_rank_singular``, ``participation_ratio``.
    """
    return {
        "entropy": found.entropy(),
        "entropy_2": found.entropy(2.0),
        "entropy_normalised": found.normalised_entropy(),
        "effective_rank": found.effective_rank(),
        "effective_rank_singular": found.effective_rank("singular_values"),
        "participation_ratio": found.participation_ratio,
    }


def _renyi(shares: np.ndarray, alpha: float) -> float:
    if alpha == 1.0:
        return float(entr(shares).sum())
    return float(np.log(np.power(shares[shares > 0], alpha).sum()) / (1 - alpha))
