"""When the word "compression" may be used: two different channels must say so.

Any one channel can show a fall of information that is a change of scale (noise), of the spread of
values (bins) or of what a linear probe can read. Only what channels that work differently agree on
is said in words; otherwise it is "not shown".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from lmri.checks import check_choice, check_columns
from lmri.errors import EvidenceError

QUANTITIES = ("I(X;T)", "I(T;Y)")
WORDS = {-1: "compression", 1: "expansion"}
NOT_SHOWN = "not shown"
LEAST_CHANNELS = 2
LEAST_ERRORS = 2.0
"""Standard errors by which a change must differ from none."""


@dataclass(frozen=True)
class Claim:
    """What may be said of a change of information.

    Attributes
    ----------
    word : str
        ``compression``, ``expansion`` or ``not shown``.
    channels : dict of str to int
        For every family with a number that can be read: -1, 0 or 1, the sign of its change; 0 where
        it is within two standard errors, or its estimates disagree.
    left_out : tuple of str
        Estimates that were flagged or refused, before or after.
    """

    word: str
    channels: dict[str, int]
    left_out: tuple[str, ...]


def information_change(before: xr.Dataset, after: xr.Dataset, quantity: str = "I(X;T)") -> Claim:
    """Say whether information fell from one layer, or checkpoint, to another.

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
        A word only where at least two families changed by more than two standard errors in one
        direction, and none in the other.

    Raises
    ------
    EvidenceError
        If the quantity is unknown, or a profile has other dimensions.
    """
    check_choice(quantity, QUANTITIES, "quantity", "a change of information", EvidenceError)
    for own in (before, after):
        check_columns(own.variables, ("value", "sd", "flagged"), "of a profile", EvidenceError)
        if own["value"].dims != ("estimator",):
            raise EvidenceError(
                "A change of information must be of one target, phase and layer: a profile over "
                f"'estimator'. Got one over {own['value'].dims}."
            )
    signs: dict[str, list[int]] = {}
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
        signs.setdefault(str(first["family"].values), []).append(_sign(first, last))
    channels = {family: own[0] if len(set(own)) == 1 else 0 for family, own in signs.items()}
    return Claim(_word(channels), channels, tuple(left_out))


def _readable(own: xr.Dataset) -> bool:
    finite = np.isfinite(float(own["value"])) and np.isfinite(float(own["sd"]))
    return bool(finite and not own["flagged"].any())


def _sign(first: xr.Dataset, last: xr.Dataset) -> int:
    difference = float(last["value"]) - float(first["value"])
    error = np.hypot(float(first["sd"]), float(last["sd"]))
    return int(np.sign(difference)) if abs(difference) > LEAST_ERRORS * error else 0


def _word(channels: dict[str, int]) -> str:
    for sign, word in WORDS.items():
        agreeing = sum(own == sign for own in channels.values())
        if agreeing >= LEAST_CHANNELS and -sign not in channels.values():
            return word
    return NOT_SHOWN
