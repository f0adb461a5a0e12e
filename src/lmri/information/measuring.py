"""Estimates of one layer about one attribute, with nulls, intervals and flags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from lmri.checks import check_choice
from lmri.errors import EvidenceError
from lmri.information.binning import BINS, bin_information, ebab
from lmri.information.compression import (
    compress,
    compressed_samples,
    named,
    pair_information,
    with_noise,
)
from lmri.information.entropy import label_information
from lmri.information.estimate import Estimate
from lmri.information.gaussian import gaussian_copula, gaussian_with_null
from lmri.information.geometry import two_nearest_dimension
from lmri.information.guards import Evidence, guard
from lmri.information.kernel import BOUNDS, NOISE, kolchinsky_tracey, label_bounds
from lmri.information.neighbours import ksg, ross
from lmri.information.nulls import (
    DRAWS,
    block_orders,
    null_of,
    structure_null,
    with_label_null,
    with_order_null,
)
from lmri.information.plugin import choice_information
from lmri.information.probe import (
    STRENGTH,
    group_folds,
    held_out_gains,
    probe_information,
    standardised,
)
from lmri.information.question import Sample
from lmri.information.references import References
from lmri.information.samples import label_entropy
from lmri.information.subsampling import disjoint_interval, sample_size_curve

ESTIMATORS = ("probe", "ross", "compressed", "pair", "copula", "kt", "ebab")
"""Estimators of continuous activity, in the order in which they are made; ``pair`` and ``copula``,
KSG and the Gaussian copula of inputs and activity, where inputs are given."""

OF_INPUTS = ("pair", "copula")


@dataclass(frozen=True)
class Settings:
    """How information is estimated.

    Attributes
    ----------
    estimators : tuple of str
        Of :data:`ESTIMATORS`.
    noise : tuple of float
        Noise of the bounds, in units of a layer's root mean square. The most of it is for wide
        layers, which tell all inputs apart through less.
    compressed_noise : float
        Noise before compression, in the same unit.
    bins : int
        Bins of EBAB.
    dimensions : int
        Principal components for neighbours.
    neighbours : int
        Neighbours.
    draws : int
        Draws of a null.
    probe_draws : int
        Draws of the null of the probe, which is trained anew for each.
    folds : int
        Folds of the probe.
    strength : float
        Inverse strength of its penalty.
    parts : int
        Disjoint parts of an interval.
    seed : int
        Seed of all draws.
    """

    estimators: tuple[str, ...] = ESTIMATORS
    noise: tuple[float, ...] = (3.0, *NOISE)
    compressed_noise: float = 0.1
    bins: int = BINS
    dimensions: int = 3
    neighbours: int = 3
    draws: int = DRAWS
    probe_draws: int = 39
    folds: int = 5
    strength: float = STRENGTH
    parts: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the names of estimators."""
        for name in self.estimators:
            check_choice(name, ESTIMATORS, "estimators", "information", EvidenceError)


@dataclass(frozen=True)
class Refused:
    """An estimator that could not be used.

    Attributes
    ----------
    estimator : str
        Its name.
    reason : str
        Why.
    """

    estimator: str
    reason: str


@dataclass(frozen=True)
class _Beside:
    """What an estimator may look at beside the activity."""

    probe: float | None
    inputs: np.ndarray | None
    references: References


def measure(
    t: np.ndarray,
    sample: Sample,
    settings: Settings,
    inputs: np.ndarray | None = None,
    references: References | None = None,
) -> list[Estimate | Refused]:
    """Estimate what the activity of a layer tells of inputs and of an attribute.

    Parameters
    ----------
    t : ndarray of shape (n, d), float64
        Activity of the trials of the sample.
    sample : Sample
        Their labels.
    settings : Settings
        How.
    inputs : ndarray of shape (n, d), optional
        What stands for the inputs of the same trials.
    references : References, optional
        Of the same activity, where it is asked about several attributes.

    Returns
    -------
    list of Estimate or Refused
        In the order of the settings' estimators; an estimator that refuses the activity (constant,
        repeated, too few samples) gives its reason and no number.
    """
    found: list[Estimate | Refused] = []
    references = references or References(t, settings.seed)
    probe = None
    for name in sorted(settings.estimators, key=ESTIMATORS.index):
        if name in OF_INPUTS and inputs is None:
            continue
        try:
            own = list(_MAKERS[name](t, sample, settings, _Beside(probe, inputs, references)))
        except EvidenceError as error:
            found.append(Refused(name, str(error)))
            continue
        if name == "probe":
            probe = own[0].value
        found.extend(own)
    return found


