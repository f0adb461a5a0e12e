"""What circuits do to behaviours: switched off, and switched on where another behaviour fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pandas as pd

from lmri.checks import quoted
from lmri.experiment.answers import Asked
from lmri.experiment.circuit_reuse.circuits import OFF, ON, Behaviours
from lmri.experiment.deciding import PROBABILITY, beyond_random
from lmri.experiment.measuring import stated
from lmri.experiment.outcome import Statement
from lmri.experiment.unit_sets import RANDOM
from lmri.intervene import KINDS, Plan, mean_activity
from lmri.validate.change import Change
from lmri.validate.statistics import nothing_to_lose, rank_p

LEAST_FAILING = 10
"""Trials that fail intact without which nothing can be said to be mended."""


Pair = tuple[int, int]
"""Whose circuit, and which behaviour."""


class Cross:
    """Every behaviour without the circuit of every other, on evaluation trials.

    Parameters
    ----------
    found : Behaviours
        With their circuits.
    """

    def __init__(self, found: Behaviours) -> None:
        self.found = found
        circuits = found.circuits
        plans = [found.off(own) for own in circuits]
        sets = [found.random(i, own, OFF[found.kind]) for i, own in enumerate(circuits)]
        self.draws = min(map(len, sets))
        # (circuits, behaviours): falls of trials, and mean falls under random sets (n_draws, ...).
        self.falls, self.apart, self.exact, self.intact = {}, {}, {}, {}
        self.random = np.zeros((self.draws, len(plans), len(plans)))
        for b, name in enumerate(found.names):
            asked = found.asked["evaluation", name]
            rest = [found.off([u for u in own if u not in circuits[b]]) for own in circuits]
            under, apart, intact = asked.under(plans), asked.under(rest), asked.intact
            self.intact[b] = intact.probability.mean(), intact.exact.mean()
            for a, own in enumerate(sets):
                self.falls[a, b] = (intact.probability - under.probability)[a]
                self.apart[a, b] = (intact.probability - apart.probability)[a]
                self.exact[a, b] = float((intact.exact - under.exact)[a].mean())
                if self.draws:
                    drawn = asked.under([found.off(units) for units in own[: self.draws]])
                    self.random[:, a, b] = (intact.probability - drawn.probability).mean(axis=1)

    def statements(self, needed: int) -> list[Statement]:
        """Say what circuits do to their own behaviour and to others, and by which units."""
        found, count = self.found, len(self.found.names)
        margin, many = (
            found.ground.evidence.margin,
            f"{found.options.units} {KINDS[found.kind].plural}",
        )
        own = [(i, i) for i in range(count)]
        others = list(permutations(range(count), 2))
        claims = (
            ("own", f"a behaviour loses its answers without the {many} of its circuit", own),
            ("cross", f"a behaviour loses answers without the {many} of another's", others),
        )
        beyond = [
            beyond_random(
                claim,
                sentence,
                self._joined(pairs, self.falls),
                margin,
                np.mean([self.random[:, a, b] for a, b in pairs], axis=0),
                RANDOM,
                needed,
            )
            for claim, sentence, pairs in claims
        ]
        return [*beyond, self._stays_apart(others, margin)]

    def _stays_apart(self, pairs: Sequence[Pair], margin: float) -> Statement:
        """State that behaviours stay without what is not theirs: those with something to lose."""
        found = self.found
        absent = [
            name
            for name in found.names
            if nothing_to_lose(found.asked["evaluation", name].intact.probability, margin)
        ]
        left = [pair for pair in pairs if found.names[pair[1]] not in absent]
        claim, sentence = (
            "apart",
            "a behaviour stays within the margin without the units of another's circuit that are "
            "not in its own",
        )
        if not left:
            reason = f"intact nothing is there to be lost: {quoted(absent)}"
            return Statement.untested(claim, sentence, reason, PROBABILITY)
        return stated(
            claim,
            sentence + (f" (nothing to lose: {quoted(absent)})" if absent else ""),
            self._joined(left, {pair: -fall for pair, fall in self.apart.items()}),
            threshold=-margin,
            score=PROBABILITY,
        )

    def _joined(self, pairs: Sequence[Pair], falls: Mapping[Pair, np.ndarray]) -> Change:
        """Falls of the behaviours of pairs; each counts alike, however many trials it has."""
        found, parts, tables = self.found, [], []
        for b in sorted({pair[1] for pair in pairs}):
            own = [falls[pair] for pair in pairs if pair[1] == b]
            parts.append(np.mean(own, axis=0))
            tables.append(found.asked["evaluation", found.names[b]].trials)
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
                    "loss_apart": self.apart[a, b].mean(),
                    "exact_intact": self.intact[b][1],
                    "exact_loss": self.exact[a, b],
                    "random": random.mean() if len(random) else np.nan,
                    "p": rank_p(effect.mean, random),
                    "n": effect.n,
                    "n_carriers": effect.n_carriers,
                }
            )
        return pd.DataFrame(rows)


def repaired(found: Behaviours, needed: int) -> tuple[Statement, pd.DataFrame]:
    """State that units of one circuit, switched on, mend the answers of another behaviour.

    Parameters
    ----------
    found : Behaviours
        With their circuits.
    needed : int
        Random sets that a p needs.

    Returns
    -------
    statement : Statement
        Of the pair that gains most on calibration trials.
    table : DataFrame
        Of all pairs.
    """
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
    whose, mended = found.names[a], found.names[b]
    sentence = f"the {KINDS[found.kind].plural} of '{whose}', switched on, mend '{mended}'"
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
        return found.on(found.circuits[number], _means(found, number))
    most, kept = found.ground.subject.anatomy.top_k, []
    for unit in found.circuits[number]:
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
