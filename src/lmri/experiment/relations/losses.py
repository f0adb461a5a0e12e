"""What relations lose without the units of each: settled on calibration trials, then evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmri.config import ContrastOptions, RelationsOptions
from lmri.experiment.answers import Answers, Asked
from lmri.experiment.deciding import chosen_dose
from lmri.experiment.measuring import trials_of
from lmri.experiment.outcome import Ground
from lmri.experiment.unit_sets import (
    OFF,
    contrast_scores,
    every_unit,
    leading,
    nested,
    random_sets,
)
from lmri.intervene import Plan, Unit


@dataclass(frozen=True)
class Setting:
    """What is asked of one kind of unit.

    Attributes
    ----------
    ground : Ground
        The subject.
    options : RelationsOptions
        The options.
    kind, phase : str
        Kind of the units, and whose activity ranks them.
    relations : tuple of str
        All relations.
    ranking : dict of str to list of tuple of int
        Leading units of every relation, as many as the largest dose.
    """

    ground: Ground
    options: RelationsOptions
    kind: str
    phase: str
    relations: tuple[str, ...]
    ranking: dict[str, list[Unit]]

    @property
    def doses(self) -> tuple[int, ...]:
        """Numbers of units that are switched off."""
        return self.ground.evidence.doses_of(self.kind)

    def off(self, units: Sequence[Unit]) -> Plan:
        """The plan that switches units off."""
        return Plan(OFF[self.kind], tuple(units), self.kind)

    def asked(self, split: str) -> Asked:
        """Trials of all relations in a split."""
        trials = trials_of(self.ground, self.options.task, split, self.relations)
        return Asked(self.ground, trials)


@dataclass(frozen=True)
class Chosen:
    """What calibration trials settle.

    Attributes
    ----------
    dose : int
        Number of units.
    harmed, improved : tuple of int
        Whose units, and which other relation they harm or improve most.
    losses : ndarray of shape (n_doses,)
        Mean loss of the relations under their own units.
    selectivity : float
        How much more that is than under the units of others, at the dose.
    """

    dose: int
    harmed: tuple[int, int]
    improved: tuple[int, int]
    losses: np.ndarray
    selectivity: float


@dataclass(frozen=True)
class Losses:
    """Losses on evaluation trials.

    Attributes
    ----------
    asked : Asked
        The trials.
    relation : ndarray of shape (n_trials,), int64
        Which relation asks.
    of : dict of int to ndarray of shape (n_relations, n_trials)
        Fall of the probability by number of units, under those of every relation.
    exact : dict of int to ndarray of shape (n_relations, n_trials)
        Fall of exact answers.
    random : dict of int to ndarray of shape (n_draws, n_relations, n_relations)
        Mean fall under random sets beside those of a relation, by the relation that is asked; NaN
        where it was not. Fewer draws where no more sets exist.
    """

    asked: Asked
    relation: np.ndarray
    of: dict[int, np.ndarray]
    exact: dict[int, np.ndarray]
    random: dict[int, np.ndarray]

    def own(self, dose: int) -> np.ndarray:
        """Fall of every trial under the units of its own relation, (n_trials,)."""
        return self.of[dose][self.relation, np.arange(len(self.relation))]

    def others(self, dose: int) -> np.ndarray:
        """Mean fall of every trial under the units of the other relations, (n_trials,)."""
        table = self.of[dose]
        return (table.sum(axis=0) - self.own(dose)) / (len(table) - 1)

    def random_own(self, dose: int) -> np.ndarray:
        """Mean fall under random sets beside those of the own relation, (n_draws,)."""
        own = np.diagonal(self.random[dose], axis1=1, axis2=2)
        return own @ self._shares

    def random_selectivity(self, dose: int) -> np.ndarray:
        """The same less that under those beside the units of other relations, (n_draws,)."""
        table, count = self.random[dose], len(self._shares)
        own = np.diagonal(table, axis1=1, axis2=2)
        others = (table.sum(axis=1) - own) / (count - 1)
        return (own - others) @ self._shares

    @property
    def _shares(self) -> np.ndarray:
        counts = np.bincount(self.relation)
        return counts / counts.sum()


def settle(
    ground: Ground, options: RelationsOptions, kind: str, relations: tuple[str, ...]
) -> tuple[Setting, Chosen]:
    """Settle on calibration trials the phase, how many units, and which pairs of relations.

    Parameters
    ----------
    ground : Ground
        The subject.
    options : RelationsOptions
        The options.
    kind : str
        Kind of the units.
    relations : tuple of str
        All relations.

    Returns
    -------
    setting : Setting
        With the phase whose units take most from their own relation beyond what they take from
        others.
    chosen : Chosen
        The rest.
    """
    found = []
    for phase in options.phases:
        setting = _setting(ground, options, kind, phase, relations)
        found.append((setting, _chosen(setting)))
    return max(found, key=lambda own: own[1].selectivity)


def _setting(
    ground: Ground, options: RelationsOptions, kind: str, phase: str, relations: tuple[str, ...]
) -> Setting:
    contrasts = [
        ContrastOptions(
            name=own,
            task=options.task,
            target=(own,),
            controls=tuple(other for other in relations if other != own),
            within=options.within,
        )
        for own in relations
    ]
    units, scores = contrast_scores(ground, contrasts, kind, phase)
    most = max(ground.evidence.doses_of(kind))
    ranking = {own: leading(units, s, most) for own, s in zip(relations, scores, strict=True)}
    return Setting(ground, options, kind, phase, relations, ranking)


def _fall(asked: Asked, plans: Sequence[Plan]) -> Answers:
    """Fall of probability and of exact answers under plans."""
    found, intact = asked.under(plans), asked.intact
    return Answers(intact.probability - found.probability, intact.exact - found.exact)


def _codes(setting: Setting, asked: Asked) -> np.ndarray:
    return np.array([setting.relations.index(own) for own in asked.trials["condition"]])


def _chosen(setting: Setting) -> Chosen:
    """Settle on calibration trials how many units, and which pairs of relations."""
    asked = setting.asked("calibration")
    codes, count = _codes(setting, asked), len(setting.relations)
    plans = [setting.off(setting.ranking[r][:d]) for d in setting.doses for r in setting.relations]
    fall = _fall(asked, plans).probability.reshape(len(setting.doses), count, -1)
    losses = fall[:, codes, np.arange(len(codes))].mean(axis=1)
    at = chosen_dose(losses, setting.ground.evidence.target_effect)
    means = _by_relation(fall[at], codes, count)
    others = (means.sum() - np.trace(means)) / (count * (count - 1))
    selectivity = float(np.trace(means) / count - others)
    np.fill_diagonal(means, -np.inf)
    harmed = np.unravel_index(int(np.argmax(means)), means.shape)
    np.fill_diagonal(means, np.inf)
    intact = _by_relation(asked.intact.probability[0], codes, count)
    # Of relations with room to improve, if there are any.
    room = intact < 1 - setting.ground.evidence.margin
    means[:, ~room] = np.where(room.any(), np.inf, means[:, ~room])
    improved = np.unravel_index(int(np.argmin(means)), means.shape)
    pairs = (tuple(int(i) for i in pair) for pair in (harmed, improved))
    return Chosen(setting.doses[at], *pairs, losses, selectivity)


def _by_relation(fall: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """Mean over the trials of every relation, (..., n_relations)."""
    return np.stack([fall[..., codes == i].mean(axis=-1) for i in range(count)], axis=-1)


def evaluate(setting: Setting, chosen: Chosen) -> Losses:
    """Run every dose on evaluation trials, and random sets at those that statements are about.

    Parameters
    ----------
    setting : Setting
        The units.
    chosen : Chosen
        The dose.

    Returns
    -------
    Losses
        Of all relations.
    """
    asked = setting.asked("evaluation")
    codes = _codes(setting, asked)
    of, exact, random = {}, {}, {}
    for dose in setting.doses:
        fall = _fall(asked, [setting.off(setting.ranking[r][:dose]) for r in setting.relations])
        of[dose], exact[dose] = fall.probability, fall.exact
    first, last = setting.doses[0], setting.doses[-1]
    random[last] = _random(setting, asked, codes, last, last, own_only=last != chosen.dose)
    # Fewer random units are some of more of them, as leading ones are: what more do is compared.
    random[first] = _random(setting, asked, codes, last, first, own_only=True)
    if chosen.dose != last:
        random[chosen.dose] = _random(setting, asked, codes, chosen.dose, chosen.dose)
    return Losses(asked, codes, of, exact, random)


def _random(
    setting: Setting,
    asked: Asked,
    codes: np.ndarray,
    dose: int,
    kept: int,
    *,
    own_only: bool = False,
) -> np.ndarray:
    """Mean losses under random sets, of all relations or of that whose units they stand beside.

    Of every set beside the ``dose`` leading units as many are ``kept`` as of these.
    """
    count, units = len(setting.relations), every_unit(setting.ground, setting.kind)
    tables = []
    for number, relation in enumerate(setting.relations):
        chosen, draws = setting.ranking[relation][:dose], setting.options.draws
        mode = OFF[setting.kind]
        sets = random_sets(setting.ground, units, chosen, draws, 100 * dose + number, mode)
        sets = [nested(own, setting.ranking[relation][:kept]) for own in sets]
        rows = np.flatnonzero(codes == number) if own_only else np.arange(len(codes))
        found = asked.under([setting.off(own) for own in sets], rows).probability
        fall = asked.intact.probability[:, rows] - found
        table = np.full((len(sets), count), np.nan)
        for asking in np.unique(codes[rows]):
            table[:, asking] = fall[:, codes[rows] == asking].mean(axis=1)
        tables.append(table)
    fewest = min(map(len, tables))
    return np.stack([table[:fewest] for table in tables], axis=1)
