"""Neural codes by layer: which units, or experts, are on, and what the pattern alone tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np
import xarray as xr

from lmri.errors import EvidenceError
from lmri.information.cells import cell_dataset, empty_cells, samples_of
from lmri.information.codes import Codes, neural_codes
from lmri.information.question import Question, exchanged_classes
from lmri.information.readings import choice_rates, column, select_trials
from lmri.information.states import Rows, States
from lmri.store import Recording

EXPERT = "expert"
"""Quantity whose bits are the experts that the tokens of a phase choose."""

MEASURES = tuple(field.name for field in fields(Codes) if field.name != "flags")


def code_profile(
    recordings: Sequence[Recording],
    *,
    quantity: str = "preactivation",
    question: Question | None = None,
    train: str = "selection",
    test: str = "calibration",
    pooling: str = "last",
    draws: int = 0,
    seed: int = 0,
) -> xr.Dataset:
    """Profile by layer and phase how well neural codes tell classes of trials apart.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task, with the quantity pooled, or the choices of experts.
    quantity : str
        Of :data:`lmri.information.states.QUANTITIES`, where a unit is on above 0, or
        :data:`EXPERT`.
    question : Question, optional
        The class, and what carries it; by default the condition, exchanged among trials.
    train, test : str
        Splits, which share no carrier.
    pooling : str
        ``last`` or ``mean`` activity of a phase; not used for experts.
    draws : int
        Exchanges of the classes of the test trials for the null; 0 leaves it out.
    seed : int
        Of k-means, of the exchanges and of the sample of trials.

    Returns
    -------
    Dataset
        Over (phase, layer): every measure of :class:`lmri.information.codes.Codes`; ``samples``,
        test trials; ``flags``, and in ``reason`` why a cell is NaN. Attributes ``quantity``,
        ``column``, ``train``, ``test``, ``draws``.

    Raises
    ------
    EvidenceError
        If a recording lacks the quantity or the column, or a split has no trial.
    """
    question = question or Question("condition", (), "trials")
    both = [_states(recordings, own, pooling, quantity) for own in (train, test)]
    names = both[1].labels("trial")
    every = [own.labels(question.target) for own in both]
    trials = select_trials(recordings, test)
    found = empty_cells(both[0], MEASURES)
    for place, layer in enumerate(both[0].layers):
        pairs = zip(*(samples_of(states, layer, seed) for states in both), strict=True)
        for phase, (learnt, tried) in enumerate(pairs):
            found["samples"][phase, place] = len(tried.owners)
            if learnt.rows is None or tried.rows is None:
                found["reason"][phase, place] = "No trial has a token in the phase."
                continue
            try:
                exchanged = None
                if draws:
                    asked = names[tried.owners]
                    exchanged = exchanged_classes(trials, question, asked, draws, seed)
                own = neural_codes(
                    learnt.rows,
                    every[0][learnt.owners],
                    tried.rows,
                    every[1][tried.owners],
                    exchanged=exchanged,
                    seed=seed,
                )
            except EvidenceError as error:
                found["reason"][phase, place] = str(error)
                continue
            for name in MEASURES:
                found[name][phase, place] = getattr(own, name)
            found["flags"][phase, place] = ",".join(own.flags)
    settings = {"quantity": quantity, "column": question.target, "train": train, "test": test}
    return cell_dataset(found, both[0], {**settings, "draws": draws})


class Choices:
    """Which experts the tokens of a phase choose, in place of states.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task, with ``router`` for every token.
    split : str
        Trials.

    Attributes
    ----------
    phases : list of str
        Phases of the recording.
    layers : list of int
        Layers with experts.

    Raises
    ------
    EvidenceError
        If a recording lacks the choices, or the split has no trial.
    """

    def __init__(self, recordings: Sequence[Recording], split: str) -> None:
        needed = "tokens/router/expert_id"
        for recording in recordings:
            if not recording.holds(needed):
                raise EvidenceError(
                    f"{recording.path}: the recording must hold '{needed}'. It does not: add "
                    "'router' to 'record.quantities' and 'record.full' and record again."
                )
        self._trials = select_trials(recordings, split)
        self.phases = [str(name) for name in recordings[0].attributes["phases"]]
        self.layers = [int(own) for own in recordings[0].array("tokens/router/layer")[:]]
        self._chosen: dict[int, list[np.ndarray]] = {}

    def labels(self, name: str) -> np.ndarray:
        """Read a column of the table of trials, one value for each owner of a row."""
        return column(self._trials, name)

    def rows(self, layer: int, phases: Sequence[int]) -> Iterator[Rows]:
        """Read which experts are chosen: 1 for those that any token of the phase chooses."""
        place = self.layers.index(layer)
        for phase in phases:
            if phase not in self._chosen:
                rates = choice_rates(self._trials, self.phases[phase])
                own = [np.where(np.isfinite(rate), rate > 0, np.nan) for _, rate in rates]
                self._chosen[phase] = [values.astype(np.float32) for values in own]
            values = self._chosen[phase][place]
            known = np.flatnonzero(np.isfinite(values).all(axis=1))
            yield Rows(phase, values[known], known)


def code_quantity(recordings: Sequence[Recording]) -> str:
    """Choose what the code of a layer is read off, of what was recorded.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task.

    Returns
    -------
    str
        Gate pre-activations of dense layers, or else neurons, or else the choice of experts.

    Raises
    ------
    EvidenceError
        If none of them was recorded.
    """
    offered = {
        "preactivation": "pooled/preactivation/preactivation",
        "neuron": "pooled/neuron/activation",
        EXPERT: "tokens/router/expert_id",
    }
    for quantity, name in offered.items():
        if recordings and all(own.holds(name) for own in recordings):
            return quantity
    raise EvidenceError(
        "Neural codes must be of recorded units. None was: add 'preactivation', 'neuron' or "
        "'router' to 'record.quantities' of the configuration and record again."
    )


def _states(
    recordings: Sequence[Recording], split: str, pooling: str, quantity: str
) -> States | Choices:
    if quantity == EXPERT:
        return Choices(recordings, split)
    return States(recordings, "trials", split, pooling, quantity)
