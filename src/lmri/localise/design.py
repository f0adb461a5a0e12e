"""Designs: what a contrast compares, and what may be exchanged under its null hypothesis.

The carriers of a condition (places and years, entities) are the units of exchange. A condition is
a function of the classes of its trial's carriers: a sensitive place in a sensitive year is
``sensitive``. Relabelling the carriers gives every trial a new condition, as if other places and
years had been on the lists.

Where every entity is in all conditions (each place is asked for by every relation), a contrast is
made ``within`` that carrier: conditions are exchanged among the trials of each of its values. What
is found then holds for new entities, and for the conditions as they were worded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.checks import check_choice, quoted
from lmri.config import ContrastOptions
from lmri.errors import EvidenceError
from lmri.localise.labelling import BlockedLabelling, Labelling

BLOCK = "block"
"""Class of the values of a carrier within which conditions are exchanged."""

Key = tuple[str, ...]
"""Classes of a trial's carriers."""


@dataclass(frozen=True)
class Design:
    """What a contrast compares.

    Attributes
    ----------
    carriers : tuple of str
        Names of the carriers that are exchanged.
    classes : tuple of dict of str to str
        For every carrier the class of each of its values.
    conditions : tuple of str
        All conditions, in the order of the weights.
    condition_of : dict of Key to int
        Position in ``conditions`` of every combination of classes; others are not used.
    weights : ndarray of shape (n_conditions,), float64
        Weights of the rates: the target's sum to 1, the controls' to -1.
    interaction : ndarray of shape (n_conditions,), float64, or None
        Weights of the interaction.
    within : bool
        Whether conditions are exchanged among the trials of each value of the one carrier; its
        values then all have the class :data:`BLOCK`.
    """

    carriers: tuple[str, ...]
    classes: tuple[dict[str, str], ...]
    conditions: tuple[str, ...]
    condition_of: dict[Key, int]
    weights: np.ndarray
    interaction: np.ndarray | None
    within: bool = False

    def encode(self, cells: pd.DataFrame) -> Labelling | BlockedLabelling:
        """Prepare the labelling of cells, see :mod:`lmri.localise.labelling`."""
        return (BlockedLabelling if self.within else Labelling)(self, cells)

    def relabellings(self, trials: pd.DataFrame) -> int:
        """Count the different labellings that exchange can give.

        Parameters
        ----------
        trials : DataFrame
            The trials; used where conditions are exchanged within carriers.

        Returns
        -------
        int
            For every carrier the orders of its classes, n! / Π nᵢ!, or of the conditions of each
            of its values; their product.
        """
        if not self.within:
            return math.prod(_orders(list(kind.values())) for kind in self.classes)
        used = [c for c, w in zip(self.conditions, self.weights, strict=True) if w]
        own = trials[trials["condition"].isin(used)]
        blocks = own.groupby(f"carrier_{self.carriers[0]}")["condition"].nunique()
        return math.prod(math.factorial(int(count)) for count in blocks)


def contrast_design(
    contrast: ContrastOptions, trials: pd.DataFrame, carriers: tuple[str, ...]
) -> Design:
    """Work out the design of a contrast from the trials it is computed on.

    Parameters
    ----------
    contrast : ContrastOptions
        The contrast: targets and controls, or a random split.
    trials : DataFrame
        Selection trials of the task.
    carriers : tuple of str
        Carriers of the task.

    Returns
    -------
    Design
        The design.

    Raises
    ------
    EvidenceError
        If a condition is unknown or empty, or does not follow from the carriers' classes.
    """
    if contrast.random_split is not None:
        return _split_design(contrast, trials)
    wanted = (*contrast.target, *contrast.controls)
    owner = f"contrast '{contrast.name}'"
    for condition in wanted:
        check_choice(condition, set(trials["condition"]), "condition", owner, EvidenceError)
    conditions = tuple(sorted(trials["condition"].unique()))
    weights = np.zeros(len(conditions))
    for group, total in ((contrast.target, 1.0), (contrast.controls, -1.0)):
        for condition in group:
            weights[conditions.index(condition)] += total / len(group)
    interaction = None
    if contrast.interaction:
        interaction = np.array([float(contrast.interaction.get(c, 0)) for c in conditions])
    if contrast.within is not None:
        return _within_design(contrast, trials, conditions, weights, interaction, carriers)
    # Values that no compared condition has are not exchanged with those that one has.
    names, classes = _carrier_classes(trials, carriers, owner)
    compared = trials[trials["condition"].isin(wanted)]
    classes = tuple(
        {value: label for value, label in kind.items() if label in _labels(compared, name, kind)}
        for name, kind in zip(names, classes, strict=True)
    )
    condition_of = _condition_table(trials, names, classes, conditions, owner)
    return Design(names, classes, conditions, condition_of, weights, interaction)


