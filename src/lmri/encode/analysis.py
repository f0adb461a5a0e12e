"""Encoding of the trials of a task in one phase: every unit of a kind, block after block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr

from lmri.encode.activity import Trials, Units, blocks
from lmri.encode.bands import Layout
from lmri.encode.ceiling import Repeats, explainable_variance
from lmri.encode.folds import Folds
from lmri.encode.moments import Moments
from lmri.encode.partition import Partition, partition
from lmri.encode.ridge import Search
from lmri.encode.scores import plain_r2, variance, varying
from lmri.encode.significance import Exchange, exchanges, follows, null_scores, p_values
from lmri.errors import EvidenceError
from lmri.store.carriers import CARRIER, carriers_of

ALL = "all"
"""Name of all bands of interest together, among those that are tested."""


@dataclass(frozen=True)
class Design:
    """What trials are encoded by.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features), float64
        The features.
    layout : Layout
        Their bands.
    folds : Folds
        The folds.
    search : Search
        Weights of bands and penalties that are tried.
    """

    X: np.ndarray
    layout: Layout
    folds: Folds
    search: Search

    @property
    def tested(self) -> dict[str, np.ndarray]:
        """Columns of every band of interest, and of :data:`ALL` where there are several."""
        slices = self.layout.slices
        own = {
            name: np.arange(slices[name].start, slices[name].stop)
            for name in self.layout.of_role("interest")
        }
        return own | ({ALL: np.concatenate(list(own.values()))} if len(own) > 1 else {})


def carrier_table(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of the carriers of a table of trials, in one order."""
    return table[[f"{CARRIER}{name}" for name in carriers_of(table)]]


def exchanged(
    design: Design, trials: Trials, draws: int, seed: int
) -> tuple[dict[str, Exchange], dict[str, str]]:
    """Draw how every tested band changes places.

    Parameters
    ----------
    design : Design
        Features and bands.
    trials : Trials
        The rows.
    draws, seed : int
        Number of draws, and their seed; 0 tests nothing.

    Returns
    -------
    exchange : dict of str to Exchange
        By band, see :func:`lmri.encode.significance.exchanges`.
    left_out : dict of str to str
        Why bands are not tested, under ``<band>.p``.
    """
    carriers, about = carrier_table(trials.table), design.X - design.X.mean(axis=0)

    def draw(name: str, place: int) -> Exchange:
        return exchanges(design.X[:, design.tested[name]], carriers, draws, seed + place)

    return testable(design, about.T @ about, draw) if draws else ({}, {})


def testable(
    design: Design, gram: np.ndarray, draw: Callable[[str, int], Exchange]
) -> tuple[dict[str, Exchange], dict[str, str]]:
    """Draw exchanges of the bands that can be tested, see :func:`exchanged`.

    Parameters
    ----------
    design : Design
        Bands.
    gram : ndarray of shape (n_features, n_features)
        Sums of products of features about their means.
    draw : callable
        Draws the exchanges of a band, by its name and its place.

    Returns
    -------
    exchange : dict of str to Exchange
        By band.
    left_out : dict of str to str
        Why others are not tested.
    """
    found, left_out = {}, {}
    for place, (name, columns) in enumerate(design.tested.items()):
        if follows(gram, columns):
            left_out[f"{name}.p"] = "not tested: it follows from the other bands, in every row"
            continue
        own = draw(name, place)
        if len(own.orders):
            found[name] = own
        else:
            left_out[f"{name}.p"] = "not tested: no row could change its values"
    return found, left_out


