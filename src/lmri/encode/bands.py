"""Bands of features: named groups of columns that share one penalty.

Bands of the role ``nuisance`` are what conditions differ in besides their meaning (length,
position, frequency, surprisal). They are in every model, and what is claimed of a band of the role
``interest`` is what it adds beyond them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from lmri.checks import check_choice, quoted
from lmri.encode.folds import Folds
from lmri.errors import EvidenceError

ROLES = ("nuisance", "interest")

STILL = 1e-9
"""Spread of a column, as a share of its largest value, up to which it has no variance."""


@dataclass(frozen=True)
class Band:
    """A named group of features.

    Attributes
    ----------
    name : str
        Its name.
    role : str
        One of :data:`ROLES`.
    columns : tuple of str
        Names of its columns.
    values : ndarray of shape (n_rows, n_columns), float64
        The features.
    """

    name: str
    role: str
    columns: tuple[str, ...]
    values: np.ndarray

    def __post_init__(self) -> None:
        check_choice(self.role, ROLES, "role", f"the band '{self.name}'", EvidenceError)
        if self.values.ndim != 2 or self.values.shape[1] != len(self.columns):
            raise EvidenceError(
                f"The band '{self.name}' must have the shape (n_rows, {len(self.columns)}), a "
                f"column for each name. Got {self.values.shape}."
            )


@dataclass(frozen=True)
class Layout:
    """Which columns of a design belong to which band.

    Attributes
    ----------
    names : tuple of str
        Bands, in the order of their columns.
    roles : tuple of str
        Role of each.
    sizes : tuple of int
        Number of columns of each.
    left_out : dict of str to str
        Why a band, or a column as ``<band>.<column>``, is not there.
    """

    names: tuple[str, ...]
    roles: tuple[str, ...]
    sizes: tuple[int, ...]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def slices(self) -> dict[str, slice]:
        """Columns of each band."""
        ends = np.cumsum(self.sizes)
        return {
            name: slice(int(end - size), int(end))
            for name, end, size in zip(self.names, ends, self.sizes, strict=True)
        }

    def of_role(self, role: str) -> tuple[str, ...]:
        """Names of the bands of a role."""
        return tuple(own for own, kind in zip(self.names, self.roles, strict=True) if kind == role)

    def columns_of(self, role: str) -> np.ndarray:
        """Columns of all bands of a role: array of int64."""
        return np.flatnonzero(np.repeat([kind == role for kind in self.roles], self.sizes))


def design_of(bands: Iterable[Band], folds: Folds, owner: str) -> tuple[np.ndarray, Layout]:
    """Join bands to a design, without what cannot be fitted.

    A column that does not vary, or that varies in one cell of the folds alone (so that it is a
    constant wherever that cell is tested), says nothing and is left out, and so is a band of such
    columns.

    Parameters
    ----------
    bands : iterable of Band
        The bands.
    folds : Folds
        The folds.
    owner : str
        The analysis, for messages.

    Returns
    -------
    X : ndarray of shape (n_rows, n_columns), float64
        The design.
    layout : Layout
        Its bands.

    Raises
    ------
    EvidenceError
        If two bands have one name, one has other rows or values that are not finite, or no band of
        interest is left.
    """
    parts, names, roles, sizes = [], [], [], []
    left_out: dict[str, str] = {}
    for band in bands:
        if band.name in names or band.name in left_out:
            raise EvidenceError(
                f"The bands of {owner} must have names of their own. Got two '{band.name}'."
            )
        _check(band, len(folds.cell), owner)
        reasons = [_unfit(column, folds) for column in band.values.T]
        kept = [place for place, reason in enumerate(reasons) if reason is None]
        if not kept:
            left_out[band.name] = _together(reasons)
            continue
        left_out |= {
            f"{band.name}.{band.columns[place]}": reason
            for place, reason in enumerate(reasons)
            if reason is not None
        }
        parts.append(band.values[:, kept])
        names.append(band.name)
        roles.append(band.role)
        sizes.append(len(kept))
    layout = Layout(tuple(names), tuple(roles), tuple(sizes), left_out)
    if not layout.of_role("interest"):
        said = "; ".join(f"'{name}': {reason}" for name, reason in left_out.items()) or "none given"
        raise EvidenceError(
            f"The encoding of {owner} needs a band of interest that varies. Got none ({said})."
        )
    return np.concatenate(parts, axis=1), layout


def one_hot(name: str, role: str, labels: Sequence[object]) -> Band:
    """Make a band of one column for each label.

    Parameters
    ----------
    name, role : str
        Of the band.
    labels : sequence
        Label of each row.

    Returns
    -------
    Band
        1 where a row has the label, else 0.
    """
    text = np.asarray(labels).astype(str)
    values, codes = np.unique(text, return_inverse=True)
    matrix = np.eye(len(values))[codes.reshape(-1)]
    return Band(name, role, tuple(str(value) for value in values), matrix)


def _check(band: Band, rows: int, owner: str) -> None:
    if len(band.values) != rows:
        raise EvidenceError(
            f"The band '{band.name}' of {owner} must have {rows} rows. Got {len(band.values)}."
        )
    bad = [
        name
        for name, column in zip(band.columns, band.values.T, strict=True)
        if not np.isfinite(column).all()
    ]
    if bad:
        raise EvidenceError(
            f"The band '{band.name}' of {owner} must be finite in every row. Got gaps in "
            f"{quoted(bad)}."
        )


def _unfit(column: np.ndarray, folds: Folds) -> str | None:
    if np.ptp(column) <= STILL * max(1.0, float(np.abs(column).max())):
        return f"no variance: {column[0]:g} in all {len(column)} rows"
    for cell, train in folds.tests:
        seen = column[np.isin(folds.cell, train)]
        if np.ptp(seen) > 0 and (column[folds.cell == cell] != np.median(seen)).any():
            return None
    return "varies in one fold alone, where nothing can be learned of it"


def _together(reasons: Sequence[str | None]) -> str:
    distinct = list(dict.fromkeys(str(reason) for reason in reasons))
    return distinct[0] if len(distinct) == 1 else f"{len(reasons)} columns, each left out"
