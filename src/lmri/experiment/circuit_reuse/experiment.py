"""Circuit reuse: whether behaviours run on the same units, and those of one mend another.

The circuit of a behaviour is the units without which, one at a time, its right answers become less
likely. Circuits of different behaviours are compared with chance; switched off, they are tried on
one another's behaviour; switched on, they are tried where another one fails.

Source: Merullo et al. 2024, Circuit component reuse across tasks in transformer language models
(arXiv 2310.08744), who found circuits by path patching. Here a unit is in a circuit by what its
absence costs, and random sets decide.
"""

from __future__ import annotations

from lmri.config import CircuitReuseOptions, needed_draws
from lmri.experiment.circuit_reuse.circuits import (
    circuit_units,
    find_circuits,
    overlap_statement,
    overlaps,
)
from lmri.experiment.circuit_reuse.effects import Cross, repaired
from lmri.experiment.deciding import PROBABILITY
from lmri.experiment.outcome import Drawn, Ground, Outcome

STATEMENTS = 5


def run(ground: Ground, options: CircuitReuseOptions) -> Outcome:
    """Find the circuit of every behaviour, compare them and try each on the others.

    Parameters
    ----------
    ground : Ground
        What may be read.
    options : CircuitReuseOptions
        Behaviours, kind and number of units, draws.

    Returns
    -------
    Outcome
        Five statements; tables ``overlap``, ``cross``, ``repair`` and ``units``.

    Raises
    ------
    EvidenceError
        If a task or condition is unknown, a split has no trial of a behaviour, or the subject has
        no more units than a circuit.
    """
    found = find_circuits(ground, options)
    needed = needed_draws(STATEMENTS, ground.evidence.alpha)
    cross = Cross(found)
    repair, gains = repaired(found, needed)
    return Outcome(
        [overlap_statement(found, needed), *cross.statements(needed), repair],
        {
            "overlap": overlaps(found),
            "cross": cross.table(),
            "repair": gains,
            "units": circuit_units(found),
        },
        CAPTIONS,
        FIGURES,
    )


CAPTIONS = {
    "overlap": (
        "Units that the circuits of two behaviours share, out of all of the kind (universe); p "
        "is that of random sets of any layers."
    ),
    "cross": (
        f"Fall of the {PROBABILITY} of every behaviour without the circuit of every other, on "
        "evaluation trials, with its interval over carriers; beside it exact answers, the mean "
        "fall under random sets of the same layers, and the rank p of a single pair among them."
    ),
    "repair": (
        "Rise of the probability, and share of exact answers, where a behaviour fails intact and "
        "the units of another are switched on: experts forced, heads at what they write on "
        "average in the other's prompts."
    ),
    "units": (
        "The circuit of every behaviour: fall of the log-probability of right answers (nats) "
        "without each unit alone, on selection trials."
    ),
}

FIGURES = [
    Drawn(
        table="cross",
        kind="heat",
        x="behaviour",
        y="circuit_of",
        low=None,
        high=None,
        series="loss",
        title="What behaviours lose without the circuit of each",
        caption=(
            "A dark diagonal alone says that every behaviour has a circuit of its own; dark "
            "places beside it are reuse. A dark column is a behaviour that any damage ends: "
            "compare with the random sets in the table."
        ),
    ),
    Drawn(
        table="overlap",
        kind="bars",
        x="a",
        y="coefficient",
        low=None,
        high=None,
        series="b",
        title="Shared units",
        caption="Share of the smaller circuit that two behaviours have in common.",
    ),
]
