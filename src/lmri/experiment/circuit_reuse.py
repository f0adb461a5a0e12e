"""Circuit reuse: whether behaviours run on the same units, and those of one mend another.

The circuit of a behaviour is the units without which, one at a time, its right answers become less
likely. Circuits of different behaviours are compared with chance; switched off, they are tried on
one another's behaviour; switched on, they are tried where another one fails.

Source: Merullo et al. 2024, Circuit component reuse across tasks in transformer language models
(arXiv 2310.08744), who found circuits by path patching. Here a unit is in a circuit by what its
absence costs, and random sets decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations

import numpy as np
import pandas as pd

from lmri.checks import check_choice
from lmri.config import CircuitReuseOptions
from lmri.errors import EvidenceError
from lmri.experiment.answers import Asked
from lmri.experiment.deciding import PROBABILITY, beyond_random, chosen_dose, needed_draws
from lmri.experiment.measuring import random_of, trials_of
from lmri.experiment.outcome import Drawn, Ground, Outcome, Statement
from lmri.experiment.skills import name_of
from lmri.experiment.unit_sets import RANDOM, every_unit, leading, random_sets
from lmri.intervene import Plan, Unit, mean_activity, means_of
from lmri.localise.overlap import overlap, overlap_table
from lmri.validate.change import Change
from lmri.validate.statistics import rank_p

STATEMENTS = 4
OFF = {"expert": "mask", "head": "zero", "neuron": "zero"}
ON = {"expert": "force", "head": "clamp", "neuron": "clamp"}
"""How units are switched off, and on: experts forced, others at their mean where they belong."""

LEAST_FAILING = 10
"""Trials that fail intact without which nothing can be said to be mended."""


@dataclass
class Behaviours:
    """What is asked, and the circuits.

    Attributes
    ----------
    ground : Ground
        The subject.
    options : CircuitReuseOptions
        The options.
    names : tuple of str
        Of the behaviours.
    asked : dict of (str, str) to Asked
        Trials by split and behaviour: as many as the options say, and all under "all <split>".
    drops : list of ndarray of shape (n_units, n_trials)
        Fall of the log-probability of right answers on selection trials without each unit.
    dose : int
        Units of a circuit.
    """

    ground: Ground
    options: CircuitReuseOptions
    names: tuple[str, ...]
    asked: dict[tuple[str, str], Asked]
    drops: list[np.ndarray] = field(default_factory=list)
    dose: int = 0

    @property
    def kind(self) -> str:
        """Kind of the units."""
        return self.options.kind

    @property
    def units(self):
        """All units."""
        return every_unit(self.ground, self.kind)

    def circuit(self, number: int, size: int | None = None) -> list[Unit]:
        """Units of a behaviour, from the one that costs most."""
        return leading(self.units, self.drops[number].mean(axis=1), size or self.dose)

    def off(self, units: Sequence[Unit]) -> Plan:
        """The plan that switches units off."""
        return Plan(OFF[self.kind], tuple(units), self.kind)

    def on(self, units: Sequence[Unit], means: Mapping[int, np.ndarray] | None) -> Plan:
        """The plan that switches units on: experts forced, heads at what they write elsewhere."""
        values = None if means is None else means_of(means, units)
        return Plan.of(ON[self.kind], units, self.kind, values)

    def random(self, number: int, chosen: Sequence[Unit], mode: str) -> list[list[Unit]]:
        """Random sets beside a circuit."""
        return random_sets(self.ground, self.units, chosen, self.options.draws, number, mode)


def run(ground: Ground, options: CircuitReuseOptions) -> Outcome:
    """Find the circuit of every behaviour, compare them and try each on the others.

    Parameters
    ----------
    ground : Ground
        What may be read.
    options : CircuitReuseOptions
        Behaviours, kind of units and draws.

    Returns
    -------
    Outcome
        Four statements; tables ``overlap``, ``cross``, ``repair`` and ``units``.

    Raises
    ------
    EvidenceError
        If a task or condition is unknown, a split has no trial of a behaviour, or the subject has
        no such units.
    """
    found = _asked(ground, options)
    _find(found)
    needed = needed_draws(STATEMENTS, ground.evidence.alpha)
    cross = _Cross(found)
    repair, repaired = _repair(found, needed)
    statements = [_overlap_statement(found, needed), *cross.statements(needed), repair]
    tables = {
        "overlap": _overlap(found),
        "cross": cross.table(),
        "repair": repaired,
        "units": _units(found),
    }
    note = f"{found.dose} {found.kind}s make a circuit, as calibration trials settled."
    return Outcome(statements, tables, CAPTIONS, FIGURES, [note])


def _asked(ground: Ground, options: CircuitReuseOptions) -> Behaviours:
    owner, asked = "experiment 'circuit_reuse'", {}
    names = tuple(name_of(own) for own in options.behaviours)
    if every_unit(ground, options.kind).size == 0:
        raise EvidenceError(
            f"The 'kind' of {owner} must be one that the subject has. Got '{options.kind}', of "
            f"which '{ground.subject.name}' has none."
        )
    for own, name in zip(options.behaviours, names, strict=True):
        check_choice(own.task, ground.stimuli, "task", owner, EvidenceError)
        conditions = () if own.condition is None else (own.condition,)
        for condition in conditions:
            known = set(ground.stimuli[own.task]["condition"])
            check_choice(condition, known, "condition", owner, EvidenceError)
        for split in ("selection", "calibration", "evaluation"):
            every = trials_of(ground, own.task, split, conditions)
            if every.empty:
                raise EvidenceError(
                    f"The behaviour '{name}' of {owner} must have trials in the split '{split}'. "
                    "Got none."
                )
            asked[f"all {split}", name] = Asked(ground, every)
            few = trials_of(ground, own.task, split, conditions, options.trials)
            asked[split, name] = Asked(ground, few)
    return Behaviours(ground, options, names, asked)


def _find(found: Behaviours) -> None:
    """Rank units by what their absence costs; settle on calibration trials how many to take."""
    every = found.units.named(np.arange(found.units.size))
    plans = [found.off([unit]) for unit in every]
    for name in found.names:
        asked = found.asked["selection", name]
        likely = np.log(np.maximum(asked.under(plans).probability, FLOOR))
        found.drops.append(np.log(np.maximum(asked.intact.probability, FLOOR)) - likely)
    doses = [dose for dose in found.ground.evidence.doses if dose < found.units.size]
    losses = np.zeros(len(doses))
    for number, name in enumerate(found.names):
        asked = found.asked["calibration", name]
        under = asked.under([found.off(found.circuit(number, dose)) for dose in doses])
        losses += (asked.intact.probability - under.probability).mean(axis=1) / len(found.names)
    at = chosen_dose(losses, found.ground.evidence.target_effect)
    found.dose = doses[at]


FLOOR = 1e-12
"""Probability below which answers are not told apart."""


def _coefficients(sets: Sequence[Sequence[Unit]], universe: int) -> float:
    """Mean overlap coefficient of all pairs."""
    pairs = list(combinations(sets, 2))
    return float(np.mean([overlap(a, b, universe)["coefficient"] for a, b in pairs]))


def _overlap_statement(found: Behaviours, needed: int) -> Statement:
    """State that circuits share more units than random ones of the same layers."""
    circuits, size = [found.circuit(i) for i in range(len(found.names))], found.units.size
    observed = _coefficients(circuits, size)
    rng = random_of(found.ground, "circuit_reuse", "overlap")
    random = [
        _coefficients([_shuffled(found, own, rng) for own in circuits], size)
        for _ in range(max(found.options.draws, needed))
    ]
    expected = float(np.mean(random))
    resampled = np.array(_resampled(found)) - expected
    alpha = found.ground.evidence.alpha
    low, high = np.quantile(resampled, [alpha / 2, 1 - alpha / 2])
    tail = 2 * (1 + int((resampled <= 0).sum())) / (1 + len(resampled))
    pairs = len(found.names) * (len(found.names) - 1) // 2
    asked = [found.asked["selection", name] for name in found.names]
    return Statement(
        claim="overlap",
        statement=f"circuits of {found.dose} {found.kind}s share more than random ones do",
        effect=observed - expected,
        low=float(low),
        high=float(high),
        threshold=0.0,
        p=max(min(1.0, tail), rank_p(observed, random)),
        n=pairs,
        n_carriers=min(own.change(np.zeros(len(own.trials))).effect.n_carriers for own in asked),
        controls=f"{len(random)} {RANDOM}",
        score="overlap coefficient",
        split="selection",
    )


def _shuffled(found: Behaviours, circuit: Sequence[Unit], rng: np.random.Generator) -> list[Unit]:
    """As many units of every layer, any of them."""
    units = found.units
    counts = np.bincount(units.positions(circuit) // units.per_layer, minlength=len(units.layers))
    picks = [
        layer * units.per_layer + rng.choice(units.per_layer, size=count, replace=False)
        for layer, count in enumerate(counts)
    ]
    return units.named(np.concatenate(picks))


def _resampled(found: Behaviours) -> list[float]:
    """Overlap of circuits found again in resampled carriers."""
    scores = [
        found.asked["selection", name].carriers.weights @ drops.T  # (n_draws, n_units)
        for name, drops in zip(found.names, found.drops, strict=True)
    ]
    draws = min(map(len, scores))
    return [
        _coefficients(
            [leading(found.units, own[i], found.dose) for own in scores], found.units.size
        )
        for i in range(min(draws, OVERLAPS))
    ]


OVERLAPS = 500
"""Resamples in which circuits are found again."""


class _Cross:
    """Every behaviour without the circuit of every other, on evaluation trials."""

    def __init__(self, found: Behaviours) -> None:
        self.found = found
        circuits = [found.circuit(i) for i in range(len(found.names))]
        plans = [found.off(own) for own in circuits]
        sets = [found.random(i, own, OFF[found.kind]) for i, own in enumerate(circuits)]
        self.draws = min(map(len, sets))
        # (circuits, behaviours): falls of trials, and mean falls under random sets (n_draws, ...).
        self.falls, self.exact, self.intact = {}, {}, {}
        self.random = np.zeros((self.draws, len(plans), len(plans)))
        for b, name in enumerate(found.names):
            asked = found.asked["evaluation", name]
            under, intact = asked.under(plans), asked.intact
            self.intact[b] = intact.probability.mean(), intact.exact.mean()
            for a, own in enumerate(sets):
                self.falls[a, b] = (intact.probability - under.probability)[a]
                self.exact[a, b] = float((intact.exact - under.exact)[a].mean())
                if self.draws:
                    drawn = asked.under([found.off(units) for units in own[: self.draws]])
                    self.random[:, a, b] = (intact.probability - drawn.probability).mean(axis=1)

    def statements(self, needed: int) -> list[Statement]:
        """Circuits are needed by their own behaviour, and by others."""
        found, count = self.found, len(self.found.names)
        margin, many = found.ground.evidence.margin, f"{found.dose} {found.kind}s"
        own = [(i, i) for i in range(count)]
        others = list(permutations(range(count), 2))
        claims = (
            ("own", f"a behaviour loses its answers without the {many} of its circuit", own),
            ("cross", f"a behaviour loses answers without the {many} of another's", others),
        )
        return [
            beyond_random(
                claim,
                sentence,
                self._joined(pairs),
                margin,
                np.mean([self.random[:, a, b] for a, b in pairs], axis=0),
                RANDOM,
                needed,
            )
            for claim, sentence, pairs in claims
        ]

    def _joined(self, pairs: Sequence[tuple[int, int]]) -> Change:
        """Falls of all behaviours; each counts alike, however many trials it has."""
        found, parts, tables = self.found, [], []
        for b, name in enumerate(found.names):
            own = [self.falls[pair] for pair in pairs if pair[1] == b]
            parts.append(np.mean(own, axis=0))
            tables.append(found.asked["evaluation", name].trials)
        total = sum(map(len, parts))
        weighed = [part * total / (len(part) * len(parts)) for part in parts]
        joined = Asked(found.ground, pd.concat(tables, ignore_index=True))
        return joined.change(np.concatenate(weighed))

    def table(self) -> pd.DataFrame:
        """Every pair with its interval."""
        rows = []
        for (a, b), fall in self.falls.items():
            names = self.found.names
            effect = self.found.asked["evaluation", names[b]].change(fall).effect
            random = self.random[:, a, b]
            rows.append(
                {
                    "circuit_of": names[a],
                    "behaviour": names[b],
                    "intact": self.intact[b][0],
                    "loss": effect.mean,
                    "low": effect.low,
                    "high": effect.high,
                    "exact_intact": self.intact[b][1],
                    "exact_loss": self.exact[a, b],
                    "random": random.mean() if len(random) else np.nan,
                    "p": rank_p(effect.mean, random),
                    "n": effect.n,
                    "n_carriers": effect.n_carriers,
                }
            )
        return pd.DataFrame(rows)


def _repair(found: Behaviours, needed: int) -> tuple[Statement, pd.DataFrame]:
    """State that units of one circuit, switched on, mend the answers of another behaviour."""
    margin = found.ground.evidence.margin
    pairs = list(permutations(range(len(found.names)), 2))
    plans = [_switched_on(found, a) for a in range(len(found.names))]
    gains = {pair: _gain(found, plans, pair, "all calibration") for pair in pairs}
    known = {pair: gain.mean() for pair, (gain, _) in gains.items() if len(gain)}
    rows = []
    for a, b in pairs:
        gain, exact = _gain(found, plans, (a, b), "all evaluation")
        rows.append(
            {
                "circuit_of": found.names[a],
                "behaviour": found.names[b],
                "failing": len(gain),
                "gain": gain.mean() if len(gain) else np.nan,
                "exact_gain": exact.mean() if len(exact) else np.nan,
                "calibration_gain": known.get((a, b), np.nan),
            }
        )
    table = pd.DataFrame(rows)
    sentence = "units of one circuit, switched on, mend another behaviour where it fails"
    if not known:
        reason = "no behaviour fails on calibration trials: there is nothing to mend"
        return Statement.untested("repair", sentence, reason, PROBABILITY), table
    a, b = max(known, key=known.get)
    sentence = f"the {found.kind}s of '{found.names[a]}', switched on, mend '{found.names[b]}'"
    asked = found.asked["all evaluation", found.names[b]]
    failing = _failing(asked)
    if len(failing) < LEAST_FAILING:
        reason = f"{len(failing)} evaluation trials fail intact; {LEAST_FAILING} are needed"
        return Statement.untested("repair", sentence, reason, PROBABILITY), table
    gain, _ = _gain(found, plans, (a, b), "all evaluation")
    drawn = _random_gains(found, plans[a], asked, failing, a)
    own = beyond_random(
        "repair",
        sentence,
        asked.change(gain, failing),
        margin,
        drawn,
        RANDOM,
        needed,
    )
    return own, table


def _failing(asked: Asked) -> np.ndarray:
    """Trials that the intact subject does not answer right."""
    return np.flatnonzero(asked.intact.exact[0] == 0)


def _gain(
    found: Behaviours, plans: Sequence[Plan], pair: tuple[int, int], split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rise of probability and of exact answers where a behaviour fails intact."""
    asked = found.asked[split, found.names[pair[1]]]
    failing = _failing(asked)
    if not len(failing):
        return np.zeros(0), np.zeros(0)
    under = asked.under([plans[pair[0]]], failing)
    return under.probability[0] - asked.intact.probability[0, failing], under.exact[0]


