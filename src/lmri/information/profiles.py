"""Profiles by layer and phase: how wide, how even and how curved the states of a task lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from lmri.anatomy import Subject
from lmri.errors import EvidenceError
from lmri.information.clustered import ClusteredMeans
from lmri.information.geometry import NEIGHBOURS, intrinsic_dimension
from lmri.information.lens import lens_profile
from lmri.information.resolution import NOISES, gaussian_channel
from lmri.information.spectral import (
    SCALINGS,
    Moments,
    Spectrum,
    matrix_spectrum,
    spectral_summary,
    unit_rows,
)
from lmri.information.states import Rows, Sample, States
from lmri.store import Recording

EPSILONS = (0.5, 0.1)
"""Distortions of the coding rate."""

POINTS = 2000
"""States at most that an intrinsic dimension is estimated from."""

MEMORY = 2**30
"""Bytes of scatter matrices held at once; phases beyond them are read in another pass."""

DIMENSIONS = {"two_nn": "dimension_two_nn", "likelihood": "dimension_likelihood"}

RANKS = ("effective_rank", "effective_rank_singular", "participation_ratio")


def layer_profiles(
    recordings: Sequence[Recording],
    subject: Subject | None = None,
    *,
    level: str = "trials",
    split: str | None = "selection",
    pooling: str = "mean",
    scalings: Sequence[str] = SCALINGS,
    memory: int = MEMORY,
    seed: int = 0,
) -> xr.Dataset:
    """Profile the states of a task by layer and phase.

    Memory is bounded by ``memory`` and one chunk of the recording; it does not grow with trials or
    tokens. A recording is read twice for each layer.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task, with ``residual``: pooled, or of every token.
    subject : Subject, optional
        Who was recorded. With it the texts are run again through the logit lens.
    level : str
        What a row is: the pooled state of one of the ``trials``, or each of the ``tokens``.
    split : str, optional
        Trials; None takes all. Of repeats the first.
    pooling : str
        ``mean`` or ``last`` state of a phase, of ``trials``.
    scalings : sequence of str
        Of :data:`lmri.information.spectral.SCALINGS`; each costs an eigendecomposition.
    memory : int
        Bytes.
    seed : int
        Of the sample of states for the intrinsic dimension.

    Returns
    -------
    Dataset
        Layer -1 is the state before the first block, every other the state after it.

        Over (scaling, phase, layer): ``entropy``, ``entropy_2`` (nat), ``entropy_normalised``,
        ``effective_rank``, ``effective_rank_singular``, ``participation_ratio``, of the three
        ranks also ``<name>_flags``.

        Over (phase, layer): ``samples``; ``rank_ceiling`` and ``isotropic_participation``, what so
        many rows can show; ``outlying``, number of outlying dimensions; ``dataset_entropy`` and
        ``dataset_entropy_normalised``, of rows that were centred and divided by their lengths;
        ``dimension_two_nn`` and ``dimension_likelihood`` with ``<name>_error`` and
        ``<name>_flags``; ``spectrum_flags``: ``few_samples`` (fewer than two states) or
        ``constant`` (all the same, as a state before the first block at a fixed token is), where
        every measure is NaN. Of tokens also ``prompt_entropy`` and ``prompt_entropy_normalised``,
        means over texts of two states and more, with ``<name>_error``.

        ``coding_rate`` (epsilon, phase, layer), of the same rows as the dataset entropy, and
        ``gaussian_information`` (noise, phase, layer), in nat.

        With a subject every variable of :func:`lmri.information.lens.lens_profile` as
        ``lens_<name>``, NaN in phases that are single tokens.

    Raises
    ------
    EvidenceError
        If a recording lacks the states, or the split has no trial.
    """
    states = States(recordings, level, split, pooling)
    found = _empty(states, scalings, level)
    # Rows are kept up to the dimensions; then there is a scatter matrix, and another to decompose.
    rows = states.trials if level == "trials" else states.hidden + 1
    cell = 2 * 8 * states.hidden * min(rows, 2 * states.hidden) + 4 * POINTS * states.hidden
    together = max(1, memory // cell)
    for place, layer in enumerate(states.layers):
        for start in range(0, len(states.phases), together):
            phases = range(start, min(start + together, len(states.phases)))
            for phase, own in _profile(states, layer, phases, scalings, seed).items():
                for name, value in own.items():
                    found[name][..., phase, place] = value
    profile = _dataset(found, states, scalings)
    if subject is None:
        return profile
    lens = lens_profile(recordings, subject, split=split)
    lens = lens.rename({name: f"lens_{name}" for name in lens.data_vars})
    text = {name: "" for name, values in lens.data_vars.items() if values.dtype.kind == "U"}
    filled = {name: text.get(str(name), np.nan) for name in lens.data_vars}
    lens = lens.reindex(phase=profile["phase"], fill_value=filled)
    return profile.merge(lens, combine_attrs="drop_conflicts")


class _Cell:
    """What is gathered of one phase in one layer."""

    def __init__(self, hidden: int, seed: int) -> None:
        self.moments, self.units = Moments(hidden), Moments(hidden)
        self.sample = Sample(POINTS, seed)
        self.prompts = ClusteredMeans((2,))

    def add(self, rows: Rows, carriers: Sequence[dict[str, str]] | None) -> None:
        """Add rows; of one text where the carriers of every text are given."""
        self.moments.add(rows.values)
        self.sample.add(rows.values, rows.owners)
        if carriers is None or len(rows.values) < 2 or not np.ptp(rows.values, axis=0).any():
            return
        found = matrix_spectrum(rows.values)
        own = np.array([found.entropy(), found.normalised_entropy()])
        self.prompts.add(own, np.ones(2), carriers[rows.owners[0]])


def _profile(
    states: States, layer: int, phases: Sequence[int], scalings: Sequence[str], seed: int
) -> dict[int, dict[str, object]]:
    cells = {phase: _Cell(states.hidden, seed) for phase in phases}
    carriers = states.carriers() if states.level == "tokens" else None
    for rows in states.rows(layer, phases):
        if len(rows.values):
            cells[rows.phase].add(rows, carriers)
    for rows in states.rows(layer, phases):
        if len(rows.values):
            cell = cells[rows.phase]
            cell.units.add(unit_rows(rows.values, cell.moments.mean))
    return {phase: _measures(cell, states, scalings) for phase, cell in cells.items()}


def _measures(cell: _Cell, states: States, scalings: Sequence[str]) -> dict[str, object]:
    moments = cell.moments
    found: dict[str, object] = {"samples": moments.samples}
    raw = _spectrum(moments, "raw")
    if raw is None:
        return found | {"spectrum_flags": "few_samples" if moments.samples < 2 else "constant"}
    every = [raw if scaling == "raw" else _spectrum(moments, scaling) for scaling in scalings]
    summaries = [{} if own is None else spectral_summary(own) for own in every]
    for name in spectral_summary(raw):
        found[name] = [summary.get(name, np.nan) for summary in summaries]
    for name in RANKS:
        found[f"{name}_flags"] = [
            "" if own is None else ",".join(own.flags(summary[name]))
            for own, summary in zip(every, summaries, strict=True)
        ]
    units = cell.units.spectrum(centred=False)
    scale = np.sqrt(moments.mean_square)
    found |= {
        "rank_ceiling": raw.rank_ceiling,
        "isotropic_participation": raw.isotropic_participation,
        "outlying": int(moments.outlying().sum()),
        "dataset_entropy": units.entropy(),
        "dataset_entropy_normalised": units.normalised_entropy(),
        "coding_rate": [units.coding_rate(epsilon) for epsilon in EPSILONS],
        "gaussian_information": [gaussian_channel(raw.eigenvalues, e * scale) for e in NOISES],
    }
    found |= _dimensions(cell.sample)
    if states.level == "tokens":
        means, errors = cell.prompts.mean(), cell.prompts.error()
        for place, name in enumerate(("prompt_entropy", "prompt_entropy_normalised")):
            found |= {name: means[place], f"{name}_error": errors[place]}
    return found


def _spectrum(moments: Moments, scaling: str) -> Spectrum | None:
    """Spectrum, or None where there is none: too few rows, or all the same."""
    try:
        return moments.spectrum(scaling)
    except EvidenceError:
        return None


def _dimensions(sample: Sample) -> dict[str, object]:
    found: dict[str, object] = {}
    for method, name in DIMENSIONS.items():
        needed = 4 if method == "two_nn" else NEIGHBOURS + 2
        if len(np.unique(sample.rows, axis=0)) < needed:
            found[f"{name}_flags"] = "few_samples"
            continue
        own = intrinsic_dimension(sample.rows, method, carriers=sample.owners)
        found |= {
            name: own.value,
            f"{name}_error": own.error,
            f"{name}_flags": ",".join(own.flags),
        }
    return found


def _empty(states: States, scalings: Sequence[str], level: str) -> dict[str, np.ndarray]:
    """Arrays to fill, (..., phase, layer): NaN, 0 or no flag."""
    cells = (len(states.phases), len(states.layers))
    names = {name: (len(scalings),) for name in spectral_summary(Spectrum(np.ones(2), 3, 2))}
    plain = ["rank_ceiling", "isotropic_participation", "outlying"]
    plain += ["dataset_entropy", "dataset_entropy_normalised"]
    plain += [part for name in DIMENSIONS.values() for part in (name, f"{name}_error")]
    if level == "tokens":
        entropies = ("prompt_entropy", "prompt_entropy_normalised")
        plain += [part for name in entropies for part in (name, f"{name}_error")]
    names |= dict.fromkeys(plain, ())
    names |= {"coding_rate": (len(EPSILONS),), "gaussian_information": (len(NOISES),)}
    found = {name: np.full(shape + cells, np.nan) for name, shape in names.items()}
    flags = {f"{name}_flags": (len(scalings),) for name in RANKS}
    flags |= {f"{name}_flags": () for name in (*DIMENSIONS.values(), "spectrum")}
    found |= {name: np.full(shape + cells, "", dtype="U64") for name, shape in flags.items()}
    return found | {"samples": np.zeros(cells, dtype=np.int64)}


def _dataset(found: dict[str, np.ndarray], states: States, scalings: Sequence[str]) -> xr.Dataset:
    leading = {"coding_rate": "epsilon", "gaussian_information": "noise"}
    dims = ("phase", "layer")
    return xr.Dataset(
        {
            name: ((leading.get(name, "scaling"), *dims) if values.ndim == 3 else dims, values)
            for name, values in found.items()
        },
        coords={
            "scaling": list(scalings),
            "epsilon": list(EPSILONS),
            "noise": list(NOISES),
            "phase": states.phases,
            "layer": states.layers,
        },
        attrs={"level": states.level, "trials": states.trials, "dimensions": states.hidden},
    )
