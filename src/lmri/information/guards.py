"""Guards: when a number of information means nothing, said so that a machine can read it.

Every rule gives a :class:`lmri.information.estimate.Flag`. The thresholds are proposals, each with
a fixture in the tests on which it must fire.

============================ ==================================================================
``saturation``               I(X;T) of the channel exceeds .95 of log n_distinct, or more than .9
                             of the samples have a symbol of their own; for I(T;Y) also: the value
                             exceeds .95 of H(Y) while a held-out probe reads less than half of it
``failed_null``              the mean of the null exceeds .1 of the value, or p > .05; for I(X;T):
                             no other than of states with independent units, p > .05
``dimension``                neighbours: intrinsic dimension above 3, or n < 10 · 2^dimension;
                             Gaussian: n < 10 (d_x + d_y); plug-in: n < 4 cells of the table;
                             constant samples
``ceiling``                  a neural bound within .9 of its ceiling; any other value above log n,
                             which no sample of n can show without a model
``negativity``               the value is below 0 by more than two standard errors
``instability``              standard error above .2 of the value, or I against 1/n still changes
                             by more than 10 % between the two largest n
``dependent_tokens``         fewer independent groups than samples, where the null or the interval
                             treats samples as independent
============================ ==================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lmri.information.estimate import UNITS, Estimate, Flag

SATURATED = 0.95
SINGLETONS = 0.9
PROBE_SHARE = 0.5
NULL_SHARE = 0.1
LEVEL = 0.05
MOST_DIMENSIONS = 3.0
SAMPLES_PER_PARAMETER = 10
SAMPLES_PER_CELL = 4
NEAR_CEILING = 0.9
UNSTABLE = 0.2
SLOPE = 0.1
ROUNDING = 1e-9


@dataclass(frozen=True)
class Evidence:
    """What is known beside the estimate.

    Attributes
    ----------
    probe : float or None
        Held-out information of a probe about the same labels, in nats.
    intrinsic_dimension : float or None
        Dimension of the samples, whatever the number of coordinates.
    slope : float or None
        Relative change of the value between the two largest n of a sample-size curve.
    groups : int or None
        Number of independent groups among the samples.
    grouped : bool
        Whether the null exchanges, and the interval and the folds keep together, whole groups.
    """

    probe: float | None = None
    intrinsic_dimension: float | None = None
    slope: float | None = None
    groups: int | None = None
    grouped: bool = False


def guard(estimate: Estimate, evidence: Evidence | None = None) -> Estimate:
    """Apply every rule.

    Parameters
    ----------
    estimate : Estimate
        With its null and interval, where there are any; a rule whose evidence is missing is
        not applied.
    evidence : Evidence, optional
        What is known beside.

    Returns
    -------
    Estimate
        With flags.
    """
    evidence = evidence or Evidence()
    rules = (
        _saturation(estimate, evidence),
        _failed_null(estimate),
        _dimension(estimate, evidence),
        _ceiling(estimate),
        _negativity(estimate),
        _instability(estimate, evidence),
        _dependent(estimate, evidence),
    )
    return estimate.flagged(*(flag for found in rules for flag in found))


def _saturation(estimate: Estimate, evidence: Evidence) -> Iterator[Flag]:
    if estimate.saturation is not None and estimate.saturation > SATURATED:
        yield Flag(
            "saturation",
            f"I(X;T) is {estimate.saturation:.3f} of log n = {math.log(estimate.n_distinct):.3f}: "
            "every input is told from every other, and any labels can be read off.",
        )
    elif estimate.singletons is not None and estimate.singletons > SINGLETONS:
        yield Flag(
            "saturation", f"{100 * estimate.singletons:.0f} % of the samples have a symbol alone."
        )
    elif (
        estimate.quantity == "I(T;Y)"
        and estimate.ceiling is not None
        and evidence.probe is not None
        and estimate.family != "probe"
        and estimate.value > SATURATED * estimate.ceiling
        and evidence.probe < PROBE_SHARE * estimate.value
    ):
        yield Flag(
            "saturation",
            f"{estimate.value:.3f} is all of H(Y) = {estimate.ceiling:.3f}, of which a held-out "
            f"probe reads {evidence.probe:.3f}.",
        )


def _failed_null(estimate: Estimate) -> Iterator[Flag]:
    null = estimate.null
    if null is None:
        return
    if null.exchanged == UNITS:
        if null.p > LEVEL:
            yield Flag(
                "failed_null",
                f"States of as many independent units tell {null.mean:.3f} of the inputs, this "
                f"layer {estimate.value:.3f} (p = {null.p:.3f}, {null.draws} draws).",
            )
    elif null.mean > NULL_SHARE * estimate.value:
        yield Flag(
            "failed_null",
            f"{null.mean:.3f} of {estimate.value:.3f} is there without any relation "
            f"({null.draws} draws).",
        )
    elif null.p > LEVEL:
        yield Flag(
            "failed_null",
            f"Draws without any relation are as large (p = {null.p:.3f}, {null.draws} draws).",
        )


def _dimension(estimate: Estimate, evidence: Evidence) -> Iterator[Flag]:
    own = evidence.intrinsic_dimension
    if estimate.n_distinct == 1:
        yield Flag("dimension", "The samples are constant: there is nothing to be measured.")
    elif estimate.family == "neighbours" and own is not None and own > MOST_DIMENSIONS:
        yield Flag(
            "dimension",
            f"The samples have about {own:.1f} dimensions; neighbours read low above "
            f"{MOST_DIMENSIONS:g}.",
        )
    elif estimate.family == "neighbours" and own is not None and estimate.n < 10 * 2**own:
        yield Flag("dimension", f"{estimate.n} samples are few for about {own:.1f} dimensions.")
    elif estimate.family == "gaussian" and estimate.n < SAMPLES_PER_PARAMETER * sum(estimate.d):
        yield Flag("dimension", f"{estimate.n} samples are few for {sum(estimate.d)} dimensions.")
    elif estimate.family == "plug_in":
        cells = int(estimate.channel.get("cells", 0))
        if estimate.n < SAMPLES_PER_CELL * cells:
            yield Flag("dimension", f"{estimate.n} samples are few for {cells} cells.")


def _ceiling(estimate: Estimate) -> Iterator[Flag]:
    neural = estimate.family == "neural"
    if neural and estimate.ceiling and estimate.value > NEAR_CEILING * estimate.ceiling:
        yield Flag(
            "ceiling",
            f"The bound cannot exceed {estimate.ceiling:.3f}; the truth may lie far above.",
        )
    elif estimate.value > math.log(estimate.n) + ROUNDING:
        yield Flag(
            "ceiling",
            f"{estimate.value:.3f} exceeds log n = {math.log(estimate.n):.3f}: it follows from the "
            "model of the estimator, not from the samples.",
        )


def _negativity(estimate: Estimate) -> Iterator[Flag]:
    error = estimate.interval or estimate.null
    if error is not None and estimate.value < -2 * error.sd and estimate.value < 0:
        yield Flag(
            "negativity",
            f"{estimate.value:.3f} is below 0 by more than two standard errors ({error.sd:.3f}).",
        )


def _instability(estimate: Estimate, evidence: Evidence) -> Iterator[Flag]:
    interval = estimate.interval
    if interval is not None and interval.sd > UNSTABLE * abs(estimate.value):
        yield Flag(
            "instability",
            f"The standard error, {interval.sd:.3f}, is more than {UNSTABLE:g} of the value.",
        )
    elif evidence.slope is not None and abs(evidence.slope) > SLOPE:
        yield Flag(
            "instability",
            f"The value still changes by {100 * evidence.slope:.0f} % between the two largest n.",
        )


def _dependent(estimate: Estimate, evidence: Evidence) -> Iterator[Flag]:
    dependent = evidence.groups is not None and evidence.groups < estimate.n
    if dependent and not evidence.grouped:
        yield Flag(
            "dependent_tokens",
            f"{estimate.n} samples come from {evidence.groups} independent groups, but are treated "
            "as independent.",
        )
