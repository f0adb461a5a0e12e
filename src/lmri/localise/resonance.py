"""Resonance (fTRI): how much more often an expert is chosen in one condition than in others.

``rate_c(l, e) = (tokens of condition c that choose e in layer l) / (tokens of c)``,
``score = sum_c w_c rate_c`` with the weights of the contrast. Two identities hold exactly in
every layer: chosen counts sum to ``top_k`` x tokens, and scores sum to 0.

``mote_sum`` is the published variant: mean over trials of the summed counts, target minus
controls. It favours experts that are always on when responses differ in length (design notes,
section 1.4), so it is reported and never selects.

Source: Dahlke et al., Mixture of Tunable Experts (arXiv 2502.11096), for the functional map.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.anatomy import phase_tokens
from lmri.errors import EvidenceError
from lmri.store import Recording

AT_ONCE = 1 << 17
"""Chosen experts that are counted at once, so that they stay in the cache."""


@dataclass(frozen=True)
class Cells:
    """Counts of chosen experts per combination of carriers.

    Attributes
    ----------
    labels : DataFrame
        One row per cell: ``carrier_<name>`` and ``condition``.
    counts : ndarray of shape (n_cells, layers, experts), int64
        Tokens of the phase that chose the expert.
    tokens : ndarray of shape (n_cells,), int64
        Tokens of the phase.
    trials : ndarray of shape (n_cells,), int64
        Trials.
    layers : tuple of int
        Layer ids.
    """

    labels: pd.DataFrame
    counts: np.ndarray
    tokens: np.ndarray
    trials: np.ndarray
    layers: tuple[int, ...]


def count_cells(
    recordings: Iterable[Recording], carriers: Sequence[str], phase: str, split: str, experts: int
) -> Cells:
    """Stream recordings and count chosen experts per combination of carriers.

    Memory grows with the combinations of carriers, not with tokens or trials.

    Parameters
    ----------
    recordings : iterable of Recording
        Shards of one subject and task.
    carriers : sequence of str
        Names of the task's carriers.
    phase : str
        Phase whose tokens count.
    split : str
        Split whose trials count.
    experts : int
        Experts per layer.

    Returns
    -------
    Cells
        The counts.

    Raises
    ------
    EvidenceError
        If no trial of the split has a token in the phase.
    """
    columns = [*(f"carrier_{name}" for name in carriers), "condition"]
    keys: dict[tuple, int] = {}
    counts: list[np.ndarray] = []
    tokens: list[int] = []
    trials: list[int] = []
    layers: tuple[int, ...] = ()
    for recording in recordings:
        table = recording.trials
        rows = list(table[columns].itertuples(index=False, name=None))
        layers = tuple(int(i) for i in recording.array("tokens/router/layer")[:])
        first = ~table["trial"].duplicated().to_numpy()
        cell_of = np.full(len(table), -1)
        for row in np.flatnonzero(table["split"] == split):
            cell = keys.setdefault(rows[row], len(keys))
            if cell == len(counts):
                counts.append(np.zeros((len(layers), experts), dtype=np.int64))
                tokens.append(0)
                trials.append(0)
            # Repeats of a trial add tokens, not trials.
            trials[cell] += int(first[row])
            cell_of[row] = cell
        _count_tokens(recording, phase, cell_of, counts, tokens)
    if not any(tokens):
        raise EvidenceError(f"No trial of the split '{split}' has a token in the phase '{phase}'.")
    labels = pd.DataFrame(list(keys), columns=columns)
    return Cells(labels, np.stack(counts), np.array(tokens), np.array(trials), layers)


def _count_tokens(
    recording: Recording,
    phase: str,
    cell_of: np.ndarray,
    counts: list[np.ndarray],
    tokens: list[int],
) -> None:
    spans = recording.array("tokens/index/phase").attrs["phases"]
    names = [f"tokens/index/{name}" for name in ("trial", "position", "phase")]
    for chosen, trial, position, span in recording.stream("tokens/router/expert_id", *names):
        index = {"trial": trial, "position": position, "phase": span, "spans": spans}
        cells = cell_of[trial]
        inside = np.flatnonzero(phase_tokens(recording.trials, index, phase) & (cells >= 0))
        rows = inside[np.argsort(cells[inside], kind="stable")]
        groups = np.unique(cells[rows], return_index=True, return_counts=True)
        for cell, start, count in zip(*groups, strict=True):
            tokens[cell] += int(count)
            _add_chosen(counts[cell], chosen, rows[start : start + count])


def _add_chosen(counts: np.ndarray, chosen: np.ndarray, rows: np.ndarray) -> None:
    """Add the chosen experts of some tokens, all layers in one count."""
    layers, experts = counts.shape
    offset = (np.arange(layers) * experts)[:, None]
    step = max(1, AT_ONCE // math.prod(chosen.shape[1:]))
    for start in range(0, len(rows), step):
        picked = chosen[rows[start : start + step]]  # (tokens, layers, top_k)
        if picked.max() >= experts:
            raise EvidenceError(
                f"An expert of a recording must be one of {experts}. Got {picked.max()}."
            )
        total = np.bincount((picked + offset).reshape(-1), minlength=counts.size)
        counts += total.reshape(layers, experts)


def condition_rates(cells: Cells, labels: np.ndarray, conditions: int) -> np.ndarray:
    """Rates per condition for one or many labellings of the cells.

    Parameters
    ----------
    cells : Cells
        The counts.
    labels : ndarray of shape (..., n_cells), int64
        Condition of each cell; -1 is none.
    conditions : int
        Number of conditions.

    Returns
    -------
    ndarray of shape (..., n_conditions, layers, experts), float64
        Chosen counts per token; NaN for a condition without tokens.
    """
    member = (labels[..., None, :] == np.arange(conditions)[:, None]).astype(np.float64)
    total = member @ cells.tokens.astype(np.float64)  # (..., n_conditions)
    flat = cells.counts.reshape(len(cells.counts), -1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        rates = (member @ flat) / np.where(total > 0, total, np.nan)[..., None]
    return rates.reshape(*rates.shape[:-1], *cells.counts.shape[1:])


def rate_scores(cells: Cells, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sum of the conditions' rates.

    Parameters
    ----------
    cells : Cells
        The counts.
    labels : ndarray of shape (..., n_cells)
        Condition of each cell.
    weights : ndarray of shape (n_conditions,)
        Weights of the conditions.

    Returns
    -------
    ndarray of shape (..., layers, experts), float64
        The scores.
    """
    rates = condition_rates(cells, labels, len(weights))
    used = np.flatnonzero(weights)
    return np.einsum("c,...cle->...le", weights[used], rates[..., used, :, :])


def mote_sums(cells: Cells, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean counts per trial, target minus controls: the published raw-sum variant.

    Parameters
    ----------
    cells : Cells
        The counts.
    labels : ndarray of shape (n_cells,)
        Condition of each cell.
    weights : ndarray of shape (n_conditions,)
        Weights of the conditions.

    Returns
    -------
    ndarray of shape (layers, experts), float64
        The difference of means over trials.
    """
    means = []
    for side in (weights > 0, weights < 0):
        member = np.isin(labels, np.flatnonzero(side))
        means.append(cells.counts[member].sum(axis=0) / max(1, cells.trials[member].sum()))
    return means[0] - means[1]
