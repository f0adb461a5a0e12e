"""Region ablation: which layers a decoder of all layers depends on.

A decoder of all layers is trained without one group of neighbouring layers, and without random
groups of as many. What other layers tell as well is not missed when it is dropped: a small loss
does not mean that the group says nothing, for which each group is also decoded alone.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from lmri.decode.activity import Activity
from lmri.decode.draws import distinct_draws
from lmri.decode.estimator import COMPONENTS, SHRINKAGES, masked_space
from lmri.decode.intervals import difference_interval
from lmri.decode.labellings import Discriminants, HeldOut, odds_of
from lmri.decode.positions import Position
from lmri.decode.profile import Asked, check_cell, described
from lmri.decode.scoring import ROUNDING, balanced_accuracy
from lmri.errors import EvidenceError

REGIONS = 3
"""Groups of neighbouring layers, at most: early, middle, late."""

SHRINKAGE = SHRINKAGES[len(SHRINKAGES) // 2]


def ablate_regions(
    activity: Activity, asked: Asked, position: Position, *, draws: int, seed: int
) -> xr.Dataset:
    """Decode from all layers, without each region, from it alone, and without random groups.

    Parameters
    ----------
    activity : Activity
        Activity of the task.
    asked : Asked
        What is decoded.
    position : Position
        Where.
    draws : int
        Random groups, at most; all there are if they are fewer.
    seed : int
        Of the groups and intervals.

    Returns
    -------
    Dataset
        Balanced accuracy ``all`` layers; by region ``without`` it and ``alone``, the ``loss`` with
        its 95 % interval over carriers (``low``, ``high``), of random groups of as many layers the
        mean loss ``random_mean`` and the ``groups`` they are, and ``p``, the share of all groups,
        its own among them, that lose as much.

    Raises
    ------
    EvidenceError
        If there are fewer than two layers, or one cannot be decoded.
    """
    labelled, layers = asked.labelled, activity.layers
    if len(layers) < 2:
        raise EvidenceError(
            f"region ablation of {labelled.question.owner} needs at least 2 layers. Got "
            f"{len(layers)}."
        )
    joint = _Joint(activity, asked, position)
    everything = frozenset(range(len(layers)))
    whole = joint.held_out(everything)
    accuracy = joint.score(whole)
    rng = np.random.default_rng([seed, 36])
    rows = []
    for part in np.array_split(np.arange(len(layers)), min(REGIONS, len(layers))):
        region = frozenset(part.tolist())
        dropped = joint.held_out(everything - region)
        loss = accuracy - joint.score(dropped)
        others = distinct_draws([range(len(layers))], [part.tolist()], draws, rng)
        left = [joint.held_out(everything.difference(group)) for (group,) in others]
        losses = np.array([accuracy - joint.score(held) for held in left])
        rows.append(
            {
                "without": accuracy - loss,
                "alone": joint.score(joint.held_out(region)),
                "loss": loss,
                **dict(
                    zip(
                        ("low", "high"),
                        difference_interval(whole, dropped, labelled, seed),
                        strict=True,
                    )
                ),
                "random_mean": float(losses.mean()),
                "groups": len(losses),
                "p": float((1 + (losses >= loss - ROUNDING).sum()) / (1 + len(losses))),
                "first_layer": layers[min(region)],
                "last_layer": layers[max(region)],
            }
        )
    names = [f"{row['first_layer']}-{row['last_layer']}" for row in rows]
    found = xr.Dataset(
        {name: ("region", [row[name] for row in rows]) for name in rows[0]},
        coords={"region": names},
    )
    return found.assign(described(asked)).assign(all=accuracy, position=position.name)


class _Joint:
    """All layers in their principal components, fold by fold, and decoders of some of them."""

    def __init__(self, activity: Activity, asked: Asked, position: Position) -> None:
        self._asked = asked
        rows = asked.labelled.rows
        self._present = np.ones(len(rows), dtype=bool)
        for layer in activity.layers:
            X = activity.at(layer, position, rows)
            check_cell(X, asked.labelled, f"layer {layer}, {position.name}")
            self._present &= np.isfinite(X).all(axis=1)
        self._folds = [fold.among(self._present) for fold in asked.folds.folds]
        # Scaling and components are of the training trials of each fold, so every layer has as many
        # sets of points as there are folds; in float32, of the few components that are kept.
        self._points: list[list[np.ndarray]] = []
        for layer in activity.layers:
            X = activity.at(layer, position, rows)
            own = []
            for fold in self._folds:
                space = masked_space(X[fold.train], None, COMPONENTS)
                known = np.zeros((len(X), space[-1].n_components_), dtype=np.float32)
                known[self._present] = space.transform(X[self._present])
                own.append(known)
            self._points.append(own)

    def held_out(self, layers: frozenset[int]) -> HeldOut:
        asked = self._asked
        labels, n_classes = asked.labels[:1], len(asked.labelled.names)
        odds = np.full((*labels.shape, n_classes), np.nan)
        fold_of = np.full(labels.shape[1], -1, dtype=np.int64)
        for number, fold in enumerate(self._folds):
            if not len(fold.test) or len(fold.train) < 2:
                continue
            points = np.concatenate([self._points[own][number] for own in sorted(layers)], axis=1)
            points = points.astype(np.float64)
            made = Discriminants(points[fold.train], labels[:, fold.train], n_classes)
            odds[:, fold.test] = odds_of(points[fold.test], *made.rules(np.array([SHRINKAGE])))
            fold_of[fold.test] = number
        return HeldOut(odds, fold_of)

    def score(self, held: HeldOut) -> float:
        return float(balanced_accuracy(held, self._asked.labels[:1])[0])
