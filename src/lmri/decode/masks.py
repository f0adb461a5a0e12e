"""Masks: whether mapped units tell a label better than as many others of their layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lmri.decode.activity import Activity
from lmri.decode.draws import distinct_draws
from lmri.decode.intervals import accuracy_interval, difference_interval
from lmri.decode.labellings import HeldOut, decode_held_out
from lmri.decode.positions import Position
from lmri.decode.profile import Asked, check_cell
from lmri.decode.scoring import ROUNDING, balanced_accuracy
from lmri.errors import EvidenceError

KINDS = {
    "expert": ("router", "expert"),
    "head": ("head", "head"),
    "neuron": ("neuron", "neuron"),
    "residual": ("residual", "dimension"),
}
"""Kinds of mapped units: what is decoded from, and what a unit is called within its layer."""


@dataclass(frozen=True)
class Masked:
    """A mapped mask beside whole layers and random masks, on the same folds.

    Attributes
    ----------
    localised, low, high : float
        Balanced accuracy of the mapped units, with its 95 % interval over carriers.
    whole : float
        Of all units of their layers.
    difference_low, difference_high : float
        95 % interval of localised minus whole.
    random_mean, random_upper : float
        Mean and 95 % quantile over random masks.
    p : float
        ``(1 + random masks as good) / (1 + masks)``.
    masks : int
        Random masks, all of them distinct; ``1 / (1 + masks)`` is the least that p can be.
    units, layers : int
        Units of the mask, layers that they are in.
    n : int
        Trials.
    """

    localised: float
    low: float
    high: float
    whole: float
    difference_low: float
    difference_high: float
    random_mean: float
    random_upper: float
    p: float
    masks: int
    units: int
    layers: int
    n: int


def compare_masks(
    activity: Activity,
    asked: Asked,
    position: Position,
    units: Mapping[int, tuple[int, ...]],
    *,
    draws: int,
    seed: int,
) -> Masked:
    """Decode from mapped units, from their whole layers, and from random masks.

    Parameters
    ----------
    activity : Activity
        Activity of the kind of the units.
    asked : Asked
        What is decoded, of trials that the units were not selected on.
    position : Position
        Where.
    units : mapping of int to tuple of int
        Mapped units by layer.
    draws : int
        Distinct random masks, or all there are: in each layer as many units as are mapped, of the
        others where there are enough of them. The mapped mask is none of them.
    seed : int
        Of the masks and intervals.

    Returns
    -------
    Masked
        The comparison.

    Raises
    ------
    EvidenceError
        If the units are all there are, or nothing can be decoded.
    """
    layers, width = sorted(units), activity.units
    sizes = [len(units[layer]) for layer in layers]
    owner = asked.labelled.question.owner
    if all(size >= width for size in sizes):
        raise EvidenceError(
            f"a mask for {owner} needs a layer with more units than it has. All {width} units of "
            f"layer {layers[0]} are mapped: nothing is left to compare with."
        )
    parts = [activity.at(layer, position, asked.labelled.rows) for layer in layers]
    X = np.concatenate(parts, axis=1)
    check_cell(X, asked.labelled, f"{position.name} in layer {', '.join(map(str, layers))}")
    mapped = np.zeros((len(layers), width), dtype=bool)
    for number, layer in enumerate(layers):
        mapped[number, list(units[layer])] = True
    localised = _decoded(X, asked, mapped)
    whole = _decoded(X, asked, np.ones_like(mapped))
    rng = np.random.default_rng([seed, 35])
    others = _others(mapped, draws, rng)
    drawn = np.array([_score(_decoded(X, asked, mask), asked) for mask in others])
    value, labelled = _score(localised, asked), asked.labelled
    return Masked(
        value,
        *accuracy_interval(localised, labelled, seed),
        _score(whole, asked),
        *difference_interval(localised, whole, labelled, seed),
        float(drawn.mean()),
        float(np.quantile(drawn, 0.95)),
        float((1 + (drawn >= value - ROUNDING).sum()) / (1 + len(drawn))),
        len(drawn),
        int(mapped.sum()),
        len(layers),
        int((localised.fold >= 0).sum()),
    )


def _decoded(X: np.ndarray, asked: Asked, mask: np.ndarray) -> HeldOut:
    names = asked.labelled.names
    own = mask.reshape(-1)
    return decode_held_out(X, asked.labels[:1], asked.folds.folds, len(names), mask=own)


def _score(held: HeldOut, asked: Asked) -> float:
    return float(balanced_accuracy(held, asked.labels[:1])[0])


def _others(mapped: np.ndarray, draws: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Distinct random masks, never the mapped one: of other units where a layer has enough."""
    own = [np.flatnonzero(row) for row in mapped]
    others = [np.flatnonzero(~row) for row in mapped]
    everything = np.arange(mapped.shape[1])
    pools = [
        left if len(left) >= len(part) else everything
        for left, part in zip(others, own, strict=True)
    ]
    masks = []
    for chosen in distinct_draws(
        [pool.tolist() for pool in pools], [part.tolist() for part in own], draws, rng
    ):
        mask = np.zeros_like(mapped)
        for layer, units in enumerate(chosen):
            mask[layer, list(units)] = True
        masks.append(mask)
    return masks