def encode_trials(
    trials: Trials,
    units: Units,
    design: Design,
    repeats: Repeats,
    exchange: Mapping[str, Exchange],
) -> xr.Dataset:
    """Encode all units of a kind.

    Parameters
    ----------
    trials : Trials
        The rows.
    units : Units
        The units.
    design : Design
        Features, bands and folds.
    repeats : Repeats
        Rows that repeat each other.
    exchange : mapping of str to Exchange
        By tested band; see :func:`exchanged`.

    Returns
    -------
    Dataset
        Over the dimensions of the units: ``r2``, ``r``, ``nuisance``, ``explainable`` and
        ``variance``; by ``band`` ``split``; by ``interest`` ``unique`` and ``alone``; by ``pair``
        ``shared``; by ``tested`` ``gain``, ``p``, ``p_max`` and ``q``. See ``docs/encode.md``.

    Raises
    ------
    EvidenceError
        If no unit varies.
    """
    parts, drawn, gains = [], {name: [] for name in exchange}, {name: [] for name in exchange}
    for _, Y in blocks(trials, units):
        moments = Moments(len(design.folds.apart), design.X.shape[1], Y.shape[1])
        moments.add(design.X, Y, design.folds.cell)
        found = partition(moments, design.folds, design.search, design.layout)
        parts.append(_scores(found, moments) | _ceiling(Y, repeats, moments))
        null_of = partial(_null_of_trials, design, moments, Y, exchange)
        for name, gain, null in _tested(design, moments, exchange, null_of):
            gains[name].append(gain)
            drawn[name].append(null.astype(np.float32))
    joined = {name: np.concatenate([own[name] for own in parts], axis=-1) for name in parts[0]}
    still = int((~joined.pop("varies")).sum())
    if still == joined["r2"].size:
        raise EvidenceError(
            f"The encoding of '{units.kind}' in '{trials.phase}' needs units that vary. All "
            f"{still} are constant in {len(trials.table)} trials."
        )
    joined |= _test_results(gains, drawn)
    labelled = _labelled(joined, units, design, tuple(exchange), found.pairs)
    return labelled.assign_attrs(
        **_about(design, still, len(trials.table)),
        **_about_tests(exchange),
        ceiling=repeats.kind or repeats.reason,
        repeated=repeats.n,
    )


Null = Callable[[int, str], np.ndarray]
"""Draws of one layer and band: the place of the layer, and the band."""


def encode_sums(
    moments: Sequence[Moments],
    units: Units,
    design: Design,
    exchange: Mapping[str, Exchange],
    null: Null,
) -> xr.Dataset:
    """Encode units from sums alone, one of each layer: tokens, which are streamed.

    Parameters
    ----------
    moments : sequence of Moments
        Of every layer.
    units : Units
        The units.
    design : Design
        Bands and folds; its ``X`` is not used.
    exchange : mapping of str to Exchange
        How trials change places, by tested band.
    null : callable
        Makes the held-out R² of all bands in the draws, array of shape (draws, n_units).

    Returns
    -------
    Dataset
        As :func:`encode_trials`, without a ceiling.

    Raises
    ------
    EvidenceError
        If no unit varies.
    """
    still = int(sum((~varying(own)).sum() for own in moments))
    if still == sum(own.units for own in moments):
        raise EvidenceError(
            f"The encoding of tokens of '{units.kind}' needs units that vary. All {still} are "
            f"constant in {int(moments[0].n.sum())} tokens."
        )
    found = [partition(own, design.folds, design.search, design.layout) for own in moments]
    parts = [_scores(own, sums) for own, sums in zip(found, moments, strict=True)]
    joined = {name: np.concatenate([own[name] for own in parts], axis=-1) for name in parts[0]}
    drawn, gains = {name: [] for name in exchange}, {name: [] for name in exchange}
    for layer, sums in enumerate(moments):
        for name, gain, own in _tested(design, sums, exchange, partial(null, layer)):
            gains[name].append(gain)
            drawn[name].append(own.astype(np.float32))
    joined |= _test_results(gains, drawn)
    labelled = _labelled(joined, units, design, tuple(exchange), found[0].pairs)
    return labelled.assign_attrs(
        **_about(design, still, int(moments[0].n.sum())),
        **_about_tests(exchange),
        ceiling="no ceiling: tokens are not repeated",
    )


