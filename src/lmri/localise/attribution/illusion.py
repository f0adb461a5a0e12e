"""Whether a direction acts through what it reads from the data, or opens a dormant path.

A patch along a direction ``v`` may act although the activity it changes does not: its part in the
null space of the read-out weights moves with the data, its part in their row space does nothing on
its own, and together they look like the mechanism.

Source: Makelov et al., Is this the subspace you are looking for? (arXiv 2311.17030).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lmri.errors import EvidenceError

LEAST_KEPT = 0.5
"""Share of its effect that a faithful direction keeps without its part in the null space.

Published: .29 for an illusory direction, .91 for a faithful one.
"""


LEAST_PART = 1e-6
"""Length below which a part of a direction of length 1 is rounding."""


@dataclass(frozen=True)
class RowSpaceCheck:
    """A direction taken apart by the weights that read it.

    Attributes
    ----------
    row_norm, null_norm : float
        Lengths of the parts in the row space and in the null space, of a direction of length 1.
    effect, row_effect, null_effect : float
        Effects of patching along the direction and along each part, of length 1 again; 0 for a
        part that is not there.
    kept : float
        ``row_effect / effect``; NaN without an effect.
    illusory : bool
        Whether less than :data:`LEAST_KEPT` is kept.
    """

    row_norm: float
    null_norm: float
    effect: float
    row_effect: float
    null_effect: float
    kept: float
    illusory: bool


def row_space_check(
    direction: np.ndarray, read_out: np.ndarray, effect: Callable[[np.ndarray], float]
) -> RowSpaceCheck:
    """Take a direction apart and compare the effects of its parts.

    Parameters
    ----------
    direction : ndarray of shape (width,)
        The direction, of any length but 0.
    read_out : ndarray of shape (outputs, width)
        All weights that read the activity. The slope of the metric will not do: it is one row, and
        its part of any direction always has the full effect.
    effect : callable
        Effect of patching along a direction of length 1, see :func:`patched_along`.

    Returns
    -------
    RowSpaceCheck
        The parts, their effects, and whether the direction is an illusion.

    Raises
    ------
    EvidenceError
        If shapes do not fit, the direction is 0, or the weights have rank 1.
    """
    if read_out.ndim != 2 or direction.shape != read_out.shape[1:]:
        raise EvidenceError(
            "The 'read_out' of a direction must be a matrix with as many columns as the direction "
            f"has entries, {direction.shape}. Got {read_out.shape}."
        )
    length = np.linalg.norm(direction)
    _, sizes, rows = np.linalg.svd(read_out.astype(np.float64), full_matrices=False)
    basis = rows[sizes > sizes.max(initial=0) * max(read_out.shape) * np.finfo(np.float64).eps]
    if length == 0 or len(basis) < 2:
        raise EvidenceError(
            "A row-space check must have a direction that is not 0 and read-out weights of rank 2 "
            f"or more. Got a length of {length:.3g} and rank {len(basis)}: give all weights that "
            "read the activity, not the slope of the metric."
        )
    unit = direction / length
    row = basis.T @ (basis @ unit)
    null = unit - row
    norms = [float(np.linalg.norm(part)) for part in (row, null)]
    whole = float(effect(unit))
    row_effect, null_effect = (
        float(effect(part / norm)) if norm > 1e-9 else 0.0
        for part, norm in zip((row, null), norms, strict=True)
    )
    kept = row_effect / whole if whole else float("nan")
    return RowSpaceCheck(*norms, whole, row_effect, null_effect, kept, kept < LEAST_KEPT)


def split_directions(
    directions: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take directions apart by what reads them.

    Parameters
    ----------
    directions : ndarray of shape (n, width)
        The directions, of any length.
    basis : ndarray of shape (rank, width)
        Orthonormal basis of the row space of the read-out.

    Returns
    -------
    whole, row, null : ndarray of shape (at most n, width)
        Orthonormal directions that span them, their parts in the row space, and those in the null
        space; none where a part is 0.
    """
    whole = _orthonormal(directions)
    row = whole @ basis.T @ basis
    return whole, _orthonormal(row), _orthonormal(whole - row)


def _orthonormal(directions: np.ndarray) -> np.ndarray:
    _, sizes, rows = np.linalg.svd(directions, full_matrices=False)
    return rows[sizes > LEAST_PART]


def patched_along(base: np.ndarray, source: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """``base + v v . (source - base)`` with ``v`` the direction, of length 1.

    Parameters
    ----------
    base, source : ndarray of shape (..., width)
        Activity that is changed, and that it is changed to along the direction.
    direction : ndarray of shape (width,)
        Of length 1.

    Returns
    -------
    ndarray of shape (..., width)
        The patched activity.
    """
    return base + ((source - base) @ direction)[..., None] * direction
