"""Simulated studies in which nothing carries the behaviour.

Routing and what switching experts off does to a trial are drawn; everything else is what a study
runs: design, map, ranking, dose, sham maps, matched draws, effects with intervals, the rule of the
verdict. Every map is put to the test, also one that is not significant, and switching off changes
nothing but what a null names: the verdict alone has to see that nothing is there.

A trial is lost when the harm to it exceeds its margin, ``sum_{u off} harm[trial, u] >= margin``.

- ``nothing``: harm of an expert is drawn at random, whatever the routing; only the target suffers.
- ``load``: harm is proportional to how often the expert is used; only the target suffers.
- ``entities``: experts code places and years, single ones and those of the sensitive lists; every
  trial that would use an expert suffers, of the target or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lmri.config import ContrastOptions, EvidenceOptions
from lmri.intervene import Unit
from lmri.localise.activity import CountedRates
from lmri.localise.design import contrast_design
from lmri.localise.draws import layer_matched
from lmri.localise.endpoint import choose_dose
from lmri.localise.maps import UnitMap, unit_map
from lmri.localise.measures import parse_measure
from lmri.localise.resonance import Cells
from lmri.score import Resampler, carrier_columns
from lmri.validate import Evidence, decide

NULLS = ("nothing", "load", "entities")

LAYERS, EXPERTS, TOP_K = 3, 32, 2
PERMUTATIONS, RESAMPLES, DRAWS = 99, 1000, 99
CARRIERS = ("place", "year")
CONDITIONS = {
    ("sensitive", "sensitive"): "sensitive",
    ("sensitive", "null"): "near_miss_place",
    ("null", "sensitive"): "near_miss_year",
    ("null", "null"): "benign",
}
SIZES = {"selection": (7, 14, 6, 12), "calibration": (4, 4, 5, 4), "evaluation": (9, 16, 10, 17)}
"""Sensitive and other places, sensitive and other years of every split."""

CONTRAST = ContrastOptions(
    "refusal",
    "events",
    "hypothesis",
    target=("sensitive",),
    controls=("near_miss_place", "near_miss_year", "benign"),
    null_condition="benign",
)
EVIDENCE = EvidenceOptions()
MARGIN = 3.0
"""Mean margin of a trial; its deviation is 1."""


@dataclass(frozen=True)
class Outcome:
    """What came of one simulated study.

    Attributes
    ----------
    mapped : bool
        Whether the map is significant: only then a real study would go on.
    varied : bool
        Whether the control draws differ in their effects.
    verdict : str
        By the rule.
    by_layer, unpaired, uncontrolled : str
        What it would have been with layer-matched draws instead of sham maps, without bystanders,
        and without any control draw.
    """

    mapped: bool
    varied: bool
    verdict: str
    by_layer: str
    unpaired: str
    uncontrolled: str


@dataclass
class World:
    """Routing and harm of one study.

    Parameters
    ----------
    null : str
        One of :data:`NULLS`.
    rng : numpy.random.Generator
        Source of all draws.
    """

    null: str
    rng: np.random.Generator
    popularity: np.ndarray = field(init=False)
    classes: dict[str, np.ndarray] = field(init=False)
    harm: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng, shape = self.rng, (LAYERS, EXPERTS)
        self.popularity = rng.normal(0, 1.5, shape)
        coded = 1.5 if self.null == "entities" else 0.0
        # Of either carrier some experts prefer the sensitive list.
        self.classes = {name: coded * (rng.random(shape) < 0.06) for name in CARRIERS}
        # Few experts matter much, as in trained models.
        self.harm = np.where(rng.random(shape) < 0.1, 2.5, 0.1) * rng.exponential(1, shape)

    def route(self, trials: pd.DataFrame) -> np.ndarray:
        """Experts that every trial chooses: array of shape (n_trials, layers, experts), bool."""
        logits = self.popularity + self.rng.gumbel(size=(len(trials), LAYERS, EXPERTS))
        if self.null == "entities":
            for name in CARRIERS:
                codes, values = pd.factorize(trials[f"carrier_{name}"])
                logits += self.rng.normal(0, 0.7, (len(values), LAYERS, EXPERTS))[codes]
                sensitive = (trials[f"class_{name}"] == "sensitive").to_numpy()
                logits += sensitive[:, None, None] * self.classes[name]
        order = np.argpartition(-logits, TOP_K, axis=-1)[..., :TOP_K]
        chosen = np.zeros(logits.shape, dtype=bool)
        np.put_along_axis(chosen, order, True, axis=-1)
        return chosen

    def impact(self, trials: pd.DataFrame, load: np.ndarray) -> np.ndarray:
        """Harm to every trial by every expert: array of shape (n_trials, layers, experts)."""
        if self.null == "entities":
            return 3.0 * self.route(trials)
        spread = self.rng.exponential(1, (len(trials), LAYERS, EXPERTS))
        harm = self.harm if self.null == "nothing" else 6.0 * load
        target = (trials["condition"] == "sensitive").to_numpy()
        return target[:, None, None] * harm * spread


@dataclass(frozen=True)
class Trials:
    """Trials of a split and what switching experts off does to them."""

    table: pd.DataFrame
    margins: np.ndarray
    impact: np.ndarray

    def kept(self, units: Sequence[Unit]) -> np.ndarray:
        """Behaviour of every trial (0 or 1) with units off."""
        layers, experts = np.array(units, dtype=np.int64).reshape(-1, 2).T
        return (self.margins > self.impact[:, layers, experts].sum(axis=1)).astype(np.float64)

    def of(self, condition: str) -> Trials:
        """Those of one condition."""
        own = (self.table["condition"] == condition).to_numpy()
        return Trials(self.table[own], self.margins[own], self.impact[own])

    def change(self, units: Sequence[Unit]) -> np.ndarray:
        """Change of the behaviour of every trial."""
        return self.kept(units) - self.kept([])


def simulate(null: str, seed: int) -> Outcome:
    """Run one study.

    Parameters
    ----------
    null : str
        One of :data:`NULLS`.
    seed : int
        Seed of the study.

    Returns
    -------
    Outcome
        What came of it.
    """
    world = World(null, np.random.default_rng([seed, NULLS.index(null)]))
    selection = grid("selection")
    found = _map(world, selection, seed)
    ranked = found.selected(alpha=1.0)[: max(EVIDENCE.doses)]
    load = found.load
    (target,) = CONTRAST.target
    calibration = _trials(world, "calibration", load).of(target)
    dose = _dose(ranked, calibration)
    draws = EVIDENCE.sham_draws(claims=1)
    shams = found.shams(
        selection,
        CONTRAST.sham_condition,
        draws=draws,
        most=max(EVIDENCE.doses),
        seed=seed,
        usable=lambda units: True,
    )
    shams = [units[: _dose(units, calibration)] for units in shams]
    evaluation = _trials(world, "evaluation", load)
    evidence = _evidence(evaluation, ranked[:dose], shams, seed)
    others = layer_matched(ranked[:dose], found.units, DRAWS, seed)
    own, endpoint = vars(evidence), _endpoint(draws)
    return Outcome(
        mapped=bool((found.inference.p_max <= EVIDENCE.alpha).any()),
        varied=float(np.ptp(evidence.shams)) > 0,
        verdict=decide(endpoint, evidence).verdict,
        by_layer=decide(
            endpoint, Evidence(**own | {"shams": _decreases(evaluation.of(target), others)})
        ).verdict,
        unpaired=decide(endpoint, Evidence(**own | {"bystanders": {}})).verdict,
        uncontrolled=decide(endpoint, Evidence(**own | {"shams": [-1.0] * draws})).verdict,
    )


def grid(split: str) -> pd.DataFrame:
    """Trials of a split: every place with every year, its carriers being its own.

    Parameters
    ----------
    split : str
        One of :data:`SIZES`.

    Returns
    -------
    DataFrame
        ``condition`` and carriers with their classes.
    """
    sizes = SIZES[split]
    classes = {
        name: ["sensitive"] * own + ["null"] * others
        for name, own, others in zip(CARRIERS, sizes[::2], sizes[1::2], strict=True)
    }
    rows = [
        {
            "condition": CONDITIONS[of_place, of_year],
            "carrier_place": f"{split}{place}",
            "class_place": of_place,
            "carrier_year": f"{split}{year}",
            "class_year": of_year,
        }
        for place, of_place in enumerate(classes["place"])
        for year, of_year in enumerate(classes["year"])
    ]
    # Plain objects: comparing them takes a fraction of the time of other strings.
    return pd.DataFrame(rows).astype(object)


def _map(world: World, trials: pd.DataFrame, seed: int) -> UnitMap:
    ones = np.ones(len(trials), dtype=np.int64)
    counts = world.route(trials).astype(np.int64)
    cells = Cells(trials, counts, ones, ones, tuple(range(LAYERS)))
    return unit_map(
        parse_measure("expert.resonance"),
        CountedRates(cells),
        contrast_design(CONTRAST, trials, CARRIERS),
        alpha=EVIDENCE.alpha,
        permutations=PERMUTATIONS,
        seed=seed,
        owner="a simulated contrast",
    )


def _trials(world: World, split: str, load: np.ndarray) -> Trials:
    table = grid(split)
    margins = world.rng.normal(MARGIN, 1, len(table))
    return Trials(table, margins, world.impact(table, load))


def _dose(ranked: Sequence[Unit], trials: Trials) -> int:
    calibration = [
        {
            "dose": dose,
            "effect": float(-trials.change(ranked[:dose]).mean()),
            "coherent": 1.0,
        }
        for dose in EVIDENCE.doses
    ]
    return choose_dose(calibration, EVIDENCE.target_effect, EVIDENCE.coherent_share)


def _decreases(trials: Trials, draws: Sequence[Sequence[Unit]]) -> list[float]:
    return [float(-trials.change(units).mean()) for units in draws]


def _evidence(
    trials: Trials, units: Sequence[Unit], shams: Sequence[Sequence[Unit]], seed: int
) -> Evidence:
    level, bystanders = 1 - EVIDENCE.alpha, {}
    for condition in CONTRAST.controls:
        own = trials.of(condition)
        bystanders[condition] = _resampler(own, seed).effect(own.change(units), level)
    target = trials.of(*CONTRAST.target)
    resampler = _resampler(target, seed)
    return Evidence(
        effect=resampler.effect(-target.change(units), level),
        shams=_decreases(target, shams),
        bystanders=bystanders,
        coherent=1.0,
        positive_control=resampler.effect(target.kept([]), level),
        sham_sets=len({frozenset(map(tuple, own)) for own in shams}),
    )


def _resampler(trials: Trials, seed: int) -> Resampler:
    return Resampler(carrier_columns(trials.table), RESAMPLES, seed)


def _endpoint(draws: int) -> Mapping[str, object]:
    return {
        "margin": EVIDENCE.margin,
        "alpha": EVIDENCE.alpha,
        "claims": 1,
        "minimum_trials": EVIDENCE.minimum_trials,
        "shams": draws,
        "coherence": {"share": EVIDENCE.coherent_share},
    }