def null_design(
    design: Design, trials: pd.DataFrame, condition: str, rng: np.random.Generator
) -> Design:
    """Split null carriers at random into the classes of a design.

    Half of each carrier's values (rounded down) play, in turn, the classes that no null trial has.
    The rest play the class of the null trials; where those have several, the first of them in
    alphabetical order plays for all. A carrier of which null trials have every class is not split.
    The trials are those of the null condition, so nothing is there to be found.

    Parameters
    ----------
    design : Design
        The design of the contrast.
    trials : DataFrame
        Selection trials; those of ``condition`` are used.
    condition : str
        The null condition.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    Design
        The same contrast on pseudo-classes.
    """
    classes = [
        dict(zip(values, rng.permutation(labels), strict=True))
        for values, labels in _null_labels(design, trials, condition)
    ]
    return Design(
        design.carriers,
        tuple(classes),
        design.conditions,
        design.condition_of,
        design.weights,
        design.interaction,
    )


def null_splits(design: Design, trials: pd.DataFrame, condition: str | None) -> int:
    """Count the different labellings that :func:`sham_labels` can draw.

    For every carrier the number of orders of its pseudo-classes, n! / Π nᵢ!, or of ways to choose
    the conditions that play the target; their product.

    Parameters
    ----------
    design, trials, condition
        As for :func:`null_design`.

    Returns
    -------
    int
        The number; 1 where the null carriers have all classes themselves.
    """
    if design.within:
        controls = [c for c, w in zip(design.conditions, design.weights, strict=True) if w < 0]
        own = trials[trials["condition"].isin(controls)]
        targets = int((design.weights > 0).sum())
        sizes = own.groupby(f"carrier_{design.carriers[0]}")["condition"].nunique()
        playing = [math.perm(int(n), targets) for n in sizes if n > targets]
        return math.prod(playing) if playing else 0
    count = 1
    for _, labels in _null_labels(design, trials, condition):
        count *= _orders(labels)
    return count


def _orders(labels: list[str]) -> int:
    ways = math.factorial(len(labels))
    for label in set(labels):
        ways //= math.factorial(labels.count(label))
    return ways


def split_design(trials: pd.DataFrame, condition: str, carrier: str, seed: int) -> Design:
    """Half of the carriers of one condition against the other half.

    Parameters
    ----------
    trials : DataFrame
        Trials; those of ``condition`` are used.
    condition : str
        The condition.
    carrier : str
        Whose values are split.
    seed : int
        Seed of the split.

    Returns
    -------
    Design
        Conditions ``half_a`` minus ``half_b``.
    """
    values = sorted(trials.loc[trials["condition"] == condition, f"carrier_{carrier}"].unique())
    if len(values) < 4:
        raise EvidenceError(
            f"A random split of '{carrier}' in condition '{condition}' must have at least 4 "
            f"values. Got {len(values)}."
        )
    half = len(values) // 2
    labels = ["half_a"] * half + ["half_b"] * (len(values) - half)
    order = np.random.default_rng([seed, 3]).permutation(labels)
    return Design(
        carriers=(carrier,),
        classes=(dict(zip(values, map(str, order), strict=True)),),
        conditions=("half_a", "half_b"),
        condition_of={("half_a",): 0, ("half_b",): 1},
        weights=np.array([1.0, -1.0]),
        interaction=None,
    )


