"""Steering: a direction of the residual that is to switch a behaviour on and off.

Vectors are made of selection trials, their layer and scale are searched on calibration trials, and
what they do is told on evaluation trials, beside as many random directions of the same length and
as many sham vectors (mean differences between random halves of the control condition).

Sources: Zou et al. 2023 (arXiv 2310.01405); Rahn et al. 2024 (arXiv 2406.00244); Makelov et al.
2023 (arXiv 2311.17030).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lmri.config import SteeringOptions
from lmri.experiment.directions import (
    Sides,
    entropies_under,
    plan_along,
    random_directions,
    sham_directions,
    sides_of,
    vector_of,
)
from lmri.experiment.measuring import (
    carriers_of,
    change_of,
    contrast_of,
    prompts_of,
    scores_under,
    stated,
    trials_of,
)
from lmri.experiment.outcome import Drawn, Ground, Outcome, Statement
from lmri.intervene import INTACT, Plan, row_space_report, scale_curve, search_scale
from lmri.validate.statistics import rank_p

ENTROPY = "entropy"
"""Score of a vector that is to make the subject uncertain: that of its next token, in nats."""

UNCERTAIN = "entropy_weighted"


@dataclass(frozen=True)
class Aim:
    """What a vector is to do.

    Attributes
    ----------
    vector, verb : str
        Name of the vector; ``induces``, ``removes`` or ``unsettles``.
    condition : tuple of str
        Conditions of the trials.
    sign : int
        Of the scale: towards the target, or away from it.
    score : str
        What is measured.
    """

    vector: str
    verb: str
    condition: tuple[str, ...]
    sign: int
    score: str

    @property
    def rises(self) -> int:
        """Whether the score is to rise (1) or to fall (-1)."""
        return -1 if self.verb == "removes" else 1

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.vector.replace('_', ' ')} {self.verb}"


@dataclass(frozen=True)
class Found:
    """Layer and scale of an aim, found on calibration trials.

    Attributes
    ----------
    layer : int
        The layer.
    step : ndarray of shape (hidden,), float64
        What is added: the vector times its signed scale.
    scale : float
        The signed scale.
    """

    layer: int
    step: np.ndarray
    scale: float


@dataclass(frozen=True)
class Setting:
    """What an experiment is about.

    Attributes
    ----------
    ground : Ground
        The subject and the trials.
    options : SteeringOptions
        The options.
    task : str
        The task of the contrast.
    sides : Sides
        States of selection trials.
    vectors : dict of str to ndarray of shape (layers, hidden)
        By name.
    """

    ground: Ground
    options: SteeringOptions
    task: str
    sides: Sides
    vectors: dict[str, np.ndarray]

    def trials(self, conditions: Sequence[str], split: str) -> pd.DataFrame:
        """Trials of conditions in a split."""
        return trials_of(self.ground, self.task, split, conditions, self.options.trials)

    def scores(self, aim: Aim, trials: pd.DataFrame, plans: Sequence[Plan]) -> np.ndarray:
        """Score of an aim under every plan, (n_plans, n_trials)."""
        if aim.score == ENTROPY:
            return entropies_under(self.ground, prompts_of(self.ground, trials), plans)
        return scores_under(self.ground, trials, plans, aim.score)


def run(ground: Ground, options: SteeringOptions) -> Outcome:
    """Steer the behaviour of a contrast.

    Parameters
    ----------
    ground : Ground
        The subject and the trials.
    options : SteeringOptions
        Contrast, vectors, scales, draws.

    Returns
    -------
    Outcome
        Statements for each vector; what it does beside controls, by scale, to bystanders, and by
        what reads it.
    """
    contrast = contrast_of(ground, options.contrast)
    control = (options.condition or contrast.controls[0],)
    target = tuple(contrast.target)
    own = [
        trials_of(ground, contrast.task, "selection", side, options.trials)
        for side in (target, control)
    ]
    sides = sides_of(ground, *own)
    vectors = {name: vector_of(ground, sides, name) for name in options.vectors}
    setting = Setting(ground, options, contrast.task, sides, vectors)
    aims = [aim for name in options.vectors for aim in _aims(ground, name, target, control)]
    statements, searched, effects, draws, rows = [], [], [], [], []
    found: dict[Aim, Found] = {}
    for aim in aims:
        where, tried = _search(setting, aim)
        searched += tried
        if where is None:
            statements.append(Statement.untested(_claim(aim), _sentence(aim), _missed(tried)))
            continue
        found[aim] = where
        rows.append(_row_space(setting, aim, where))
        statement, seen, drawn = _tested(setting, aim, where)
        statements.append(statement)
        effects += seen
        draws += drawn
    bystanders, spared = _bystanders(setting, contrast.bystanders, found)
    tables = {
        "effects": effects,
        "scales": list(_by_scale(setting, found, target, control)),
        "searched": searched,
        "bystanders": bystanders,
        "row_space": rows,
        "draws": draws,
    }
    return Outcome(
        [*statements, *spared],
        {name: pd.DataFrame(own) for name, own in tables.items() if own},
        {name: text for name, text in CAPTIONS.items() if tables[name]},
        [figure for figure in FIGURES if tables[figure.table]],
        [_note(target, control)],
    )


def _aims(
    ground: Ground, vector: str, target: tuple[str, ...], control: tuple[str, ...]
) -> list[Aim]:
    if vector == UNCERTAIN:
        return [Aim(vector, "unsettles", control, 1, ENTROPY)]
    score = ground.evidence.score
    return [
        Aim(vector, "induces", control, 1, score),
        Aim(vector, "removes", target, -1, score),
    ]


def _search(setting: Setting, aim: Aim) -> tuple[Found | None, list[dict]]:
    """The layer that reaches the target at the smallest scale; of several, the largest effect."""
    trials = setting.trials(aim.condition, "calibration")
    prompts = prompts_of(setting.ground, trials)
    (intact,) = setting.scores(aim, trials, [INTACT])
    (settled,) = entropies_under(setting.ground, prompts, [INTACT])
    tried, best = [], None
    for layer, vector in enumerate(setting.vectors[aim.vector]):

        def effect(scale: float, layer: int = layer, vector: np.ndarray = vector):
            plan = plan_along(setting.ground, layer, vector, aim.sign * scale)
            (score,) = setting.scores(aim, trials, [plan])
            (entropy,) = entropies_under(setting.ground, prompts, [plan])
            risen = float((entropy - settled).mean())
            calm = aim.score == ENTROPY or risen <= setting.options.most_entropy
            return aim.rises * float((score - intact).mean()), calm

        own = search_scale(effect, setting.options.scales, setting.options.target_effect)
        tried += [{"aim": aim.name, "layer": layer, **entry} for entry in own.tried]
        if own.scale is not None:
            key = own.scale, -own.tried[-1]["effect"], layer
            best = key if best is None else min(best, key)
    if best is None:
        return None, tried
    scale, _, layer = best
    vector = setting.vectors[aim.vector][layer]
    return Found(layer, aim.sign * scale * vector, aim.sign * scale), tried


def _missed(tried: list[dict]) -> str:
    most = max((own["effect"] for own in tried if own["admissible"]), default=float("nan"))
    return (
        "no layer and scale reaches the target on calibration trials with a next token that stays "
        f"certain enough (at most {most:.2f})"
    )


def _claim(aim: Aim) -> str:
    return f"{aim.verb}_{aim.vector}"


def _sentence(aim: Aim) -> str:
    where, vector = " and ".join(aim.condition), aim.vector.replace("_", " ")
    does = {
        "induces": f"brings the behaviour about in {where}",
        "removes": f"takes the behaviour away in {where}",
        "unsettles": f"makes the next token less certain in {where}",
    }[aim.verb]
    return f"The {vector} {does}, more than random directions and sham vectors of its length."


def _tested(setting: Setting, aim: Aim, found: Found) -> tuple[Statement, list[dict], list[dict]]:
    """Evaluation trials under the vector, and under every control."""
    ground, count = setting.ground, setting.options.draws
    trials = setting.trials(aim.condition, "evaluation")
    length = float(np.linalg.norm(found.step))
    controls = {
        "random": random_directions(ground, length, count, aim.name),
        "sham": sham_directions(ground, setting.sides, found.layer, length, count, aim.name),
    }
    own = [INTACT, plan_along(ground, found.layer, found.step)]
    intact, steered = setting.scores(aim, trials, own)
    drawn = {
        name: setting.scores(aim, trials, [plan_along(ground, found.layer, step) for step in steps])
        for name, steps in controls.items()
    }
    is_rate, carriers = aim.score != ENTROPY, carriers_of(ground, trials)
    # The harder control on average is what the change is told against.
    harder = max(drawn.values(), key=lambda values: aim.rises * values.mean())
    change = change_of(
        ground, carriers, aim.rises * (steered - harder.mean(axis=0)), is_rate=is_rate
    )
    value = aim.rises * float(steered.mean())
    ranked = {name: (aim.rises * own.mean(axis=1)).tolist() for name, own in drawn.items()}
    statement = stated(
        *(_claim(aim), _sentence(aim), change),
        score=aim.score,
        controls=f"{count} random directions, {count} sham vectors",
    )
    p = max(statement.p, *(rank_p(value, own) for own in ranked.values()))
    told = change_of(ground, carriers, steered - intact, is_rate=is_rate).effect
    base = {
        "aim": aim.name,
        "condition": "+".join(aim.condition),
        "score": aim.score,
        "layer": found.layer,
        "scale": found.scale,
        "length": length,
        "intact": float(intact.mean()),
    }
    effects = [
        {
            **base,
            "arm": "vector",
            "value": float(steered.mean()),
            "change": told.mean,
            "low": told.low,
            "high": told.high,
            "n": told.n,
            "n_carriers": told.n_carriers,
        },
        *(_control_row(base, name, own, intact, told.n) for name, own in drawn.items()),
    ]
    rows = [
        {"aim": aim.name, "control": name, "draw": draw, "value": float(values.mean())}
        for name, own in drawn.items()
        for draw, values in enumerate(own)
    ]
    return replace(statement, p=p), effects, rows


def _control_row(base: dict, name: str, values: np.ndarray, intact: np.ndarray, n: int) -> dict:
    """Mean over draws, with the range of the middle 95 % of them."""
    changes = values.mean(axis=1) - intact.mean()
    low, high = np.quantile(changes, [0.025, 0.975])
    return {
        **base,
        "arm": name,
        "value": float(values.mean()),
        "change": float(changes.mean()),
        "low": float(low),
        "high": float(high),
        "n": n,
        "n_carriers": len(values),
    }


def _by_scale(
    setting: Setting, found: dict[Aim, Found], *conditions: tuple[str, ...]
) -> Iterator[dict]:
    """Behaviour, divergence and entropy on evaluation trials, along the layer of each vector."""
    scales = [0.0, *setting.options.scales]
    scales = sorted({*scales, *(-scale for scale in scales if scale)})
    ground, seen = setting.ground, set()
    for aim, own in found.items():
        if aim.vector in seen:
            continue
        seen.add(aim.vector)
        vector = setting.vectors[aim.vector][own.layer]
        for condition in conditions:
            trials = setting.trials(condition, "evaluation")
            plans = [plan_along(ground, own.layer, vector, scale) for scale in scales]
            scores = scores_under(ground, trials, plans, ground.evidence.score)
            shift = scale_curve(
                ground.subject,
                prompts_of(ground, trials),
                lambda scale, layer=own.layer, vector=vector: plan_along(
                    ground, layer, vector, scale
                ),
                scales,
                ground.rows,
            ).mean("prompt")
            for number, scale in enumerate(scales):
                yield {
                    "curve": f"{aim.vector.replace('_', ' ')}, {'+'.join(condition)}",
                    "layer": own.layer,
                    "scale": scale,
                    "behaviour": float(scores[number].mean()),
                    "divergence": float(shift["divergence"][number]),
                    "entropy": float(shift["entropy"][number]),
                    "intact_entropy": float(shift["intact_entropy"]),
                    "n": len(trials),
                }


def _bystanders(
    setting: Setting, bystanders: Sequence, found: dict[Aim, Found]
) -> tuple[list[dict], list[Statement]]:
    """Right answers of bystanders while the first vector takes the behaviour away."""
    ground, margin = setting.ground, setting.ground.evidence.margin
    removing = [aim for aim in found if aim.verb == "removes"]
    if not bystanders or not removing:
        return [], []
    aim = removing[0]
    rows, worst, p = [], None, 0.0
    for place in bystanders:
        conditions = () if place.condition is None else (place.condition,)
        trials = trials_of(ground, place.task, "evaluation", conditions, setting.options.trials)
        plans = [INTACT, plan_along(ground, found[aim].layer, found[aim].step)]
        intact, steered = scores_under(ground, trials, plans, "exact")
        change = change_of(ground, carriers_of(ground, trials), steered - intact, is_rate=True)
        effect = change.effect
        name = place.task if place.condition is None else f"{place.task}, {place.condition}"
        rows.append(
            {
                "aim": aim.name,
                "bystander": name,
                "intact": float(intact.mean()),
                "steered": float(steered.mean()),
                "change": effect.mean,
                "low": effect.low,
                "high": effect.high,
                "n": effect.n,
                "n_carriers": effect.n_carriers,
            }
        )
        p = max(p, change.p_above(-margin))
        if worst is None or effect.low < worst.effect.low:
            worst = change
    sentence = (
        f"While the {aim.vector.replace('_', ' ')} takes the behaviour away, right answers of "
        f"every bystander fall by less than {margin:g}; the effect is that of the worst."
    )
    statement = stated(f"spares_{aim.vector}", sentence, worst, score="exact", threshold=-margin)
    return rows, [replace(statement, p=p)]


def _row_space(setting: Setting, aim: Aim, found: Found) -> dict:
    """The plan on calibration trials, taken apart by what reads its direction."""
    trials = setting.trials(aim.condition, "calibration")
    (intact,) = setting.scores(aim, trials, [INTACT])

    def effect(plan: Plan) -> float:
        (score,) = setting.scores(aim, trials, [plan])
        return aim.rises * float((score - intact).mean())

    plan = plan_along(setting.ground, found.layer, found.step)
    report = row_space_report(setting.ground.subject, plan, effect)
    return {"aim": aim.name, "layer": found.layer, **report.record()}


def _note(target: tuple[str, ...], control: tuple[str, ...]) -> str:
    return (
        f"Vectors lead from {' and '.join(control)} to {' and '.join(target)} and are added after "
        "a layer at the last token of the prompt, which decides how the response begins. Where the "
        "read-out has full rank there is no null space, and the row-space table says no more than "
        "that. The entropy-weighted vector is made as long as the mean difference."
    )


CAPTIONS = {
    "effects": (
        "What vectors do on evaluation trials at the layer and scale that calibration trials gave, "
        "beside controls of the same length: of controls, mean and middle 95 % of the draws."
    ),
    "scales": "Behaviour, divergence and entropy of the next token by scale, in nats.",
    "searched": "The search on calibration trials: the smallest scale that reaches the target.",
    "bystanders": "Right answers of bystanders while the behaviour is taken away.",
    "row_space": "Effects of the parts of each vector that the model reads, and does not read.",
}
_CURVE = {"table": "scales", "kind": "line", "x": "scale", "low": None, "high": None}
FIGURES = [
    Drawn(
        table="effects",
        kind="dots",
        x="aim",
        y="change",
        low="low",
        high="high",
        series="arm",
        title="What vectors do, beside controls of their length",
        caption=(
            "Change of the score with its interval over carriers; of controls the middle 95 % of "
            "their draws. Good: the vector far from 0 on its side, both controls around 0."
        ),
        against="Controls that reach as far as the vector: any push of this length does it.",
    ),
    Drawn(
        **_CURVE,
        y="behaviour",
        series="curve",
        title="The behaviour by scale",
        caption=(
            "Good: a curve that rises from left to right and is, at 0, low for the control "
            "condition and high for the target."
        ),
        against="A flat curve, or one that falls on both sides of 0: any large push breaks it.",
    ),
    Drawn(
        **_CURVE,
        y="divergence",
        series="curve",
        title="How far the next token moves, by scale",
        caption=(
            "Kullback-Leibler divergence of the intact distribution from the steered one. Good: "
            "near 0 where the behaviour is already as wanted."
        ),
        against="A large divergence on both sides of 0 with no change of the behaviour.",
    ),
    Drawn(
        **_CURVE,
        y="entropy",
        series="curve",
        title="How uncertain the next token is, by scale",
        caption="Good: low at the scales that are used, so that something is said with certainty.",
        against="A rise with the behaviour: the subject babbles rather than changes its mind.",
    ),
]
