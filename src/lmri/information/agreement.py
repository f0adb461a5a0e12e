"""When the word "compression" may be used: two different channels must say so.

Any one channel can show a fall of information that is a change of scale (noise), of the spread of
values (bins) or of what a linear probe can read. Only what channels that work differently agree on
is said in words; otherwise it is "not shown". Where several comparisons are made at once,
:mod:`lmri.information.changes` corrects for their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.stats import t as student

from lmri.checks import check_choice, check_columns
from lmri.errors import EvidenceError

QUANTITIES = ("I(X;T)", "I(T;Y)")
WORDS = {-1: "compression", 1: "expansion"}
NOT_SHOWN = "not shown"
LEAST_CHANNELS = 2
LEVEL = 0.05
"""Largest p of a change that counts, and of the agreement of channels."""


@dataclass(frozen=True)
class Claim:
    """What may be said of a change of information.

    Attributes
    ----------
    word : str
        ``compression``, ``expansion`` or ``not shown``.
    p : float
        That fewer than two families changed in one direction: ``(m - 1) p_(2)`` of the two-sided p
        of m families, the second smallest of those that agree. NaN where fewer than two can be
        read; 1 where one changed in the other direction.
    channels : dict of str to int
        For every family with a number that can be read: -1, 0 or 1, the sign of its change; 0 where
        its p is above :data:`LEVEL`, or its estimates disagree.
    left_out : tuple of str
        Estimates that were flagged or refused, before or after.
    """

    word: str
    p: float
    channels: dict[str, int]
    left_out: tuple[str, ...]


def information_change(before: xr.Dataset, after: xr.Dataset, quantity: str = "I(X;T)") -> Claim:
    """Say whether information fell from one layer, or checkpoint, to another.

    A family that has several estimates changed as much as the one that changed least: its p is the
    largest of theirs, from Student's distribution with the degrees of freedom of both errors
    (Welch).

    Parameters
    ----------
    before, after : Dataset
        Profiles (:func:`lmri.information.mutual_profile.information_of`) of one target and phase,
        over ``estimator``.
    quantity : str
        ``I(X;T)`` or ``I(T;Y)``.

    Returns
    -------
    Claim
        A word only where p is at most :data:`LEVEL`. It is of one comparison.

    Raises
    ------
    EvidenceError
        If the quantity is unknown, or a profile has other dimensions.

    Notes
    -----
    Benjamini and Heller 2008, Biometrics 64:1215, for the p of partial conjunctions.
    """
    check_choice(quantity, QUANTITIES, "quantity", "a change of information", EvidenceError)
    for own in (before, after):
        check_columns(
            own.variables, ("value", "sd", "freedom", "flagged"), "of a profile", EvidenceError
        )
        if own["value"].dims != ("estimator",):
            raise EvidenceError(
                "A change of information must be of one target, phase and layer: a profile over "
                f"'estimator'. Got one over {own['value'].dims}."
            )
    found: dict[str, list[tuple[int, float]]] = {}
    left_out = []
    for name in before["estimator"].values:
        if not str(name).endswith(quantity):
            continue
        if name not in after["estimator"].values:
            left_out.append(str(name))
            continue
        first, last = before.sel(estimator=name), after.sel(estimator=name)
        if not (_readable(first) and _readable(last)):
            left_out.append(str(name))
            continue
        found.setdefault(str(first["family"].values), []).append(_change(first, last))
    families = {name: _joined(own) for name, own in found.items()}
    channels = {name: sign if p <= LEVEL else 0 for name, (sign, p) in families.items()}
    word, p = _claimed(families, channels)
    return Claim(word, p, channels, tuple(left_out))


def _readable(own: xr.Dataset) -> bool:
    numbers = (float(own[name]) for name in ("value", "sd", "freedom"))
    return bool(all(map(math.isfinite, numbers)) and not own["flagged"].any())


def _change(first: xr.Dataset, last: xr.Dataset) -> tuple[int, float]:
    """Sign of a change, and its two-sided p."""
    difference = float(last["value"]) - float(first["value"])
    parts = [(float(own["sd"]) ** 2, float(own["freedom"])) for own in (first, last)]
    variance = sum(own for own, _ in parts)
    if not variance > 0:
        return int(np.sign(difference)), float(difference == 0)
    freedom = variance**2 / sum(own**2 / count for own, count in parts)
    p = 2 * student.sf(abs(difference) / math.sqrt(variance), freedom)
    return int(np.sign(difference)), float(p)


def _joined(changes: list[tuple[int, float]]) -> tuple[int, float]:
    """Change of a family: that of its least certain estimate, none where they disagree."""
    signs = {sign for sign, _ in changes}
    return (signs.pop(), max(p for _, p in changes)) if len(signs) == 1 else (0, 1.0)


def _claimed(families: dict[str, tuple[int, float]], channels: dict[str, int]) -> tuple[str, float]:
    if len(families) < LEAST_CHANNELS:
        return NOT_SHOWN, math.nan
    best = {}
    for sign in WORDS:
        own = sorted(p for direction, p in families.values() if direction == sign)
        against = -sign in channels.values()
        enough = len(own) >= LEAST_CHANNELS and not against
        spare = len(families) - LEAST_CHANNELS + 1
        best[sign] = min(1.0, spare * own[LEAST_CHANNELS - 1]) if enough else 1.0
    sign = min(best, key=best.__getitem__)
    return (WORDS[sign] if best[sign] <= LEVEL else NOT_SHOWN), best[sign]