def sham_labels(
    design: Design,
    trials: pd.DataFrame,
    cells: pd.DataFrame,
    condition: str | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Label cells as a sham map sees them: the contrast where nothing is to be found.

    Parameters
    ----------
    design : Design
        The design of the contrast.
    trials : DataFrame
        Selection trials.
    cells : DataFrame
        The cells.
    condition : str or None
        The null condition, whose carriers are split (:func:`null_design`). Within a carrier it is
        not needed: one of the control conditions of each value, drawn at random, plays the target.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    ndarray of shape (n_cells,), int64
        Conditions; -1 for cells that the sham map does not use.
    """
    if not design.within:
        null = (cells["condition"] == condition).to_numpy()
        return np.where(null, null_design(design, trials, condition, rng).encode(cells).own(), -1)
    own = design.encode(cells).own()
    targets = np.flatnonzero(design.weights > 0)
    labels = np.where(np.isin(own, np.flatnonzero(design.weights < 0)), own, -1)
    blocks = cells[f"carrier_{design.carriers[0]}"].to_numpy()
    drawn = labels.copy()
    for block in pd.unique(blocks[labels >= 0]):
        inside = blocks == block
        controls = np.unique(labels[inside & (labels >= 0)])
        if len(controls) <= len(targets):
            drawn[inside] = -1  # nothing would be left to compare with
            continue
        played = rng.choice(controls, size=len(targets), replace=False)
        for control, target in zip(played, rng.permutation(targets), strict=True):
            drawn[inside & (labels == control)] = target
    return drawn


def _null_labels(
    design: Design, trials: pd.DataFrame, condition: str
) -> list[tuple[list[str], list[str]]]:
    """Values of every carrier in the null condition, and the pseudo-classes they share out."""
    null = trials[trials["condition"] == condition]
    shared = []
    for name, kind in zip(design.carriers, design.classes, strict=True):
        values = sorted(null[f"carrier_{name}"].unique())
        own = {kind[value] for value in values}
        others = sorted(set(kind.values()) - own)
        labels = [others[i % len(others)] for i in range(len(values) // 2)] if others else []
        labels += [min(own)] * (len(values) - len(labels))
        shared.append((values, labels))
    return shared


def _split_design(contrast: ContrastOptions, trials: pd.DataFrame) -> Design:
    split = contrast.random_split
    owner = f"contrast '{contrast.name}'"
    check_choice(split.condition, set(trials["condition"]), "condition", owner, EvidenceError)
    known = {c.removeprefix("carrier_") for c in trials.columns if c.startswith("carrier_")}
    check_choice(split.carrier, known, "carrier", owner, EvidenceError)
    return split_design(trials, split.condition, split.carrier, split.seed)


def _labels(trials: pd.DataFrame, name: str, kind: dict[str, str]) -> set[str]:
    """Classes of a carrier among trials."""
    return {kind[value] for value in trials[f"carrier_{name}"]}


def _within_design(
    contrast: ContrastOptions,
    trials: pd.DataFrame,
    conditions: tuple[str, ...],
    weights: np.ndarray,
    interaction: np.ndarray | None,
    carriers: tuple[str, ...],
) -> Design:
    owner = f"'contrasts.{contrast.name}'"
    check_choice(contrast.within, set(carriers), "within", owner, EvidenceError)
    used = trials[trials["condition"].isin([*contrast.target, *contrast.controls])]
    kinds = used.groupby(f"carrier_{contrast.within}")["condition"].nunique()
    if (kinds < 2).any():
        raise EvidenceError(
            f"{owner}: every value of the carrier '{contrast.within}' must be in several of its "
            f"conditions to be compared 'within'. Got only one for {kinds.idxmin()!r}."
        )
    classes = dict.fromkeys(sorted(kinds.index), BLOCK)
    return Design((contrast.within,), (classes,), conditions, {}, weights, interaction, within=True)


def _carrier_classes(
    trials: pd.DataFrame, carriers: tuple[str, ...], owner: str
) -> tuple[tuple[str, ...], tuple[dict[str, str], ...]]:
    """Carriers that vary in class; a single carrier that has one condition each is its class."""
    classes = {
        name: dict(zip(trials[f"carrier_{name}"], trials[f"class_{name}"], strict=True))
        for name in carriers
    }
    varying = tuple(name for name in carriers if len(set(classes[name].values())) > 1)
    if varying:
        return varying, tuple(classes[name] for name in varying)
    for name in carriers:
        per_value = trials.groupby(f"carrier_{name}")["condition"].nunique()
        if (per_value == 1).all():
            return (name,), (
                dict(zip(trials[f"carrier_{name}"], trials["condition"], strict=True)),
            )
    raise EvidenceError(
        f"The conditions of {owner} must follow from the classes of the carriers "
        f"{quoted(carriers)}, or one carrier must have one condition each. Give the table "
        "class_<carrier> columns."
    )


def _condition_table(
    trials: pd.DataFrame,
    names: tuple[str, ...],
    classes: tuple[dict[str, str], ...],
    conditions: tuple[str, ...],
    owner: str,
) -> dict[Key, int]:
    columns = [trials[f"carrier_{n}"].map(k) for n, k in zip(names, classes, strict=True)]
    known = pd.concat(columns, axis=1).notna().all(axis=1).to_numpy()
    columns, trials = [column[known] for column in columns], trials[known]
    table: dict[Key, int] = {}
    for key, condition in zip(zip(*columns, strict=True), trials["condition"], strict=True):
        position = conditions.index(condition)
        if table.setdefault(key, position) != position:
            raise EvidenceError(
                f"The conditions of {owner} must follow from the classes of its carriers. "
                f"The classes {key} are in '{conditions[table[key]]}' and in '{condition}'."
            )
    return table
