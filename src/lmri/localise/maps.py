"""Maps: one statistic for every unit of a kind, for one contrast in one phase."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr

from lmri.config import ContrastOptions
from lmri.intervene import Unit
from lmri.localise.activity import UNITS_AT_ONCE, Activity
from lmri.localise.design import Design, split_design
from lmri.localise.inference import Inference, check_resolution, permutation_test
from lmri.localise.measures import Measure
from lmri.localise.reliability import Reliability, split_half
from lmri.localise.shams import sham_maps
from lmri.localise.units import ROUNDING, Units, ranked

FIRST_NULL_SEED = 1000
"""Random splits that measure the rate of false maps use seeds from here on."""

LEAST_COMPARED = 10
"""Units whose overlap between halves is reported where a map selects none: at most a tenth."""


@dataclass(frozen=True)
class UnitMap:
    """Statistics of every unit of a kind.

    Attributes
    ----------
    measure : Measure
        Kind, quantity and statistic.
    activity : Activity
        What it was computed from.
    design : Design
        What it compares.
    labels : ndarray of shape (n_rows,)
        Condition of every row of the activity.
    score : ndarray of the shape of the units
        The statistic; NaN for a unit without one.
    variables : dict of str to ndarray of the shape of the units
        What stands beside it, such as the means of both sides.
    inference : Inference
        p-values.
    reliability : Reliability or None
        Agreement of halves of the carriers.
    """

    measure: Measure
    activity: Activity
    design: Design
    labels: np.ndarray
    score: np.ndarray
    variables: dict[str, np.ndarray]
    inference: Inference
    reliability: Reliability | None

    @property
    def kind(self) -> str:
        """Kind of the units."""
        return self.measure.kind

    @property
    def method(self) -> str:
        """Name of the map without the kind."""
        return self.measure.method

    @property
    def units(self) -> Units:
        """All units."""
        return self.activity.units

    @property
    def strength(self) -> np.ndarray:
        """Scores by which units are ranked: absolute ones where the test is two-sided."""
        return np.abs(self.score) if self.activity.two_sided else self.score

    @property
    def load(self) -> np.ndarray:
        """How active a unit is on both sides together, to match controls."""
        names = ("rate_target", "rate_control")
        names = names if names[0] in self.variables else ("mean_target", "mean_control")
        return sum(np.abs(self.variables[name]) for name in names) / 2

    def selected(self, alpha: float) -> list[Unit]:
        """Units that the map selects, from the strongest; none for an empty map.

        A unit is selected if it responds (more in the target, or either way if the test is
        two-sided) and its score survives the max-statistic, ``p_max <= alpha``. A stronger score
        never has a larger ``p_max``, so these are the first units of the ranking.

        Parameters
        ----------
        alpha : float
            Level of the max-statistic.

        Returns
        -------
        list of tuple of int
            Coordinates of every selected unit.
        """
        chosen = (self.strength > ROUNDING) & (self.inference.p_max <= alpha)
        return self.activity.units.named(ranked(self.strength)[: int(chosen.sum())])

    def described(self, units: Sequence[Unit]) -> list[dict]:
        """Coordinates of units with their numbers.

        Parameters
        ----------
        units : sequence of tuple of int
            The units.

        Returns
        -------
        list of dict
            As a finding lists them; what is NaN is left out.
        """
        values = {"score": self.score, **self.variables}
        values |= {"p_max": self.inference.p_max, "q": self.inference.q}
        return self.units.described(units, values)

    def shams(
        self, trials: pd.DataFrame, condition: str | None, **options: object
    ) -> list[list[Unit]]:
        """Re-run the selection on null carriers, see :func:`lmri.localise.shams.sham_maps`."""
        return sham_maps(self.activity, self.design, trials, condition, **options)


def unit_map(
    measure: Measure,
    activity: Activity,
    design: Design,
    *,
    alpha: float,
    permutations: int,
    seed: int,
    owner: str,
) -> UnitMap:
    """Compute a map, test it and repeat it in halves of the carriers.

    Parameters
    ----------
    measure : Measure
        Kind, quantity and statistic.
    activity : Activity
        The selection trials.
    design : Design
        What to compare.
    alpha : float
        Level of the test, to refuse designs too small for it.
    permutations : int
        Relabellings.
    seed : int
        Seed of the relabellings and halvings.
    owner : str
        The contrast, for errors.

    Returns
    -------
    UnitMap
        The map.

    Raises
    ------
    EvidenceError
        If the carriers allow too few relabellings.
    """
    check_resolution(design, activity.labels, alpha, owner, two_sided=activity.two_sided)
    labels = design.encode(activity.labels).own()
    score, inference = permutation_test(activity, design, permutations, seed)
    found = UnitMap(
        measure,
        activity,
        design,
        labels,
        score,
        _describe(activity, design, labels),
        inference,
        None,
    )
    fewest = max(1, min(LEAST_COMPARED, activity.units.size // 10))
    best = len(found.selected(alpha)) or fewest
    return replace(found, reliability=split_half(activity, design, best, seed))


def _describe(activity: Activity, design: Design, labels: np.ndarray) -> dict[str, np.ndarray]:
    sides = activity.sides(labels[None], design.weights)
    shape, size = activity.units.shape, activity.units.size
    variables: dict[str, np.ndarray] = {}
    for part in (part for block in activity.blocks() for part in block.parts(UNITS_AT_ONCE)):
        own = part.describe(sides)
        if design.interaction is not None:
            own["interaction"] = part.combine(replace(sides, weights=design.interaction))
        for name, values in own.items():
            variables.setdefault(name, np.full(size, np.nan))[part.where] = values
    return {name: values.reshape(shape) for name, values in variables.items()}


def null_split_rate(
    activity: Activity,
    trials: pd.DataFrame,
    contrast: ContrastOptions,
    *,
    splits: int,
    alpha: float,
    permutations: int,
    seed: int,
) -> int:
    """Count the random splits whose map is not empty, where nothing is to be found.

    Parameters
    ----------
    activity : Activity
        The selection trials.
    trials : DataFrame
        Selection trials.
    contrast : ContrastOptions
        A contrast with a ``random_split``.
    splits : int
        Number of splits.
    alpha : float
        Level of the max-statistic.
    permutations : int
        Relabellings of each split.
    seed : int
        Seed; the splits are other ones than the contrast's own.

    Returns
    -------
    int
        Significant maps; ``alpha * splits`` are expected.
    """
    split = contrast.random_split
    chosen = restrict(activity, split.condition)
    found = 0
    for number in range(splits):
        design = split_design(trials, split.condition, split.carrier, FIRST_NULL_SEED + number)
        _, inference = permutation_test(chosen, design, permutations, seed + number)
        found += bool((inference.p_max <= alpha).any())
    return found


def restrict(activity: Activity, condition: str) -> Activity:
    """Keep the rows of one condition.

    Parameters
    ----------
    activity : Activity
        The rows.
    condition : str
        The condition.

    Returns
    -------
    Activity
        Fewer rows.
    """
    return activity.restricted((activity.labels["condition"] == condition).to_numpy())


def to_dataset(result: UnitMap, **attributes: object) -> xr.Dataset:
    """Label a map for the store.

    Parameters
    ----------
    result : UnitMap
        The map.
    **attributes
        Further attributes.

    Returns
    -------
    Dataset
        As in ``docs/artefacts.md``.
    """
    rank = np.empty(result.score.size, dtype=np.int32)
    rank[ranked(result.strength)] = np.arange(result.score.size)
    variables = {
        "score": result.score,
        **result.variables,
        "p": result.inference.p,
        "p_max": result.inference.p_max,
        "q": result.inference.q,
        "rank": rank.reshape(result.score.shape),
    }
    units = result.activity.units
    n_target, n_control = (
        result.activity.trials(np.isin(result.labels, np.flatnonzero(side)))
        for side in (result.design.weights > 0, result.design.weights < 0)
    )
    carriers = {
        name: pd.Series(list(kind.values())).value_counts().sort_index().to_dict()
        for name, kind in zip(result.design.carriers, result.design.classes, strict=True)
    }
    halves = {} if result.reliability is None else asdict(result.reliability)
    return xr.Dataset(
        {name: (units.dims, values) for name, values in variables.items()},
        coords={name: list(values) for name, values in units.coordinates.items()},
        attrs={
            "kind": result.measure.kind,
            "quantity": result.measure.quantity,
            "statistic": result.measure.statistic,
            "two_sided": int(result.activity.two_sided),
            **attributes,
            "n_target": n_target,
            "n_control": n_control,
            "carriers": json.dumps(carriers),
            **{f"split_half_{name}": value for name, value in halves.items()},
        },
    )