def _switched_on(found: Behaviours, number: int) -> Plan:
    """A circuit switched on; of experts as many of a layer as a token can have."""
    if found.kind != "expert":
        return found.on(found.circuit(number), _means(found, number))
    most, kept = found.ground.subject.anatomy.top_k, []
    for unit in found.circuit(number):
        if sum(own[0] == unit[0] for own in kept) < most:
            kept.append(unit)
    return found.on(kept, None)


def _means(found: Behaviours, number: int) -> dict[int, np.ndarray] | None:
    if found.kind == "expert":
        return None
    prompts = found.asked["selection", found.names[number]].prompts
    return mean_activity(found.ground.subject, prompts, found.kind, found.ground.rows)


def _random_gains(
    found: Behaviours, plan: Plan, asked: Asked, failing: np.ndarray, number: int
) -> np.ndarray:
    """Mean rise under random sets switched on in the same way, (n_draws,)."""
    sets = found.random(1000 + number, plan.units, ON[found.kind])
    means = _means(found, number)
    if not sets:
        return np.zeros(0)
    under = asked.under([found.on(own, means) for own in sets], failing)
    return (under.probability - asked.intact.probability[:, failing]).mean(axis=1)


def _overlap(found: Behaviours) -> pd.DataFrame:
    sets = {name: found.circuit(i) for i, name in enumerate(found.names)}
    return overlap_table(sets, found.units.size)


def _units(found: Behaviours) -> pd.DataFrame:
    rows = []
    for number, name in enumerate(found.names):
        costs = found.drops[number].mean(axis=1)
        for rank, unit in enumerate(found.circuit(number)):
            cost = float(costs[found.units.positions([unit])[0]])
            rows.append(
                {"behaviour": name, "rank": rank, "unit": json.dumps(list(unit)), "cost": cost}
            )
    return pd.DataFrame(rows)


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
