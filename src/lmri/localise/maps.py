"""Maps of the resonance of experts for one contrast in one phase."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from lmri.config import ContrastOptions
from lmri.localise.design import Design, split_design
from lmri.localise.draws import Unit, ranking
from lmri.localise.inference import Inference, check_resolution, permutation_test
from lmri.localise.resonance import Cells, condition_rates, mote_sums, scores

FIRST_NULL_SEED = 1000
"""Random splits that measure the rate of false maps use seeds from here on."""

ROUNDING = 1e-9
"""Rate differences up to this are none."""


@dataclass(frozen=True)
class ResonanceMap:
    """Statistics of every expert.

    Attributes
    ----------
    cells : Cells
        What it was computed from.
    design : Design
        What it compares.
    labels : ndarray of shape (n_cells,)
        Condition of every cell.
    score, mote_sum, rate_target, rate_control : ndarray of shape (layers, experts)
        Rate difference, raw-sum variant, mean rates of the two sides.
    interaction : ndarray of shape (layers, experts) or None
        Weighted sum of the rates with the weights of the interaction.
    inference : Inference
        p-values.
    """

    cells: Cells
    design: Design
    labels: np.ndarray
    score: np.ndarray
    mote_sum: np.ndarray
    rate_target: np.ndarray
    rate_control: np.ndarray
    interaction: np.ndarray | None
    inference: Inference

    def selected(self, alpha: float) -> list[Unit]:
        """Units that the map selects, from the largest score; none for an empty map.

        A unit is selected if the target engages it more than the controls and its score survives
        the max-statistic: ``score > 0`` and ``p_max <= alpha``. A larger score never has a larger
        ``p_max``, so these are the first units of the ranking.

        Parameters
        ----------
        alpha : float
            Level of the max-statistic.

        Returns
        -------
        list of (int, int)
            (layer, expert) of every selected unit.
        """
        chosen = (self.score > ROUNDING) & (self.inference.p_max <= alpha)
        return ranking(self.score, self.cells.layers)[: int(chosen.sum())]


def resonance_map(
    cells: Cells, design: Design, *, alpha: float, permutations: int, seed: int, owner: str
) -> ResonanceMap:
    """Compute a map and test it.

    Parameters
    ----------
    cells : Cells
        Counts of the selection trials.
    design : Design
        What to compare.
    alpha : float
        Level of the test, to refuse designs too small for it.
    permutations : int
        Relabellings.
    seed : int
        Seed of the relabellings.
    owner : str
        The contrast, for errors.

    Returns
    -------
    ResonanceMap
        The map.

    Raises
    ------
    EvidenceError
        If the carriers allow too few relabellings.
    """
    check_resolution(design, alpha, owner)
    labels = design.encode(cells.labels).own()
    rates = condition_rates(cells, labels, len(design.conditions))
    observed = scores(cells, design, labels, design.weights)
    interaction = design.interaction
    return ResonanceMap(
        cells=cells,
        design=design,
        labels=labels,
        score=observed,
        mote_sum=mote_sums(cells, design, labels),
        rate_target=np.einsum("c,cle->le", np.clip(design.weights, 0, None), rates),
        rate_control=np.einsum("c,cle->le", np.clip(-design.weights, 0, None), rates),
        interaction=None if interaction is None else np.einsum("c,cle->le", interaction, rates),
        inference=permutation_test(cells, design, observed, permutations, seed),
    )


def null_split_rate(
    cells: Cells,
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
    cells : Cells
        Counts of the selection trials.
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
    chosen = restrict(cells, split.condition)
    found = 0
    for number in range(splits):
        design = split_design(trials, split.condition, split.carrier, FIRST_NULL_SEED + number)
        observed = scores(chosen, design, design.encode(chosen.labels).own(), design.weights)
        inference = permutation_test(chosen, design, observed, permutations, seed + number)
        found += bool((inference.p_max <= alpha).any())
    return found


def restrict(cells: Cells, condition: str) -> Cells:
    """Keep the cells of one condition.

    Parameters
    ----------
    cells : Cells
        The counts.
    condition : str
        The condition.

    Returns
    -------
    Cells
        Fewer cells.
    """
    keep = (cells.labels["condition"] == condition).to_numpy()
    return Cells(
        cells.labels[keep].reset_index(drop=True),
        cells.counts[keep],
        cells.tokens[keep],
        cells.trials[keep],
        cells.layers,
    )


def to_dataset(result: ResonanceMap, **attributes: object) -> xr.Dataset:
    """Label a map for the store.

    Parameters
    ----------
    result : ResonanceMap
        The map.
    **attributes
        Further attributes.

    Returns
    -------
    Dataset
        As in ``docs/artefacts.md``.
    """
    rank = np.empty(result.score.size, dtype=np.int32)
    rank[np.argsort(-result.score, axis=None, kind="stable")] = np.arange(result.score.size)
    variables = {
        "score": result.score,
        "mote_sum": result.mote_sum,
        "rate_target": result.rate_target,
        "rate_control": result.rate_control,
        "p": result.inference.p,
        "p_max": result.inference.p_max,
        "q": result.inference.q,
        "rank": rank.reshape(result.score.shape),
    }
    if result.interaction is not None:
        variables["interaction"] = result.interaction
    dims = ("layer", "expert")
    sides = [np.isin(result.labels, np.flatnonzero(s)) for s in _sides(result.design)]
    n_target, n_control = (int(result.cells.trials[side].sum()) for side in sides)
    carriers = {
        name: pd.Series(list(kind.values())).value_counts().sort_index().to_dict()
        for name, kind in zip(result.design.carriers, result.design.classes, strict=True)
    }
    return xr.Dataset(
        {name: (dims, values) for name, values in variables.items()},
        coords={"layer": list(result.cells.layers), "expert": np.arange(result.score.shape[1])},
        attrs={
            **attributes,
            "n_target": n_target,
            "n_control": n_control,
            "carriers": json.dumps(carriers),
        },
    )


def _sides(design: Design) -> tuple[np.ndarray, np.ndarray]:
    return design.weights > 0, design.weights < 0