def measure_choices(rates: np.ndarray, sample: Sample) -> list[Estimate]:
    """Estimate what the choice of an expert tells of an attribute.

    Parameters
    ----------
    rates : ndarray of shape (n, n_experts), float64
        From :func:`lmri.information.readings.choice_rates`.
    sample : Sample
        Labels of the trials.

    Returns
    -------
    list of Estimate
        One. The mean of the null, the bias of the table, is taken out of it and of its null.
    """
    raw = choice_information(rates, np.concatenate([sample.codes[None], sample.labellings]))
    bias = float(raw[1:].mean())
    cells = int((rates.sum(axis=0) > 0).sum()) * (int(sample.codes.max()) + 1)
    found = Estimate(
        value=float(raw[0]) - bias,
        quantity="I(E;Y)",
        estimator="plug_in",
        family="plug_in",
        channel={"correction": "mean of the null", "cells": cells, "bias": bias},
        n=len(rates),
        n_distinct=len(np.unique(rates, axis=0)),
        d=(0, 0),
        ceiling=label_entropy(sample.codes),
        null=null_of(float(raw[0]) - bias, raw[1:] - bias, sample.exchanged),
    )
    return [guard(found, _evidence(sample))]


def _probe(
    t: np.ndarray, sample: Sample, settings: Settings, beside: _Beside
) -> Iterator[Estimate]:
    found = probe_information(
        t,
        sample.codes,
        groups=sample.groups,
        folds=settings.folds,
        strength=settings.strength,
        seed=settings.seed,
    )

    ready = standardised(t)

    def of_labels(labels: np.ndarray) -> float:
        folds = group_folds(labels, sample.groups, settings.folds, settings.seed)
        return float(held_out_gains(ready, labels, folds, settings.strength).mean())

    drawn = sample.labellings[: settings.probe_draws]
    found = with_label_null(found, of_labels, drawn, sample.exchanged)
    yield guard(found, _evidence(sample))


def _ross(t: np.ndarray, sample: Sample, settings: Settings, beside: _Beside) -> Iterator[Estimate]:
    kept = compress(t, settings.dimensions)
    values = kept.values

    def of(rows: np.ndarray, labels: np.ndarray) -> Estimate:
        return ross(values[rows], labels[rows], k=settings.neighbours)

    found = of(np.arange(len(t)), sample.codes)
    named = {"compression": kept.method, "dimensions": values.shape[1], "kept": kept.kept}
    found = replace(found, channel={**found.channel, **named})
    yield _neighbours(found, values, of, sample, settings, beside.probe)


def _compressed(
    t: np.ndarray, sample: Sample, settings: Settings, beside: _Beside
) -> Iterator[Estimate]:
    noisy = with_noise(t, settings.compressed_noise, settings.seed)
    kept = compress(noisy, settings.dimensions)
    values = kept.values

    def of(rows: np.ndarray, labels: np.ndarray) -> Estimate:
        return label_information(values[rows], labels[rows], k=settings.neighbours)

    found = of(np.arange(len(t)), sample.codes)
    channel = {
        **found.channel,
        "noise": settings.compressed_noise,
        "reference": "rms",
        "compression": kept.method,
        "dimensions": values.shape[1],
        "kept": kept.kept,
    }
    found = replace(found, channel=channel)
    yield _neighbours(found, values, of, sample, settings, beside.probe)


def _pair(t: np.ndarray, sample: Sample, settings: Settings, beside: _Beside) -> Iterator[Estimate]:
    own = compressed_samples(
        beside.inputs, t, settings.compressed_noise, settings.dimensions, seed=settings.seed
    )
    found = pair_information(own, settings.compressed_noise, k=settings.neighbours)
    x, values = own[0].values, own[1].values

    def of(rows: np.ndarray) -> float:
        parts = _compressed_part(rows, t, beside, settings)
        return ksg(*parts, k=settings.neighbours).value

    orders = block_orders(len(t), None, settings.draws, settings.seed)
    found = with_order_null(
        found, lambda order: ksg(x, values[order], k=settings.neighbours).value, orders, "trials"
    )
    found = _with_interval(found, of, sample, settings)
    dimension = float(np.fmax(two_nearest_dimension(x), two_nearest_dimension(values)))
    yield guard(found, replace(_evidence(sample), intrinsic_dimension=dimension))


