"""Steering: a direction of the residual that is to switch a behaviour on and off.

Vectors are made of selection trials, their layer and scale are searched on calibration trials, and
what they do is told on evaluation trials, beside random directions of the same length and sham
vectors (mean differences between random halves of the control condition).

Sources: Zou et al. 2023 (arXiv 2310.01405); Rahn et al. 2024 (arXiv 2406.00244); Makelov et al.
2023 (arXiv 2311.17030).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from lmri.config import ConditionOptions, SteeringOptions, needed_draws
from lmri.experiment.answers import name_of
from lmri.experiment.deciding import Kept, all_stay
from lmri.experiment.measuring import (
    carriers_of,
    change_of,
    contrast_of,
    prompts_of,
    responses_under,
    scores_under,
    stated,
    trials_of,
)
from lmri.experiment.outcome import Ground, Outcome, Statement
from lmri.experiment.steering.aims import (
    ENTROPY,
    UNCERTAIN,
    Aim,
    Found,
    Setting,
    aims_of,
    missed,
    search,
)
from lmri.experiment.steering.directions import (
    plan_along,
    random_directions,
    sham_directions,
    sides_of,
    vector_of,
)
from lmri.experiment.steering.figures import CAPTIONS, FIGURES
from lmri.intervene import INTACT, Plan, mean_difference, row_space_report, scale_curve
from lmri.score import Effect
from lmri.validate.statistics import rank_p

WHOLE = ("refusal_exact", "fact_told")
"""Scores of whole responses."""


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
    target, control = tuple(contrast.target), (options.condition or contrast.controls[0],)
    setting = _setting(ground, options, contrast.task, (target, control))
    tables: dict[str, list[dict]] = {name: [] for name in (*CAPTIONS, "draws")}
    found: dict[Aim, Found] = {}
    statements = []
    aims = [aim for own in options.vectors for aim in aims_of(ground, own, target, control)]
    needed = needed_draws(len(aims) + bool(contrast.bystanders), ground.evidence.alpha)
    for aim in aims:
        where, tried = search(setting, aim)
        tables["searched"] += tried
        if where is None:
            statements.append(Statement.untested(aim.claim, aim.sentence, missed(tried)))
            continue
        found[aim] = where
        statements.append(_tested(setting, aim, where, tables, needed))
        tables["responses"] += _responses(setting, aim, where)
        tables["row_space"].append(_row_space(setting, aim, where))
    tables["scales"] += _by_scale(setting, found, target, control)
    statements += _spared(setting, contrast.bystanders, found, tables)
    return Outcome(
        statements,
        {name: pd.DataFrame(rows) for name, rows in tables.items() if rows},
        {name: text for name, text in CAPTIONS.items() if tables[name]},
        [figure for figure in FIGURES if tables[figure.table]],
        [_note(target, control)],
    )


def _setting(
    ground: Ground, options: SteeringOptions, task: str, conditions: Sequence[tuple[str, ...]]
) -> Setting:
    sides = sides_of(
        ground,
        *(trials_of(ground, task, "selection", own, options.trials) for own in conditions),
    )
    vectors = {name: vector_of(ground, sides, name) for name in options.vectors}
    return Setting(ground, options, task, sides, vectors)


def _tested(
    setting: Setting, aim: Aim, found: Found, tables: dict[str, list[dict]], needed: int
) -> Statement:
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
        if len(steps)
    }
    is_rate, carriers = aim.score != ENTROPY, carriers_of(ground, trials)
    told = change_of(ground, carriers, steered - intact, is_rate=is_rate).effect
    rows = _effect_rows(setting, aim, found, intact, told, drawn)
    tables["effects" if is_rate else "uncertainty"] += rows
    tables["draws"] += [
        {"aim": aim.name, "control": name, "draw": draw, "value": float(values.mean())}
        for name, own in drawn.items()
        for draw, values in enumerate(own)
    ]
    if (shams := len(controls["sham"])) < needed:
        reason = (
            f"the carriers of the control condition have halves for {shams} sham vectors; {needed} "
            "are needed"
        )
        return Statement.untested(aim.claim, aim.sentence, reason, aim.score)
    # The control that does more on average is what the change is told against.
    harder = max(drawn.values(), key=lambda values: aim.rises * values.mean())
    beyond = aim.rises * (steered - harder.mean(axis=0))
    statement = stated(
        aim.claim,
        aim.sentence,
        change_of(ground, carriers, beyond, is_rate=is_rate),
        score=aim.score,
        controls=f"{count} random directions, {shams} sham vectors",
    )
    value = aim.rises * float(steered.mean())
    ranks = [rank_p(value, (aim.rises * own.mean(axis=1)).tolist()) for own in drawn.values()]
    return replace(statement, p=max(statement.p, *ranks))


def _effect_rows(
    setting: Setting,
    aim: Aim,
    found: Found,
    intact: np.ndarray,
    told: Effect,
    drawn: dict[str, np.ndarray],
) -> list[dict]:
    """The vector with its interval over carriers, and the controls with that of their draws."""
    length = float(np.linalg.norm(found.step))
    difference = mean_difference(setting.sides.target, setting.sides.control)[found.layer]
    base = {
        "aim": aim.name,
        "condition": "+".join(aim.condition),
        "score": aim.score,
        "layer": found.layer,
        "scale": found.scale,
        "length": length,
        "cosine": float(found.step @ difference / (length * np.linalg.norm(difference))),
        "intact": float(intact.mean()),
    }
    ends = {"low": told.low, "high": told.high, "n": told.n, "n_carriers": told.n_carriers}
    value = base["intact"] + told.mean
    rows = [{**base, "arm": "vector", "value": value, "change": told.mean, **ends}]
    for name, values in drawn.items():
        changes = values.mean(axis=1) - intact.mean()
        low, high = (float(end) for end in np.quantile(changes, [0.025, 0.975]))
        own = {"value": float(values.mean()), "change": float(changes.mean())}
        rows.append({**base, "arm": name, **own, **ends, "low": low, "high": high})
    return rows


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


def _spared(
    setting: Setting,
    bystanders: Sequence[ConditionOptions],
    found: dict[Aim, Found],
    tables: dict[str, list[dict]],
) -> list[Statement]:
    """Right answers of bystanders while the first vector takes the behaviour away."""
    margin = setting.ground.evidence.margin
    vectors = [name for name in setting.options.vectors if name != UNCERTAIN]
    if not bystanders or not vectors:
        return []
    vector = vectors[0]
    claim, sentence = (
        f"spares_{vector}",
        f"While the {vector.replace('_', ' ')} takes the behaviour away, right answers of every "
        f"bystander fall by less than {margin:g}",
    )
    aim = next((own for own in found if (own.vector, own.verb) == (vector, "removes")), None)
    if aim is None:
        reason = "no layer and scale takes the behaviour away on calibration trials"
        return [Statement.untested(claim, sentence, reason, "exact")]
    kept = {
        name_of(place): _bystander(setting, aim, found[aim], place, tables) for place in bystanders
    }
    return [all_stay(claim, sentence, kept, margin, "exact", aim.claim)]


def _bystander(
    setting: Setting,
    aim: Aim,
    found: Found,
    place: ConditionOptions,
    tables: dict[str, list[dict]],
) -> Kept:
    ground = setting.ground
    conditions = () if place.condition is None else (place.condition,)
    trials = trials_of(ground, place.task, "evaluation", conditions, setting.options.trials)
    plans = [INTACT, plan_along(ground, found.layer, found.step)]
    intact, steered = scores_under(ground, trials, plans, "exact")
    change = change_of(ground, carriers_of(ground, trials), steered - intact, is_rate=True)
    tables["bystanders"].append(
        {
            "aim": aim.name,
            "bystander": name_of(place),
            **_compared(intact, steered, change.effect),
        }
    )
    return Kept(intact, change)


def _compared(intact: np.ndarray, steered: np.ndarray, effect: Effect) -> dict:
    return {
        "intact": float(intact.mean()),
        "steered": float(steered.mean()),
        "change": effect.mean,
        "low": effect.low,
        "high": effect.high,
        "n": effect.n,
        "n_carriers": effect.n_carriers,
    }


def _responses(setting: Setting, aim: Aim, found: Found) -> Iterator[dict]:
    """What is said in full on evaluation trials; the beginning alone could be a word of nothing."""
    if aim.score == ENTROPY:
        return
    ground, trials = setting.ground, setting.trials(aim.condition, "evaluation")
    plans = [INTACT, plan_along(ground, found.layer, found.step)]
    intact, steered = responses_under(ground, trials, plans)
    carriers = carriers_of(ground, trials)
    for score in WHOLE:
        both = intact[score].to_numpy(), steered[score].to_numpy()
        effect = change_of(ground, carriers, both[1] - both[0], is_rate=True).effect
        yield {
            "aim": aim.name,
            "condition": "+".join(aim.condition),
            "score": score,
            **_compared(*both, effect),
        }


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
