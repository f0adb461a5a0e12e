"""Void layers: what hardly changes a token is passed over, beside other choices of as much.

At a token, a layer is void if it adds less to the norm of the residual than a share (.8 as
published) of the range of what the layers before it added. Void layers are passed over in truth:
those after them read what they were given. Beside them, as many layers at every token are passed
over that were chosen at random, and the same layers at as many other tokens.

Source: Shemirani et al. 2025 (arXiv 2505.14467).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from lmri.config import VoidLayersOptions
from lmri.experiment.measuring import carriers_of, change_of, random_of, stated, trials_of
from lmri.experiment.outcome import Ground, Outcome, Statement
from lmri.experiment.void_layers.figures import CAPTIONS, FIGURES
from lmri.experiment.void_layers.passing import Said, Texts, said_without, texts_of, void_tokens
from lmri.intervene import Plan
from lmri.validate.change import Carriers

SHARES = (0.0, 0.4, 0.8, 1.2, 1.6, 2.4, 4.0)
"""Shares that are tried on calibration trials, beside the one that decides."""

RANDOM = "as many random layers"
MOVED = "the same layers at other tokens"

Masks = list[np.ndarray]
"""For every text where layers are passed over, (layers, n_read), bool."""


@dataclass(frozen=True)
class Asked:
    """Evaluation trials of a task and what the intact subject makes of them.

    Attributes
    ----------
    task : str
        The task.
    texts : Texts
        Prompts and right answers.
    carriers : Carriers
        Bootstrap of the trials.
    intact : Said
        Answers of the intact subject.
    """

    task: str
    texts: Texts
    carriers: Carriers
    intact: Said


def run(ground: Ground, options: VoidLayersOptions) -> Outcome:
    """Pass void layers over and compare with other choices of as many.

    Parameters
    ----------
    ground : Ground
        The subject and the trials.
    options : VoidLayersOptions
        Tasks, share, draws.

    Returns
    -------
    Outcome
        Three statements for each task; where layers are void, what every way of passing over
        costs, and every control draw.
    """
    statements: list[Statement] = []
    known_void, void, runs, draws, shares = [], [], [], [], []
    for task in options.tasks:
        calibration = trials_of(ground, task, "calibration", most=options.trials)
        known = _asked(ground, task, calibration)
        layers = _void_layers(ground, known.texts, options.share)
        known_void += _where(ground, known, options.share)
        shares += _over_shares(ground, known)
        trials = trials_of(ground, task, "evaluation", most=options.trials)
        asked = _asked(ground, task, trials)
        void += _where(ground, asked, options.share)
        masks = _masks(ground, asked.texts, options.share, layers)
        runs += _arms(ground, asked, masks)
        found = _controls(ground, asked, masks, options) if _any(masks) else {}
        draws += [row for own in found.values() for row in own.rows]
        runs += [own.summary(ground, asked) for own in found.values()]
        statements += _statements(ground, asked, masks, found, options)
    tables = {
        "where_void": void,
        "where_void_calibration": known_void,
        "runs": runs,
        "shares": shares,
        "draws": draws,
    }
    return Outcome(
        statements,
        {name: pd.DataFrame(rows) for name, rows in tables.items() if rows},
        {name: text for name, text in CAPTIONS.items() if tables[name]},
        FIGURES,
        [_note(ground, options)],
    )


def _plan(layers: Sequence[int], share: float) -> Plan:
    units = [(int(layer),) for layer in layers]
    return Plan.of("void", units, "layer", {unit: [share] for unit in units})


def _void_layers(ground: Ground, texts: Texts, share: float) -> list[int]:
    """Layers that are void at some token of calibration trials: only these are passed over."""
    every = range(ground.subject.anatomy.layers)
    masks = _masks(ground, texts, share, every)
    return np.flatnonzero(np.any([mask.any(axis=1) for mask in masks], axis=0)).tolist()


def _masks(ground: Ground, texts: Texts, share: float, layers: Sequence[int]) -> Masks:
    if not layers:
        return texts.nothing(ground.subject.anatomy.layers)
    return void_tokens(ground.subject, texts, _plan(layers, share), ground.rows)


def _any(masks: Masks) -> bool:
    return any(mask.any() for mask in masks)


def _asked(ground: Ground, task: str, trials: pd.DataFrame) -> Asked:
    texts = texts_of(ground, trials)
    nothing = texts.nothing(ground.subject.anatomy.layers)
    intact = said_without(ground.subject, texts, nothing, ground.rows)
    return Asked(task, texts, carriers_of(ground, trials), intact)


def _where(ground: Ground, asked: Asked, share: float) -> list[dict]:
    """Share of tokens at which every layer is void, by phase, with its interval over carriers."""
    every, texts = range(ground.subject.anatomy.layers), asked.texts
    masks = _masks(ground, texts, share, every)
    rows = []
    for phase in ("prompt", "response"):
        parts = [
            mask[:, :end] if phase == "prompt" else mask[:, end:]
            for mask, end in zip(masks, texts.prompts, strict=True)
        ]
        for layer in every:
            own = np.array([part[layer].mean() for part in parts])
            effect = change_of(ground, asked.carriers, own, is_rate=True).effect
            rows.append(
                {
                    "task": asked.task,
                    "phase": phase,
                    "layer": layer,
                    "where": f"{asked.task}, {phase}",
                    "share": effect.mean,
                    "low": effect.low,
                    "high": effect.high,
                    "n": effect.n,
                    "n_carriers": effect.n_carriers,
                }
            )
    return rows


def _over_shares(ground: Ground, asked: Asked) -> Iterator[dict]:
    """What is passed over and what it costs on calibration trials, at several shares."""
    every = range(ground.subject.anatomy.layers)
    for share in SHARES:
        masks = _masks(ground, asked.texts, share, every)
        said = said_without(ground.subject, asked.texts, masks, ground.rows)
        yield {"threshold": share, **_costs(ground, asked, said, _passed(masks))}


def _costs(ground: Ground, asked: Asked, said: Said, passed: float) -> dict:
    """What an arm costs: nats a token of the right answer, and right answers."""
    cost = change_of(
        ground,
        asked.carriers,
        asked.intact.log_probability - said.log_probability,
        is_rate=False,
    ).effect
    lost = change_of(ground, asked.carriers, said.exact - asked.intact.exact, is_rate=True).effect
    return {
        "task": asked.task,
        "passed_over": passed,
        "cost": cost.mean,
        "cost_low": cost.low,
        "cost_high": cost.high,
        "exact": float(said.exact.mean()),
        "intact_exact": float(asked.intact.exact.mean()),
        "change": lost.mean,
        "change_low": lost.low,
        "change_high": lost.high,
        "n": cost.n,
        "n_carriers": cost.n_carriers,
    }


def _passed(masks: Masks) -> float:
    """Share of layers, over all tokens, that are passed over."""
    return sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)


def _arms(ground: Ground, asked: Asked, masks: Masks) -> Iterator[dict]:
    """Void layers passed over in both phases or in one, and early exits."""
    layers = ground.subject.anatomy.layers
    arms = {"void layers": masks}
    for phase in ("prompt", "response"):
        arms[f"void layers of the {phase}"] = [
            _in_phase(mask, end, phase)
            for mask, end in zip(masks, asked.texts.prompts, strict=True)
        ]
    for last in range(layers - 1):
        later = np.arange(layers)[:, None] > last
        arms[f"exit after layer {last}"] = [
            np.broadcast_to(later, mask.shape).copy() for mask in masks
        ]
    for name, own in arms.items():
        said = said_without(ground.subject, asked.texts, own, ground.rows)
        yield {"arm": name, **_costs(ground, asked, said, _passed(own))}


def _in_phase(mask: np.ndarray, end: int, phase: str) -> np.ndarray:
    tokens = np.arange(mask.shape[1])
    return mask & (tokens < end if phase == "prompt" else tokens >= end)


@dataclass(frozen=True)
class Control:
    """Draws of a control.

    Attributes
    ----------
    name : str
        Of the control.
    log_probability, exact : ndarray of shape (n_draws, n_trials)
        Scores under every draw.
    passed : float
        Share that is passed over, the same in every draw.
    rows : list of dict
        One for each draw.
    """

    name: str
    log_probability: np.ndarray
    exact: np.ndarray
    passed: float
    rows: list[dict]

    def summary(self, ground: Ground, asked: Asked) -> dict:
        """The mean of the draws as a row of the runs."""
        mean = Said(self.exact.mean(axis=0), self.log_probability.mean(axis=0))
        return {"arm": self.name, **_costs(ground, asked, mean, self.passed)}


def _controls(
    ground: Ground, asked: Asked, masks: Masks, options: VoidLayersOptions
) -> dict[str, Control]:
    found = {}
    for name, draw in ((RANDOM, random_layers), (MOVED, other_tokens)):
        rng = random_of(ground, "void_layers", asked.task, name)
        said = list(_drawn(ground, asked, masks, partial(draw, rng=rng), options.draws))
        likely = np.concatenate([own.log_probability.reshape(-1, len(masks)) for own in said])
        exact = np.concatenate([own.exact.reshape(-1, len(masks)) for own in said])
        rows = [
            {
                "task": asked.task,
                "control": name,
                "draw": number,
                "cost": float((asked.intact.log_probability - likely[number]).mean()),
                "exact": float(exact[number].mean()),
            }
            for number in range(options.draws)
        ]
        found[name] = Control(name, likely, exact, _passed(masks), rows)
    return found


def _drawn(
    ground: Ground, asked: Asked, masks: Masks, draw: Callable, draws: int
) -> Iterator[Said]:
    """Answers under control draws, as many draws at once as fit a pass; trial by trial in each."""
    texts, at_once = asked.texts, max(1, ground.rows // len(asked.texts))
    for start in range(0, draws, at_once):
        count = min(at_once, draws - start)
        chosen = [
            draw(mask, int(end))
            for _ in range(count)
            for mask, end in zip(masks, texts.prompts, strict=True)
        ]
        repeated = Texts(texts.ids * count, np.tile(texts.prompts, count))
        yield said_without(ground.subject, repeated, chosen, ground.rows)


def random_layers(mask: np.ndarray, prompt: int, rng: np.random.Generator) -> np.ndarray:
    """Choose as many layers at every token at random.

    Parameters
    ----------
    mask : ndarray of shape (layers, n_read), bool
        What is void.
    prompt : int
        Tokens of the prompt, which make no difference here.
    rng : Generator
        Random numbers.

    Returns
    -------
    ndarray of shape (layers, n_read), bool
        With the same number of layers at every token.
    """
    return rng.permuted(mask, axis=0)


def other_tokens(mask: np.ndarray, prompt: int, rng: np.random.Generator) -> np.ndarray:
    """Choose as many tokens of every layer at random, before and from the prompt's last on.

    What is passed over before the last token of the prompt changes the answer only through the
    attention of later layers, and in the last layer not at all: the two are not mixed.

    Parameters
    ----------
    mask : ndarray of shape (layers, n_read), bool
        What is void.
    prompt : int
        Tokens of the prompt.
    rng : Generator
        Random numbers.

    Returns
    -------
    ndarray of shape (layers, n_read), bool
        With the same number of tokens of either part in every layer.
    """
    parts = np.split(mask, [prompt - 1], axis=1)
    return np.concatenate([rng.permuted(part, axis=1) for part in parts], axis=1)


def _statements(
    ground: Ground,
    asked: Asked,
    masks: Masks,
    controls: dict[str, Control],
    options: VoidLayersOptions,
) -> list[Statement]:
    task = asked.task
    beaten = (
        (f"beats_random_{task}", RANDOM, "as many layers chosen at random at every token"),
        (f"beats_moved_{task}", MOVED, "the same layers at as many other tokens"),
    )
    likely = "log-probability of the right answer, nats a token"
    said = f"In {task}, passing over void layers costs less than passing over"
    survives = (
        f"In {task}, the share of right answers falls by less than {options.margin:g} without the "
        "void layers."
    )
    if not controls:
        reason = "no layer is void at any token of these trials"
        untested = [Statement.untested(own, f"{said} {n}.", reason) for own, _, n in beaten]
        return [*untested, Statement.untested(f"survives_{task}", survives, reason)]
    void = said_without(ground.subject, asked.texts, masks, ground.rows)
    statements = []
    for claim, name, told in beaten:
        own = controls[name].log_probability
        change = change_of(
            ground, asked.carriers, void.log_probability - own.mean(axis=0), is_rate=False
        )
        among = float(void.log_probability.mean()), own.mean(axis=1).tolist()
        count = f"{len(own)} draws of {name}"
        statements.append(
            stated(claim, f"{said} {told}.", change, score=likely, among=among, controls=count)
        )
    intact = float(asked.intact.exact.mean())
    if intact < ground.evidence.baseline_target:
        reason = (
            f"the intact subject gives {intact:.2f} right answers; needed are "
            f"{ground.evidence.baseline_target:g}"
        )
        return [*statements, Statement.untested(f"survives_{task}", survives, reason, "exact")]
    change = change_of(ground, asked.carriers, void.exact - asked.intact.exact, is_rate=True)
    survived = stated(
        f"survives_{task}", survives, change, score="exact", threshold=-options.margin
    )
    return [*statements, survived]


def _note(ground: Ground, options: VoidLayersOptions) -> str:
    layers = ground.subject.anatomy.layers
    return (
        f"The subject has {layers} layers. The threshold of the first is 0 and that of the second "
        "a range of one value, which is 0 too: these are void only where they shrink the residual. "
        f"A layer is void below {options.share:g} of the range, and is passed over only if it was "
        "void at some token of the calibration trials. Answers are teacher-forced; layers that are "
        "passed over keep their keys and values. Before the last token of the prompt nothing reads "
        "what the last layer adds, so that passing it over there is free."
    )