def _copula(
    t: np.ndarray, sample: Sample, settings: Settings, beside: _Beside
) -> Iterator[Estimate]:
    x, kept = compressed_samples(
        beside.inputs, t, settings.compressed_noise, settings.dimensions, seed=settings.seed
    )
    values = kept.values

    def of(rows: np.ndarray) -> float:
        return gaussian_copula(*_compressed_part(rows, t, beside, settings)).value

    found = gaussian_with_null(
        x.values, values, copula=True, draws=settings.draws, seed=settings.seed
    )
    found = replace(named(found, kept, settings.compressed_noise), quantity="I(X;T)")
    found = replace(found, null=replace(found.null, exchanged="trials"))
    yield guard(_with_interval(found, of, sample, settings), _evidence(sample))


def _compressed_part(
    rows: np.ndarray, t: np.ndarray, beside: _Beside, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and activity of a part, compressed on it alone: components vary with samples too."""
    noise, dimensions = settings.compressed_noise, settings.dimensions
    x, kept = compressed_samples(
        beside.inputs[rows], t[rows], noise, dimensions, seed=settings.seed
    )
    return x.values, kept.values


def _neighbours(
    found: Estimate,
    values: np.ndarray,
    of: Callable[[np.ndarray, np.ndarray], Estimate],
    sample: Sample,
    settings: Settings,
    probe: float | None,
) -> Estimate:
    every = np.arange(len(values))
    found = with_label_null(
        found, lambda labels: of(every, labels).value, sample.labellings, sample.exchanged
    )
    slope = None
    found = _with_interval(found, lambda rows: of(rows, sample.codes).value, sample, settings)
    if found.interval is not None:
        curve = sample_size_curve(
            lambda rows: of(rows, sample.codes).value,
            sample.groups,
            parts=(1, 2),
            seed=settings.seed,
            codes=sample.codes,
        )
        slope = curve.slope
    evidence = _evidence(sample, probe)
    dimension = two_nearest_dimension(values)
    return guard(found, replace(evidence, intrinsic_dimension=dimension, slope=slope))


def _kt(t: np.ndarray, sample: Sample, settings: Settings, beside: _Beside) -> Iterator[Estimate]:
    drawn: dict[float, np.ndarray] = {}
    references = beside.references.of(
        "kt", lambda states: kolchinsky_tracey(states, noise=settings.noise)
    )
    for number, own in enumerate(kolchinsky_tracey(t, sample.codes, noise=settings.noise)):
        sd = own.channel["sd"]
        if own.quantity == "I(X;T)":
            own = replace(own, null=structure_null(own.value, references[number // 2]))
        else:
            if sd not in drawn:
                drawn[sd] = label_bounds(t, sd, sample.labellings)
            by_bound = drawn[sd][BOUNDS.index(own.estimator.removeprefix("kt_"))]
            own = replace(own, null=null_of(own.value, by_bound, sample.exchanged))

        def of(rows: np.ndarray, number: int = number) -> float:
            parts = kolchinsky_tracey(t[rows], sample.codes[rows], noise=settings.noise)
            return parts[number].value

        yield guard(_with_interval(own, of, sample, settings), _evidence(sample, beside.probe))


def _ebab(t: np.ndarray, sample: Sample, settings: Settings, beside: _Beside) -> Iterator[Estimate]:
    of_labels = bin_information(t, bins=settings.bins)
    references = beside.references.of("ebab", lambda states: ebab(states, bins=settings.bins))
    for number, own in enumerate(ebab(t, sample.codes, bins=settings.bins)):
        if own.quantity == "I(X;T)":
            own = replace(own, null=structure_null(own.value, references[0]))
        else:
            own = with_label_null(own, of_labels, sample.labellings, sample.exchanged)

        def of(rows: np.ndarray, number: int = number) -> float:
            return ebab(t[rows], sample.codes[rows], bins=settings.bins)[number].value

        yield guard(_with_interval(own, of, sample, settings), _evidence(sample, beside.probe))


def _with_interval(
    found: Estimate, of: Callable[[np.ndarray], float], sample: Sample, settings: Settings
) -> Estimate:
    """Add an interval, unless a part of the samples is too small for the estimator.

    Parts share no carrier of the attribute; of what is told of the inputs, which is no attribute,
    no carrier at all.
    """
    of_inputs = found.quantity == "I(X;T)"
    try:
        interval = disjoint_interval(
            of,
            found.value,
            sample.carriers if of_inputs else sample.groups,
            parts=settings.parts,
            seed=settings.seed,
            codes=None if of_inputs else sample.codes,
        )
    except EvidenceError:
        return found
    return replace(found, interval=interval)


def _evidence(sample: Sample, probe: float | None = None) -> Evidence:
    return Evidence(probe, groups=sample.independent, grouped=sample.grouped)


_MAKERS = {
    "probe": _probe,
    "ross": _ross,
    "compressed": _compressed,
    "pair": _pair,
    "copula": _copula,
    "kt": _kt,
    "ebab": _ebab,
}
