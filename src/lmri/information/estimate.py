"""What an estimate of information is: a number that names its channel and carries its flags.

A deterministic layer tells everything of its inputs, so any finite number for it belongs to the
network *and* to the noise, the bins or the kernel that it was measured through. That is why
``channel`` is a part of an :class:`Estimate` and not a remark beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

UNIT = "nat"
"""Unit of every value."""

FLAGS = (
    "saturation",
    "failed_null",
    "dimension",
    "ceiling",
    "negativity",
    "instability",
    "dependent_tokens",
)
"""Reasons not to read a number as what it is called, see :mod:`lmri.information.guards`."""

UNITS = "units"
"""What a null exchanges whose draws are states with independent units."""

FAMILIES = ("neighbours", "gaussian", "bins", "kernel", "plug_in", "probe", "neural", "matrix")
"""How an estimator works, which decides what can go wrong with it."""


@dataclass(frozen=True)
class Flag:
    """One reason not to read a number as what it is called.

    Attributes
    ----------
    name : str
        One of :data:`FLAGS`.
    reason : str
        What was found, with numbers, in one sentence.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Null:
    """The same estimate where nothing is to be found.

    Attributes
    ----------
    mean, sd : float
        Over the draws, in nats.
    upper : float
        Their 95 % quantile, in nats.
    p : float
        (1 + draws as large as the value) / (1 + draws).
    draws : int
        Number of draws.
    exchanged : str
        What was exchanged: ``samples``, names of the groups, or :data:`UNITS`: every unit by
        itself, where ``p`` is of a difference in either direction.
    """

    mean: float
    sd: float
    upper: float
    p: float
    draws: int
    exchanged: str


@dataclass(frozen=True)
class Interval:
    """Where the value would lie with other samples.

    Attributes
    ----------
    low, high : float
        Limits in nats.
    sd : float
        Standard error of the value, in nats.
    freedom : int
        Degrees of freedom of the standard error.
    level : float
        Coverage that is aimed at. It is about the spread of the estimate, not about its bias.
    method : str
        How it was made.
    """

    low: float
    high: float
    sd: float
    freedom: int
    level: float
    method: str


@dataclass(frozen=True)
class Estimate:
    """One estimate of information or entropy.

    Attributes
    ----------
    value : float
        In nats; never clipped at 0.
    quantity : str
        What it estimates: ``I(X;T)`` of inputs and activity, ``I(T;Y)`` of activity and labels,
        ``I(X;Y)`` of two variables, or an entropy.
    estimator : str
        Its name.
    family : str
        One of :data:`FAMILIES`.
    channel : mapping of str to (str, float or int)
        What the number depends on beside the data: noise, bins, kernel, neighbours.
    n : int
        Number of samples.
    n_distinct : int
        Number of different samples.
    d : tuple of int
        Dimensions of the variables, 0 for labels.
    ceiling : float or None
        The largest value that the estimator can give on these samples, in nats.
    saturation : float or None
        I(X;T) in the same channel as a share of log ``n_distinct``: at 1 every input has a symbol
        of its own, and labels of any kind can be read off.
    singletons : float or None
        Share of the samples whose symbol no other sample has.
    null : Null or None
        Values where nothing is to be found.
    interval : Interval or None
        Where the value would lie with other samples.
    flags : tuple of Flag
        Reasons not to read the value as what it is called.
    """

    value: float
    quantity: str
    estimator: str
    family: str
    channel: Mapping[str, str | float | int]
    n: int
    n_distinct: int
    d: tuple[int, ...]
    ceiling: float | None = None
    saturation: float | None = None
    singletons: float | None = None
    null: Null | None = None
    interval: Interval | None = None
    flags: tuple[Flag, ...] = field(default=())

    def flagged(self, *flags: Flag) -> Estimate:
        """Add flags; one that is there by name is kept as it is."""
        known = {flag.name for flag in self.flags}
        return replace(self, flags=(*self.flags, *(f for f in flags if f.name not in known)))

    def has(self, name: str) -> bool:
        """Whether a flag of this name is raised."""
        return any(flag.name == name for flag in self.flags)

    def record(self) -> dict[str, object]:
        """Write the estimate as JSON holds it: names, numbers and text; not finite is None.

        Returns
        -------
        dict
            With ``unit``.
        """
        return {**_plain(asdict(self)), "unit": UNIT}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if isinstance(value, bool | str) or value is None:
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if isinstance(value, int) else number
