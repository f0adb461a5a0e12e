"""Whether the units that respond most to sentences carry language, and only that.

Units are ranked by Welch's t of their absolute activity, sentences against lists of words that
mean nothing, on selection trials. The best few percent are switched off, and the loss in
log-probability of held-out sentences is compared with that of other behaviours, with random units
of the same layers, and with units that the same selection finds in two random halves of the lists
(sham maps).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.anatomy import SPANS, encode, render_trials
from lmri.config import LanguageNetworkOptions
from lmri.errors import EvidenceError
from lmri.experiment.language_network.losing import Apart, Behaviour
from lmri.experiment.language_network.responding import (
    LISTS,
    SCRAMBLED,
    TARGET,
    Responses,
    read_responses,
    response_scores,
    sham_units,
)
from lmri.experiment.measuring import carriers_of, change_of, stated, trials_of
from lmri.experiment.outcome import Drawn, Ground, Outcome, Statement
from lmri.intervene import KINDS, Plan, Unit, mean_activity, means_of
from lmri.localise import layer_matched
from lmri.validate.change import Change

SCORE = "log-probability per token"
"""In nats."""


def run(ground: Ground, options: LanguageNetworkOptions) -> Outcome:
    """Select units by their response to language and switch them off.

    Parameters
    ----------
    ground : Ground
        What may be read; the task of language must be recorded with the units.
    options : LanguageNetworkOptions
        Tasks, kinds and shares of units.

    Returns
    -------
    Outcome
        For every kind of units: is language lost, more than other behaviours, and do the units
        respond to sentences more than to their words?
    """
    behaviours = {"language": _language(ground, options)}
    behaviours |= {task: _answers(ground, options, task) for task in options.others}
    outcomes = [_run_kind(ground, options, kind, behaviours) for kind in options.kinds]
    losses = pd.concat([own.losses for own in outcomes], ignore_index=True)
    selected = pd.concat([own.selected for own in outcomes], ignore_index=True)
    return Outcome(
        [statement for own in outcomes for statement in own.statements],
        {"losses": losses, "selected": selected, **_curves(losses, options)},
        _CAPTIONS,
        _figures(kind for kind, own in zip(options.kinds, outcomes, strict=True) if own.notes),
        [note for own in outcomes for note in own.notes],
    )


@dataclass(frozen=True)
class _OfKind:
    """What came of one kind of units."""

    statements: list[Statement]
    losses: pd.DataFrame
    selected: pd.DataFrame
    notes: list[str]


def _run_kind(
    ground: Ground, options: LanguageNetworkOptions, kind: str, behaviours: dict[str, Behaviour]
) -> _OfKind:
    if not KINDS[kind].layers(ground.subject.anatomy):
        statements = [
            Statement.untested(claim, sentence, f"the subject has no {KINDS[kind].plural}", SCORE)
            for claim, sentence in _claims(kind, options)
        ]
        return _OfKind(statements, pd.DataFrame(), pd.DataFrame(), [])
    responses = read_responses(ground, options.task, kind)
    scores = response_scores(responses, TARGET, LISTS)
    ranked = responses.units.named(np.argsort(-scores, kind="stable"))
    shams = sham_units(ground, responses, options.draws)
    plans, rows = _Plans(ground, options, kind), []
    for percent in options.percents:
        own = ranked[: max(1, round(percent / 100 * len(ranked)))]
        controls = {
            "random": layer_matched(own, responses.units, options.draws, ground.seed),
            "sham": [units[: len(own)] for units in shams],
        }
        arms = {name: _arms(said, plans, own, controls) for name, said in behaviours.items()}
        rows += _loss_rows(kind, percent, len(own), arms)
    # The statements are about the largest share, which was the last.
    statements = _statements(ground, options, kind, behaviours, arms)
    statements.append(_grammar(ground, options, kind, responses, own, controls["random"]))
    layers = pd.Series([unit[0] for unit in own]).value_counts().sort_index()
    selected = layers.rename_axis("layer").reset_index(name="units").assign(kind=kind)
    note = (
        f"{len(own)} of {len(ranked)} {KINDS[kind].plural} are {options.percents[-1]:g} %; beside "
        f"them {len(controls['random'])} random sets of the same layers and {len(shams)} sham maps."
    )
    return _OfKind(statements, pd.DataFrame(rows), selected, [note])


class _Plans:
    """How units of a kind are switched off: dimensions of the residual at their means."""

    def __init__(self, ground: Ground, options: LanguageNetworkOptions, kind: str) -> None:
        self._kind, self._means = kind, None
        if kind == "residual":
            lists = trials_of(ground, options.task, "selection", [LISTS])
            prompts = [own.ids for own in render_trials(ground.subject.tokenizer, lists)]
            self._means = mean_activity(ground.subject, prompts, kind, ground.rows)

    def of(self, units: Sequence[Unit]) -> Plan:
        """Make the plan of some units."""
        if self._means is None:
            return Plan("zero", tuple(units), self._kind)
        return Plan.of("mean", units, self._kind, means_of(self._means, units))


def _arms(
    behaviour: Behaviour,
    plans: _Plans,
    own: Sequence[Unit],
    controls: dict[str, list[list[Unit]]],
) -> dict[str, list[Change]]:
    arms = {"own": behaviour.losses([plans.of(own)])}
    for name, sets in controls.items():
        arms[name] = behaviour.losses([plans.of(units) for units in sets])
    return arms


def _language(ground: Ground, options: LanguageNetworkOptions) -> Behaviour:
    """Held-out sentences, said after what comes before them in the prompt."""
    trials = trials_of(ground, options.task, "evaluation", [TARGET], options.trials)
    prompts, texts = [], []
    for own in render_trials(ground.subject.tokenizer, trials):
        content = np.flatnonzero(own.spans == SPANS.index("content"))
        if content[0] == 0:
            raise EvidenceError(
                f"The prompts of the task '{options.task}' must have a token before the sentence, "
                "which says its first word. Use a task with 'probe: language'."
            )
        prompts.append(own.ids[: content[0]])
        texts.append(own.ids[content[0] : content[-1] + 1])
    return Behaviour(ground, trials, prompts, texts)


def _answers(ground: Ground, options: LanguageNetworkOptions, task: str) -> Behaviour:
    """Right answers to the trials of another task."""
    trials = trials_of(ground, task, "evaluation", most=options.trials)
    tokenizer = ground.subject.tokenizer
    answers = [
        encode(tokenizer, text, f"reference of {name!r}")
        for name, text in zip(trials["trial"], trials["reference"], strict=True)
    ]
    return Behaviour(ground, trials, [own.ids for own in render_trials(tokenizer, trials)], answers)


def _claims(kind: str, options: LanguageNetworkOptions) -> list[tuple[str, str]]:
    best = f"the {options.percents[-1]:g} % of {KINDS[kind].plural} that respond most to sentences"
    return [
        (
            f"{kind}_language",
            f"With {best} switched off, held-out sentences lose more log-probability than the "
            "margin, and more than with random units of the same layers and with sham maps.",
        ),
        *(
            (
                f"{kind}_not_{task}",
                f"With {best} switched off, sentences lose more log-probability than answers of "
                f"'{task}', by more than with random units and sham maps.",
            )
            for task in options.others
        ),
        (
            f"{kind}_beyond_words",
            f"On calibration trials {best} respond more to sentences than to the same words "
            "shuffled, and more so than random units of the same layers.",
        ),
    ]


def _statements(
    ground: Ground,
    options: LanguageNetworkOptions,
    kind: str,
    behaviours: dict[str, Behaviour],
    arms: dict[str, dict[str, list[Change]]],
) -> list[Statement]:
    (claim, sentence), *others = _claims(kind, options)[:-1]
    language = arms["language"]
    draws = {name: language[name] for name in ("random", "sham")}
    controls = f"{len(draws['random'])} random sets of the same layers, {len(draws['sham'])} shams"
    (own,) = language["own"]
    effects = {name: [_mean(other) for other in sets] for name, sets in draws.items()}
    statements = [_stated(claim, sentence, own, _mean(own), effects, options.margin, controls)]
    for task, (claim, sentence) in zip(options.others, others, strict=True):
        if (known := np.exp(behaviours[task].intact.mean())) < options.baseline:
            reason = f"intact, a token of the answers has a probability of {known:.2f}"
            statements.append(Statement.untested(claim, sentence, reason, SCORE))
            continue
        apart = Apart(own, arms[task]["own"][0])
        gaps = {
            name: [
                _mean(first) - _mean(second)
                for first, second in zip(draws[name], arms[task][name], strict=True)
            ]
            for name in draws
        }
        gap = apart.effect.mean
        statements.append(_stated(claim, sentence, apart, gap, gaps, 0.0, controls))
    return statements


def _stated(
    claim: str,
    sentence: str,
    change: Change | Apart,
    value: float,
    draws: dict[str, list[float]],
    threshold: float,
    controls: str,
) -> Statement:
    """Make a statement whose p is the largest over carriers and among either kind of controls."""
    made = [
        stated(
            claim,
            sentence,
            change,
            threshold=threshold,
            among=(value, effects),
            controls=controls,
            score=SCORE,
        )
        for effects in draws.values()
    ]
    return max(made, key=lambda own: own.p)


def _mean(change: Change) -> float:
    return float(change.differences.mean())


def _grammar(
    ground: Ground,
    options: LanguageNetworkOptions,
    kind: str,
    selection: Responses,
    own: Sequence[Unit],
    controls: Sequence[Sequence[Unit]],
) -> Statement:
    """Do the units respond to more than words? On trials that nothing was selected on."""
    claim, sentence = _claims(kind, options)[-1]
    held_out = read_responses(ground, options.task, kind, "calibration")
    deviation = selection.values.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    by_condition = [
        pd.DataFrame(held_out.values[keep] / deviation, index=held_out.carriers[keep]).sort_index()
        for keep in (held_out.conditions == TARGET, held_out.conditions == SCRAMBLED)
    ]
    apart = (by_condition[0] - by_condition[1]).dropna()  # (n_sentences, n_units)

    def of(units: Sequence[Unit]) -> np.ndarray:
        return apart.to_numpy()[:, selection.units.positions(units)].mean(axis=1)

    trials = pd.DataFrame({"carrier_sentence": apart.index})
    change = change_of(ground, carriers_of(ground, trials), of(own), is_rate=False)
    effects = [float(of(units).mean()) for units in controls]
    return stated(
        claim,
        sentence,
        change,
        among=(_mean(change), effects),
        controls=f"{len(effects)} random sets of the same layers",
        score="activity in standard deviations",
        split="calibration",
    )


def _loss_rows(
    kind: str, percent: float, count: int, arms: dict[str, dict[str, list[Change]]]
) -> list[dict]:
    rows = []
    names = {"own": "most responsive", "random": "random, same layers", "sham": "sham maps"}
    for behaviour, sets in arms.items():
        for arm, changes in sets.items():
            if arm == "own":
                effect = changes[0].effect
                numbers = {"lost": effect.mean, "low": effect.low, "high": effect.high}
            else:
                means = [_mean(own) for own in changes]
                low, middle, high = np.quantile(means, [0.05, 0.5, 0.95])
                numbers = {"lost": middle, "low": low, "high": high}
            common = {"kind": kind, "percent": percent, "units": count, "behaviour": behaviour}
            rows.append({**common, "who": names[arm], **numbers, "n_sets": len(changes)})
    return rows


def _curves(losses: pd.DataFrame, options: LanguageNetworkOptions) -> dict[str, pd.DataFrame]:
    """Tables of the figures: one behaviour after another, by the share that is switched off."""
    if losses.empty:
        return {}
    tables = {}
    for kind in losses["kind"].unique():
        own = losses[losses["kind"] == kind]
        best = own[own["who"] == "most responsive"].drop(columns=["who", "n_sets"])
        last = own[own["percent"] == options.percents[-1]]
        tables |= {f"{kind}_by_percent": best, f"{kind}_controls": last}
    return {name: table.reset_index(drop=True) for name, table in tables.items()}


_CAPTIONS = {
    "losses": (
        "Log-probability per token that is lost, in nats: with the most responsive units switched "
        "off (interval over carriers), and with control sets (median, 5 to 95 % of the sets)."
    ),
    "selected": "Where the units of the largest share are.",
}


def _figures(kinds: Iterable[str]) -> list[Drawn]:
    drawn = []
    for kind in kinds:
        drawn += [
            Drawn(
                *(f"{kind}_by_percent", "line", "percent", "lost", "low", "high", "behaviour"),
                title=f"What is lost with the most responsive {KINDS[kind].plural} off",
                caption=(
                    "Loss in nats per token as more units are switched off. A language network "
                    "costs sentences more than it costs other behaviours."
                ),
                against="Curves that lie on each other, or language below the others.",
            ),
            Drawn(
                *(f"{kind}_controls", "dots", "behaviour", "lost", "low", "high", "who"),
                title=f"The same number of {KINDS[kind].plural}, chosen otherwise",
                caption="Bars of controls are 5 to 95 % of the sets; of the units, over carriers.",
                against="A mark of the most responsive units within the bars of the controls.",
            ),
        ]
    return drawn