def _about(design: Design, constant: int, n: int) -> dict[str, object]:
    """Attributes that say how it was made."""
    layout, folds = design.layout, design.folds
    return {
        "n": n,
        "constant": constant,
        "carriers": folds.carriers,
        "cells": len(folds.apart),
        "tests": len(folds.tests),
        "features": dict(zip(layout.names, layout.sizes, strict=True)),
        "roles": dict(zip(layout.names, layout.roles, strict=True)),
        "alphas": design.search.alphas.tolist(),
        "candidates": len(design.search.gammas),
    }


def _scores(found: Partition, moments: Moments) -> dict[str, np.ndarray]:
    return {
        "variance": variance(moments),
        "r2": found.full.r2,
        "r": found.full.r,
        "split": found.full.split,
        "nuisance": found.nuisance,
        "unique": found.unique,
        "alone": found.alone,
        "shared": found.shared,
    }


def _ceiling(Y: np.ndarray, repeats: Repeats, moments: Moments) -> dict[str, np.ndarray]:
    explainable = np.full(Y.shape[1], np.nan)
    if repeats.n:
        explainable = explainable_variance(Y, repeats.stimulus)
    return {"explainable": explainable, "varies": varying(moments)}


def _about_tests(exchange: Mapping[str, Exchange]) -> dict[str, object]:
    return {
        "exchanged": {name: own.scheme for name, own in exchange.items()},
        "draws": max((len(own.orders) for own in exchange.values()), default=0),
    }


def _tested(
    design: Design,
    moments: Moments,
    exchange: Mapping[str, Exchange],
    null_of: Callable[[str], np.ndarray],
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, held-out gain and its draws of every tested band, by plain ridge."""
    if not exchange:
        return
    alphas = design.search.alphas
    full = plain_r2(moments, design.folds, alphas)
    for name in exchange:
        rest = np.setdiff1d(np.arange(moments.features), design.tested[name])
        less = np.zeros_like(full)
        if len(rest):
            less = plain_r2(moments.of(rest), design.folds, alphas)
        yield name, full - less, null_of(name) - less


def _null_of_trials(
    design: Design,
    moments: Moments,
    Y: np.ndarray,
    exchange: Mapping[str, Exchange],
    name: str,
) -> np.ndarray:
    nuisance, columns = design.layout.columns_of("nuisance"), design.tested[name]
    alphas = design.search.alphas
    return null_scores(
        design.X, Y, moments, design.folds, columns, exchange[name], nuisance, alphas
    )


def _test_results(
    gains: Mapping[str, Sequence[np.ndarray]], drawn: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, np.ndarray]:
    """Gain, p, p_max and q of the units of all blocks together: (n_tested, n_units) each."""
    tests = []
    for name, own in gains.items():
        gain = np.concatenate(own)
        tests.append({"gain": gain, **p_values(gain, np.concatenate(drawn[name], axis=1))})
    names = ("gain", "p", "p_max", "q") if tests else ()
    return {name: np.stack([own[name] for own in tests]) for name in names}


def _labelled(
    values: Mapping[str, np.ndarray],
    units: Units,
    design: Design,
    tested: tuple[str, ...],
    pairs: tuple[tuple[str, str], ...],
) -> xr.Dataset:
    labels = {
        "band": list(design.layout.names),
        "interest": list(design.layout.of_role("interest")),
        "pair": [f"{first} and {second}" for first, second in pairs],
        "tested": list(tested),
    }
    of = {"split": "band", "unique": "interest", "alone": "interest", "shared": "pair"}
    of |= dict.fromkeys(("gain", "p", "p_max", "q"), "tested")
    shape = (len(units.layers), *units.shape)
    variables = {}
    for name, array in values.items():
        own = of.get(name)
        dims = units.dims if own is None else (own, *units.dims)
        full = array.reshape(shape if own is None else (len(labels[own]), *shape))
        if full.size:
            variables[name] = (dims, full.astype(np.float32))
    used = {dim for dims, _ in variables.values() for dim in dims}
    coordinates = {name: own for name, own in labels.items() if name in used}
    return xr.Dataset(variables, {**units.coordinates, **coordinates})
