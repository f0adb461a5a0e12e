"""Profiles that compare classes of trials: rate reduction, and entropy of units.

The states of a layer are those pooled over a phase; of a cell at most
:data:`lmri.information.cells.POINTS` trials are held, drawn alike from all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from lmri.errors import EvidenceError
from lmri.information.activation_entropy import BINS, PER_BIN, ActivationHistogram
from lmri.information.cells import DIMS, cell_dataset, empty_cells, samples_of
from lmri.information.question import Question, exchanged_classes
from lmri.information.rate_reduction import rate_reduction
from lmri.information.readings import select_trials
from lmri.information.states import Sample, States
from lmri.store import Recording

LEAST_BINS = 2

RATES = ("rate", "within", "reduction", "excess", "p")


def rate_reduction_profile(
    recordings: Sequence[Recording],
    *,
    question: Question | None = None,
    split: str | None = "selection",
    pooling: str = "mean",
    epsilon: float = 0.5,
    draws: int = 99,
    seed: int = 0,
) -> xr.Dataset:
    """Profile by layer and phase how many nats fewer code each class of trials by itself.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task, with ``residual`` pooled.
    question : Question, optional
        The class, and what carries it, which is exchanged in the null; by default the condition,
        exchanged among trials. Classes of one trial are left out.
    split : str, optional
        Trials; None takes all.
    pooling : str
        ``mean`` or ``last`` state of a phase.
    epsilon : float
        Distortion.
    draws : int
        Exchanges for the null.
    seed : int
        Of the exchanges and of the sample of trials.

    Returns
    -------
    Dataset
        Over (phase, layer): ``rate``, ``within``, ``reduction``, ``excess`` (nat) and ``p``, see
        :class:`lmri.information.rate_reduction.RateReduction`; ``samples``; ``flags``, and in
        ``reason`` why a cell is NaN. Attributes ``column``, ``epsilon``, ``draws``.

    Raises
    ------
    EvidenceError
        If a recording lacks the states or a column, or the split has no trial.
    """
    question = question or Question("condition", (), "trials")
    states = States(recordings, "trials", split, pooling)
    labels, names = states.labels(question.target), states.labels("trial")
    trials = select_trials(recordings, split)
    found = empty_cells(states, RATES)
    for place, layer in enumerate(states.layers):
        for phase, sample in enumerate(samples_of(states, layer, seed)):
            if sample.rows is None:
                found["reason"][phase, place] = "No trial has a token in the phase."
                continue
            several = _of_several(labels[sample.owners])
            owners = sample.owners[several]
            found["samples"][phase, place] = len(owners)
            try:
                exchanged = None
                if draws:
                    exchanged = exchanged_classes(trials, question, names[owners], draws, seed)
                own = rate_reduction(
                    sample.rows[several], labels[owners], epsilon, exchanged=exchanged
                )
            except EvidenceError as error:
                found["reason"][phase, place] = str(error)
                continue
            for name in RATES:
                found[name][phase, place] = getattr(own, name)
            found["flags"][phase, place] = ",".join(own.flags)
    settings = {"column": question.target, "epsilon": epsilon, "draws": draws}
    return cell_dataset(found, states, settings)


def unit_entropy_profile(
    recordings: Sequence[Recording],
    reference: str,
    *,
    quantity: str = "neuron",
    column: str = "condition",
    split: str | None = "selection",
    pooling: str = "mean",
    bins: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Profile the entropy of every unit in each class, in the bins of a reference class.

    Trials of the reference of half the places and half the years, or whatever carries trials, set
    the edges. Counted are trials of other places and years, of every class: what the reference has
    there is what a class has that differs in nothing. Without carriers every other trial of the
    reference sets the edges.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task, with the quantity pooled.
    reference : str
        Class whose values the edges of the bins are quantiles of.
    quantity : str
        Of :data:`lmri.information.states.QUANTITIES`.
    column : str
        Column of the table of trials with the class.
    split : str, optional
        Trials; None takes all.
    pooling : str
        ``mean`` or ``last`` activity of a phase.
    bins : int, optional
        Bins of a unit; by default as many as the smallest class fills: classes of other sizes have
        the same ceiling then.
    seed : int
        Of the halves, and of the sample of reference trials.

    Returns
    -------
    Dataset
        Over (class, phase, layer, unit): ``entropy`` and ``corrected`` in bits, ``relative``. Over
        (class, phase, layer): ``samples``, and ``flags``: ``few_samples``. NaN where a class, or
        the reference, has no token in a phase. Attributes ``reference``, ``quantity``, ``bins``.

    Raises
    ------
    EvidenceError
        If a recording lacks the quantity or the column, no trial is of the reference, or its
        carriers leave none for one of the halves.
    """
    states = States(recordings, "trials", split, pooling, quantity)
    labels = states.labels(column).astype(str)
    classes = sorted(set(labels))
    if reference not in classes:
        raise EvidenceError(
            f"The reference of the activation entropy must be in the column '{column}', one of "
            f"{', '.join(classes)}. Got {reference!r}."
        )
    shape = (len(classes), len(states.phases), len(states.layers))
    found = {name: np.full((*shape, states.hidden), np.nan) for name in ("entropy", "corrected")}
    found["relative"] = np.full((*shape, states.hidden), np.nan)
    samples, flags = np.zeros(shape, dtype=np.int64), np.full(shape, "", dtype="U11")
    edges, counted = _halves(states, labels == reference, seed)
    if bins is None:
        # A class none of whose trials are counted fills no bin, and asks for none.
        sizes = np.unique(labels[counted], return_counts=True)[1]
        bins = int(np.clip(min(edges.sum(), sizes.min()) // PER_BIN, LEAST_BINS, BINS))
    labels = np.where(counted, labels, "")
    for place, layer in enumerate(states.layers):
        references = samples_of(states, layer, seed, keep=edges)
        histograms = _counted(states, layer, references, labels, classes, bins)
        for (number, phase), histogram in histograms.items():
            where = (number, phase, place)
            samples[where] = histogram.samples
            if histogram.samples:
                own = histogram.entropy()
                for key in found:
                    found[key][where] = own[key]
                flags[where] = "few_samples" if (own["flags"] == "few_samples").any() else ""
    dims = ("class", *DIMS)
    return xr.Dataset(
        {
            **{name: ((*dims, "unit"), values) for name, values in found.items()},
            "samples": (dims, samples),
            "flags": (dims, flags),
        },
        coords={"class": classes, "phase": states.phases, "layer": states.layers},
        attrs={"reference": reference, "quantity": quantity, "bins": bins, "units": "bit"},
    )


def _halves(states: States, is_reference: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Trials that set the edges, and those that are counted; they share no carrier."""
    table, rng = pd.DataFrame(states.carriers()), np.random.default_rng(seed)
    edges, counted = states.chosen & is_reference, states.chosen.copy()
    known = {name: np.sort(table[name][edges].dropna().unique()) for name in table}
    divided = {name: values for name, values in known.items() if len(values) > 1}
    if not divided:
        edges[np.flatnonzero(edges)[1::2]] = False
        return edges, counted & ~edges
    for name, values in divided.items():
        half = table[name].isin(rng.permutation(values)[: len(values) // 2]).to_numpy()
        edges, counted = edges & half, counted & ~half
    sizes = int(edges.sum()), int((counted & is_reference).sum())
    if min(sizes) < LEAST_BINS:
        raise EvidenceError(
            "The reference of the activation entropy must have trials in both halves of its "
            f"{' and '.join(sorted(divided))}. Got {sizes[0]} and {sizes[1]}."
        )
    return edges, counted


def _counted(
    states: States,
    layer: int,
    references: Sequence[Sample],
    labels: np.ndarray,
    classes: Sequence[str],
    bins: int,
) -> dict[tuple[int, int], ActivationHistogram]:
    """Histograms by number of the class and phase, of phases in which the reference has tokens."""
    found = {}
    for phase, sample in enumerate(references):
        if sample.rows is not None:
            first = ActivationHistogram(sample.rows, bins)
            found |= {(number, phase): first.fresh() for number in range(len(classes))}
    for rows in states.rows(layer, sorted({phase for _, phase in found})):
        for number, name in enumerate(classes):
            found[number, rows.phase].add(rows.values[labels[rows.owners] == name])
    return found


def _of_several(labels: np.ndarray) -> np.ndarray:
    """Whether the class of each trial has at least two of them."""
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return counts[classes] > 1
