"""Ordinary least squares of many units on one design matrix, from blocks of rows.

``b = argmin |Y - X b|^2``, ``s^2 = |Y - X b|^2 / (n - p)``; for contrast weights ``c``
``t = c'b / (s sqrt(c' (X'X)^-1 c))``, and for ``q`` rows of weights ``C``
``F = (Cb)' (C (X'X)^-1 C')^-1 (Cb) / (q s^2)``.

Only sums of products over rows are kept, so memory does not grow with rows. Two habits of such sums
are undone: columns of the design are first made orthogonal by what the first block shows of them,
with the exact triangle of all rows kept beside (normal equations would square the condition
number), and units are shifted by the middle of their first values (a large mean would cancel).

Units are read once, in the order in which they lie in memory: shifted into a panel that stays in
the cache, which is multiplied and squared there.

The statistics are those of ``nilearn.glm.first_level.run_glm`` with ``noise_model="ols"``. Tokens
of one text are not independent: p-values of token-level designs are for description only, tests
exchange carriers (:mod:`lmri.localise.permuted_regression`).

Source: Monti, Statistical analysis of fMRI time-series (2011), for the model; Golub and Van Loan,
Matrix computations, section 5.2, for the triangle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg, stats

from lmri.checks import check_choice, quoted
from lmri.errors import EvidenceError

WIDEST = 1 << 14
"""Units of a panel: many, since memory is fast only when read in long runs."""

PANEL = 6 << 20
"""Bytes of a panel: few enough for the cache, so many that adding up products costs little."""

TALLEST = 512
"""Rows of a panel, whose sums are in single precision if the products are."""

ORDER = {np.dtype(np.float64): "F", np.dtype(np.float32): "C"}
"""Order in memory of products of shape (n_columns, n_units), and by it how numpy multiplies: each
is by a tenth the faster one in its precision, at 20 columns."""

FIRST_ROWS = 32
"""Rows, of whose values the middle one shifts a unit."""

DEPENDENT = 1e-9
"""Singular value of the design, its columns scaled to length 1, that counts as 0."""

EXPLAINED = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-6}
"""Share of the sum of squares that is rounding: with less left over, a unit has no statistic."""


@dataclass(frozen=True)
class Contrast:
    """A contrast of the coefficients, tested in every unit.

    Attributes
    ----------
    kind : str
        ``t`` or ``F``.
    effect : ndarray of shape (n_units,) for t, (q, n_units) for F, float64
        ``c'b``; for F ``(C (X'X)^-1 C')^-1/2 C b``, the effects made independent, as in nilearn.
    variance : ndarray of shape (n_units,), float64
        Variance of the effect; for F that of the residuals.
    statistic : ndarray of shape (n_units,), float64
        t or F; NaN for a unit that is constant or that the design explains up to rounding.
    df : int
        Degrees of freedom of the residuals.
    df_effect : int
        Rows of the contrast: 1 for t.
    """

    kind: str
    effect: np.ndarray
    variance: np.ndarray
    statistic: np.ndarray
    df: int
    df_effect: int

    def p(self) -> np.ndarray:
        """Probability of a larger statistic, one-sided: array of shape (n_units,), float64."""
        if self.kind == "t":
            return stats.t.sf(self.statistic, self.df)
        return stats.f.sf(self.statistic, self.df_effect, self.df)

    def p_two_sided(self) -> np.ndarray:
        """Probability of a larger absolute t; of F, which has no sign, the same as ``p``."""
        if self.kind == "t":
            return 2 * stats.t.sf(np.abs(self.statistic), self.df)
        return self.p()

    def z(self) -> np.ndarray:
        """Normal deviate with the same one-sided p: array of shape (n_units,), float64."""
        if self.kind == "t":
            # The tail that is small keeps its digits.
            tail = stats.t.sf(np.abs(self.statistic), self.df)
            return np.copysign(_deviate(tail), self.statistic)
        above = stats.f.sf(self.statistic, self.df_effect, self.df)
        below = stats.f.cdf(self.statistic, self.df_effect, self.df)
        return np.where(above < below, _deviate(above), -_deviate(below))


def _deviate(tail: np.ndarray) -> np.ndarray:
    return stats.norm.isf(np.maximum(tail, 1e-300))


@dataclass(frozen=True)
class Fit:
    """A fitted design.

    Attributes
    ----------
    columns : tuple of str
        Names of the columns of the design matrix.
    coefficients : ndarray of shape (n_columns, n_units), float64
        ``b``.
    residual : ndarray of shape (n_units,), float64
        Sum of squared residuals; NaN where only rounding is left of it.
    triangle : ndarray of shape (n_columns, n_columns), float64
        Upper triangular ``R`` with ``R'R = X'X``.
    df : int
        Rows minus columns.
    """

    columns: tuple[str, ...]
    coefficients: np.ndarray
    residual: np.ndarray
    triangle: np.ndarray
    df: int

    def contrast(self, weights: Mapping[str, float] | np.ndarray) -> Contrast:
        """Test a contrast of the coefficients.

        Parameters
        ----------
        weights : mapping of str to float, or ndarray of shape (n_columns,) or (q, n_columns)
            Weights of the columns, those not named are 0: one row gives t, a 2-D array F.

        Returns
        -------
        Contrast
            The test.

        Raises
        ------
        EvidenceError
            If a column is unknown, the shape does not fit, or rows are linearly dependent.
        """
        weights = self._weights(weights)
        rows = np.atleast_2d(weights)
        spread = linalg.solve_triangular(self.triangle, rows.T, trans="T")  # (n_columns, q)
        values, vectors = np.linalg.eigh(spread.T @ spread)
        if values[0] <= DEPENDENT * values[-1]:
            raise EvidenceError(
                "The rows of a contrast must be linearly independent and not 0. "
                f"Got {np.array2string(rows, separator=', ', threshold=50)}."
            )
        effect = rows @ self.coefficients
        dispersion = self.residual / self.df
        with np.errstate(invalid="ignore"):
            if weights.ndim == 1:
                variance = values[0] * dispersion
                return Contrast("t", effect[0], variance, effect[0] / np.sqrt(variance), self.df, 1)
            effect = (vectors / np.sqrt(values)) @ vectors.T @ effect
            f = (effect**2).sum(axis=0) / len(rows) / dispersion
        return Contrast("F", effect, dispersion, f, self.df, len(rows))

    def _weights(self, weights: Mapping[str, float] | np.ndarray) -> np.ndarray:
        if isinstance(weights, Mapping):
            for name in weights:
                check_choice(name, self.columns, "column", "the contrast", EvidenceError)
            return np.array([float(weights.get(name, 0)) for name in self.columns])
        weights = np.asarray(weights, dtype=np.float64)
        if weights.ndim not in (1, 2) or weights.shape[-1] != len(self.columns):
            raise EvidenceError(
                f"A contrast must have one weight for each of the {len(self.columns)} columns "
                f"{quoted(self.columns)}. Got the shape {weights.shape}."
            )
        return weights


class LeastSquares:
    """Sums of products of a design and many units, row block by row block.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns of the design matrix.
    dtype : dtype, default float64
        ``float32`` multiplies in single precision and sums tiles in double: about twice as fast,
        t to about 1e-5.
    """

    def __init__(self, columns: Sequence[str], *, dtype: type = np.float64) -> None:
        self.columns = tuple(columns)
        self.rows = 0
        self._dtype = np.dtype(dtype)
        check_choice(self._dtype, EXPLAINED, "dtype", "least squares", EvidenceError)

    def add(self, X: np.ndarray, Y: np.ndarray) -> None:
        """Take a block of rows.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_columns)
            Rows of the design matrix.
        Y : ndarray of shape (n_rows, n_units), float32 or float64
            The same rows of the units.

        Raises
        ------
        EvidenceError
            If the shapes do not fit each other or the blocks before.
        """
        X = np.asarray(X, dtype=np.float64)
        units = self._products.shape[1] if self.rows else Y.shape[-1]
        if X.shape != (len(Y), len(self.columns)) or Y.shape != (len(X), units):
            raise EvidenceError(
                f"A block must have {len(self.columns)} columns of the design and {units} units "
                f"in the same rows. Got the shapes {X.shape} and {Y.shape}."
            )
        if not np.isfinite(X).all():
            bad = [
                n for n, ok in zip(self.columns, np.isfinite(X).all(axis=0), strict=True) if not ok
            ]
            raise EvidenceError(
                f"A design matrix must be finite. The columns {quoted(bad)} are not finite."
            )
        if not len(X):
            return
        if not self.rows:
            self._start(X, Y)
        Z = linalg.solve_triangular(self._scale, X.T, trans="T").T  # nearly orthonormal
        with_ones = np.column_stack([Z, np.ones(len(Z))])
        self._triangle = np.linalg.qr(np.concatenate([self._triangle, with_ones]), mode="r")
        self.rows += len(X)
        self._follow_ones()
        with np.errstate(invalid="ignore"):  # a unit that is not finite has no statistic
            self._add_products(Z.astype(self._dtype), Y)

    def fit(self) -> Fit:
        """Solve for the coefficients.

        Returns
        -------
        Fit
            The fitted design.

        Raises
        ------
        EvidenceError
            If there are too few rows, or columns are linearly dependent.
        """
        p = len(self.columns)
        if self.rows <= p:
            raise EvidenceError(
                f"A design of {p} columns must have at least {p + 1} rows. Got {self.rows}."
            )
        triangle = self._triangle[:p, :p] @ self._scale
        _check_independent(triangle, self.columns)
        # In the basis of orthonormal columns: of the units, and of the column of ones.
        rotated = _solve(self._triangle[:p, :p], self._products, trans="T")
        ones = self._triangle[:p, p]
        whole = rotated + np.outer(ones, self._shift)  # of the units before the shift
        squares = self._squares
        if self._sums is None:  # the shift only moves the intercept
            residual = squares - (rotated**2).sum(axis=0)
        else:
            squares = squares + self._shift * (2 * self._sums + self.rows * self._shift)
            residual = squares - (whole**2).sum(axis=0)
        left_over = residual > EXPLAINED[self._dtype] * squares
        return Fit(
            self.columns,
            _solve(triangle, whole),
            np.where(left_over, residual, np.nan),
            triangle,
            self.rows - p,
        )

    def _start(self, X: np.ndarray, Y: np.ndarray) -> None:
        first = np.sort(Y[:FIRST_ROWS], axis=0)
        # Rounded, so that data of any precision are shifted by the same number.
        self._shift = first[len(first) // 2].astype(np.float32).astype(np.float64)
        length = np.sqrt((X**2).sum(axis=0))
        length[length == 0] = 1
        # A little of the identity: columns that only later blocks tell apart stay apart.
        stacked = np.concatenate([X / length, 1e-4 * np.eye(X.shape[1])])
        self._scale = np.linalg.qr(stacked, mode="r") * length
        p, units = X.shape[1], Y.shape[1]
        self._triangle = np.zeros((0, p + 1))  # of the columns and of one of ones
        self._ones = np.zeros(p)  # weights of the columns that give ones, while there are such
        self._products = np.zeros((p, units), order=ORDER[self._dtype])
        self._squares = np.zeros(units)
        self._sums: np.ndarray | None = None  # of units, once they do not follow from the products

    def _follow_ones(self) -> None:
        """Add up units from the row on where the columns no longer give ones, nor products sums."""
        if self._sums is not None:
            return
        before, R, r = self._ones, self._triangle[:, :-1], self._triangle[:, -1]
        self._ones, *_ = np.linalg.lstsq(R, r, rcond=DEPENDENT)
        if np.linalg.norm(r - R @ self._ones) > DEPENDENT * np.sqrt(self.rows):
            self._sums = before @ self._products

    def _add_products(self, Z: np.ndarray, Y: np.ndarray) -> None:
        width = min(WIDEST, Y.shape[1])
        height = min(TALLEST, len(Z), max(1, PANEL // (width * self._dtype.itemsize)))
        panel = np.empty((height, width), dtype=self._dtype)
        product = np.empty((Z.shape[1], width), dtype=self._dtype, order=ORDER[self._dtype])
        for left in range(0, Y.shape[1], width):
            units = slice(left, left + width)
            for top in range(0, len(Z), height):
                tile = Y[top : top + height, units]
                shifted = panel[: tile.shape[0], : tile.shape[1]]
                self._shift_into(shifted, tile, units)
                np.matmul(Z[top : top + height].T, shifted, out=product[:, : tile.shape[1]])
                self._products[:, units] += product[:, : tile.shape[1]]
                self._squares[units] += np.einsum("ij,ij->j", shifted, shifted)
                if self._sums is not None:
                    self._sums[units] += shifted.sum(axis=0)

    def _shift_into(self, shifted: np.ndarray, tile: np.ndarray, units: slice) -> None:
        # The difference is taken in the better precision of the two, then rounded.
        shift = self._shift[units].astype(np.result_type(tile, shifted))
        if tile.itemsize < shifted.itemsize:  # twice as fast as to convert while subtracting
            np.copyto(shifted, tile)
            tile = shifted
        np.subtract(tile, shift, out=shifted, casting="same_kind")


def least_squares(
    X: np.ndarray, Y: np.ndarray, columns: Sequence[str], *, dtype: type = np.float64
) -> Fit:
    """Fit a design to units in memory, see :class:`LeastSquares`.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_columns)
        Design matrix.
    Y : ndarray of shape (n_rows, n_units), float32 or float64
        The units.
    columns : sequence of str
        Names of the columns.
    dtype : dtype, default float64
        Precision of the products.

    Returns
    -------
    Fit
        The fitted design.
    """
    return least_squares_stream([(X, Y)], columns, dtype=dtype)


def least_squares_stream(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]],
    columns: Sequence[str],
    *,
    dtype: type = np.float64,
) -> Fit:
    """Fit a design to blocks of rows, such as those of ``Recording.stream``.

    Parameters
    ----------
    blocks : iterable of (ndarray of shape (n_rows, n_columns), ndarray of shape (n_rows, n_units))
        Rows of the design matrix and of the units.
    columns : sequence of str
        Names of the columns.
    dtype : dtype, default float64
        Precision of the products.

    Returns
    -------
    Fit
        The fitted design.
    """
    sums = LeastSquares(columns, dtype=dtype)
    for X, Y in blocks:
        sums.add(X, Y)
    return sums.fit()


def _solve(triangle: np.ndarray, right: np.ndarray, trans: str = "N") -> np.ndarray:
    """Solve where a unit without data is NaN, and no other."""
    return linalg.solve_triangular(triangle, right, trans=trans, check_finite=False)


def _check_independent(triangle: np.ndarray, columns: tuple[str, ...]) -> None:
    length = np.sqrt((triangle**2).sum(axis=0))
    _, values, directions = np.linalg.svd(triangle / np.where(length == 0, 1, length))
    for value, direction in zip(values, directions, strict=True):
        if value <= DEPENDENT:
            names = [n for n, w in zip(columns, direction, strict=True) if abs(w) > 1e-6]
            raise EvidenceError(
                f"The columns {quoted(names)} of the design matrix are linearly dependent: each is "
                "0 or follows from the others. Leave one of them out."
            )
