"""Activity of several subjects in the trials that all of them read, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from scipy.linalg import eigh

from lmri.align.carriers import shared_trials
from lmri.checks import check_choice
from lmri.errors import EvidenceError

POOLED = {
    "residual": ("pooled/residual", "residual"),
    "router": ("pooled/router", "logits"),
    "head_output": ("pooled/head_output", "output"),
    "neuron": ("pooled/neuron", "activation"),
}
"""Quantities that are aligned: node of the recording, and its variable."""

BATCH_BYTES = 64 * 2**20
"""Activity of a batch of units, in float64."""


MOST_COMPONENTS = 512
NEGLIGIBLE = 1e-9
"""Share of the largest variance below which a component is rounding."""

STILL = 1e-9
"""Deviation of a constant, as a share of it: rounding gives it one."""


@dataclass(frozen=True)
class SubjectActivity:
    """Where the activity of one subject is read.

    Attributes
    ----------
    name : str
        The subject.
    values : DataArray
        Dimensions trial and layer, and those of units; not loaded.
    rows : ndarray of shape (n_trials,), int64
        Rows of the shared trials, in their order.
    layers : tuple of int
        Layer ids.
    """

    name: str
    values: xr.DataArray
    rows: np.ndarray
    layers: tuple[int, ...]

    @property
    def units(self) -> int:
        """Units of a layer."""
        return int(np.prod(self.values.shape[2:]))

    def layer(self, layer: int) -> np.ndarray:
        """Read a layer: array of shape (n_trials, n_units), float64.

        Parameters
        ----------
        layer : int
            Its id.

        Returns
        -------
        ndarray
            Activity of the shared trials.
        """
        return np.concatenate(list(self.batches(layer)), axis=1)

    def batches(self, layer: int) -> Iterator[np.ndarray]:
        """Read a layer in batches of units.

        Parameters
        ----------
        layer : int
            Its id.

        Yields
        ------
        ndarray of shape (n_trials, n_units of the batch), float64
            Activity of the shared trials.
        """
        own = self.values.isel(layer=self.layers.index(layer))
        axis = own.dims[1]
        per_step = int(np.prod(own.shape[2:]))
        step = max(1, BATCH_BYTES // (8 * len(self.rows) * per_step))
        for start in range(0, own.sizes[axis], step):
            part = own.isel({axis: slice(start, start + step)}).isel(trial=self.rows).values
            yield part.reshape(len(self.rows), -1).astype(np.float64)


@dataclass(frozen=True)
class Together:
    """Subjects and the trials that all of them read.

    Attributes
    ----------
    table : DataFrame
        Trials.
    subjects : tuple of SubjectActivity
        Subjects that have the quantity.
    left_out : dict of str to str
        Reasons, by subject.
    """

    table: pd.DataFrame
    subjects: tuple[SubjectActivity, ...]
    left_out: dict[str, str]


def read_together(
    trees: Mapping[str, xr.DataTree], quantity: str, phase: str, splits: Sequence[str]
) -> Together:
    """Find what subjects did in the trials that all of them read.

    A trial is of the first of its sampled repeats. Trials without a token in the phase in any
    subject are left out, and so is a subject that has no such quantity.

    Parameters
    ----------
    trees : mapping of str to DataTree
        Recordings of one task by subject, see :func:`lmri.store.open_recordings`.
    quantity : str
        One of :data:`POOLED`; its mean over the tokens of the phase, of the residual after blocks.
    phase : str
        The phase.
    splits : sequence of str
        Splits of the trials.

    Returns
    -------
    Together
        Nothing of it loaded but the tables.

    Raises
    ------
    EvidenceError
        If fewer than 2 subjects have the quantity and phase, they read different trials, or no
        trial has a token in the phase.
    """
    check_choice(quantity, POOLED, "quantity", "an alignment", EvidenceError)
    node, variable = POOLED[quantity]
    tables, arrays, left_out = {}, {}, {}
    for name, tree in trees.items():
        found = _array(tree, node, variable, phase)
        if isinstance(found, str):
            left_out[name] = found
            continue
        table = tree["trials"].dataset.to_dataframe().reset_index()
        table["row"] = np.arange(len(table))
        chosen = table["split"].isin(splits)
        if "repeat" in table:
            chosen &= table["repeat"] == 0
        table = table[chosen].reset_index(drop=True)
        table = table[_present(found, table["row"].to_numpy())]
        if table.empty:
            left_out[name] = f"No trial of these splits has a token in the phase '{phase}'."
            continue
        tables[name], arrays[name] = table.reset_index(drop=True), found
    if len(tables) < 2:
        reasons = "; ".join(f"'{name}': {why}" for name, why in left_out.items())
        raise EvidenceError(
            f"An alignment must be of 2 subjects or more with '{quantity}' in the phase '{phase}'. "
            f"Got {len(tables)}. {reasons}".strip()
        )
    kept = shared_trials(tables)
    subjects = []
    for name, table in tables.items():
        rows = table.set_index("trial").loc[kept, "row"].to_numpy()
        layers = tuple(int(layer) for layer in arrays[name]["layer"].values)
        subjects.append(SubjectActivity(name, arrays[name], rows, layers))
    first = next(iter(tables.values())).set_index("trial").loc[kept].reset_index()
    return Together(first.drop(columns="row"), tuple(subjects), left_out)


def matched_layers(subjects: Sequence[SubjectActivity]) -> list[tuple[int, ...]]:
    """Match layers of subjects by their relative depth.

    Parameters
    ----------
    subjects : sequence of SubjectActivity
        The subjects.

    Returns
    -------
    list of tuple of int
        For every layer of the subject with the fewest, the layer of each subject at the same share
        of its depth.
    """
    fewest = min(len(own.layers) for own in subjects)
    depths = np.linspace(0, 1, fewest) if fewest > 1 else np.array([1.0])
    return [
        tuple(own.layers[round(depth * (len(own.layers) - 1))] for own in subjects)
        for depth in depths
    ]


def components(
    subject: SubjectActivity, layer: int, fit: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Turn a layer into its principal components over some trials, in batches of units.

    Units are divided by their deviation over the trials of the fit first, so that a few massive
    dimensions are not all there is; constant ones are left out. All that a linear model of these
    trials can use is in the components: it is a rotation. Memory is that of trials by trials and of
    a batch, whatever the number of units.

    Parameters
    ----------
    subject : SubjectActivity
        The subject.
    layer : int
        Id of the layer.
    fit, score : ndarray of int64
        Rows of the trials that components are of, and of others.

    Returns
    -------
    fit, score : ndarray of shape (n_trials, n_components), float64
        Coordinates of either.

    Raises
    ------
    EvidenceError
        If no unit varies.
    """
    kernel = np.zeros((len(fit), len(fit)))
    for own, _ in _standardised(subject, layer, fit, score):
        kernel += own @ own.T
    first = max(len(kernel) - MOST_COMPONENTS, 0)
    variances, vectors = eigh(kernel, subset_by_index=(first, len(kernel) - 1))
    best = np.argsort(-variances, kind="stable")
    best = best[variances[best] > NEGLIGIBLE * max(variances.max(), 0.0)]
    if not len(best) or not variances.max() > 0:
        raise EvidenceError(
            f"An alignment must be of units that vary. None of {subject.units} in layer {layer} of "
            f"'{subject.name}' does over {len(fit)} trials: leave the subject or phase out."
        )
    sizes = np.sqrt(variances[best])
    # The sign of an eigenvector is that of its largest entry: nothing depends on the library.
    largest = np.abs(vectors[:, best]).argmax(axis=0)
    axes = vectors[:, best] * np.sign(vectors[largest, best])
    told = np.zeros((len(score), len(best)))
    for own, other in _standardised(subject, layer, fit, score):
        told += other @ (own.T @ axes)
    return axes * sizes, told / sizes


def _standardised(
    subject: SubjectActivity, layer: int, fit: np.ndarray, score: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for batch in subject.batches(layer):
        own, other = batch[fit], batch[score]
        mean, spread = own.mean(axis=0), own.std(axis=0)
        varies = spread > STILL * np.abs(own).max(axis=0)
        scale = np.where(varies, spread, 1.0)
        yield (
            np.where(varies, (own - mean) / scale, 0.0),
            np.where(varies, (other - mean) / scale, 0.0),
        )


def _array(tree: xr.DataTree, node: str, variable: str, phase: str) -> xr.DataArray | str:
    """Return the array, or why there is none."""
    if f"/{node}" not in tree.groups:
        return f"'{node.removeprefix('pooled/')}' was not recorded."
    array = tree[node].dataset[variable]
    if phase not in array["phase"].values:
        return f"It has no phase '{phase}'."
    array = array.sel(phase=phase, statistic="mean")
    return array.sel(place="after") if "place" in array.dims else array


def _present(array: xr.DataArray, rows: np.ndarray) -> np.ndarray:
    first = array.isel(dict.fromkeys(array.dims[1:], 0))
    return np.isfinite(first.values[rows])
