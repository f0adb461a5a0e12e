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
from lmri.experiment.measuring import carriers_of, change_of, random_of, stated, trials_of
from lmri.experiment.outcome import Drawn, Ground, Outcome, Statement
from lmri.intervene import (
    INTACT,
    KINDS,
    Plan,
    Unit,
    continuation_log_probabilities,
    mean_activity,
    means_of,
)
from lmri.localise import STATISTICS, Sides, Units, layer_matched
from lmri.localise.streams import Choice, pooled_rows, statistics
from lmri.localise.study import open_shards
from lmri.score import Effect
from lmri.validate.change import Change

TARGET, SCRAMBLED, LISTS = "sentence", "shuffled", "nonwords"
"""Conditions of the task, see the probe of language."""

ACTIVITY = {"neuron": "neuron/activation", "residual": "residual/residual"}
"""What is recorded of each kind of units."""

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


class Behaviour:
    """What a subject says of some texts, by plan: log-probability per token, in nats.

    Parameters
    ----------
    ground : Ground
        With the subject.
    trials : DataFrame
        Evaluation trials.
    prompts, texts : sequence of sequence of int
        What is given, and what is said.
    """

    def __init__(
        self,
        ground: Ground,
        trials: pd.DataFrame,
        prompts: Sequence[Sequence[int]],
        texts: Sequence[Sequence[int]],
    ) -> None:
        self._ground, self._prompts, self._texts = ground, prompts, texts
        self.carriers = carriers_of(ground, trials)
        self.intact = self.under([INTACT])[0]

    def under(self, plans: Sequence[Plan]) -> np.ndarray:
        """Log-probabilities under plans, (n_plans, n_trials)."""
        count = len(self._prompts)
        said = continuation_log_probabilities(
            self._ground.subject,
            list(self._prompts) * len(plans),
            list(self._texts) * len(plans),
            plans=plans,
            plan_of_row=np.repeat(np.arange(len(plans)), count),
            rows=self._ground.rows,
        )
        return np.array([own.mean() for own in said]).reshape(len(plans), count)

    def losses(self, plans: Sequence[Plan]) -> list[Change]:
        """What plans take away from the log-probability."""
        return [
            change_of(self._ground, self.carriers, self.intact - own, is_rate=False)
            for own in self.under(plans)
        ]


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
    shams = _sham_units(ground, responses, options.draws)
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


@dataclass(frozen=True)
class Responses:
    """Activity of units in the content of trials.

    Attributes
    ----------
    conditions, carriers : ndarray of shape (n_trials,)
        Condition and sentence of every trial.
    values : ndarray of shape (n_trials, n_units), float64
        Absolute mean activity over the content.
    units : Units
        The units.
    """

    conditions: np.ndarray
    carriers: np.ndarray
    values: np.ndarray
    units: Units


def read_responses(ground: Ground, task: str, kind: str, split: str = "selection") -> Responses:
    """Read the activity of units in the trials of a split.

    Parameters
    ----------
    ground : Ground
        With the recordings.
    task : str
        The task of language.
    kind : str
        Kind of the units.
    split : str
        The split.

    Returns
    -------
    Responses
        One row for each trial.
    """
    shards, node = open_shards(ground.recordings / task), ACTIVITY[kind].split("/")[0]
    mean = statistics(shards[0], node)["mean"]
    tables, values = [], []
    for trials, phases, (own,) in pooled_rows(shards, Choice(split), f"pooled/{ACTIVITY[kind]}"):
        activity = own[:, phases["content"], mean]
        if kind == "residual":
            activity = activity[:, :, ground.subject.anatomy.places.index("after")]
        tables.append(trials)
        values.append(np.abs(activity.astype(np.float64)).reshape(len(trials), -1))
    if not tables:
        raise EvidenceError(f"The task '{task}' must have recorded trials of the split '{split}'.")
    table = pd.concat(tables, ignore_index=True)
    layers = KINDS[kind].layers(ground.subject.anatomy)
    units = Units.of(kind, layers, *KINDS[kind].shape(ground.subject.anatomy))
    columns = (table[name].to_numpy() for name in ("condition", "carrier_sentence"))
    return Responses(*columns, np.concatenate(values), units)


def response_scores(responses: Responses, target: str, control: str) -> np.ndarray:
    """Welch's t of every unit, larger where it responds more to the target.

    Parameters
    ----------
    responses : Responses
        Activity.
    target, control : str
        Conditions.

    Returns
    -------
    ndarray of shape (n_units,), float64
        Minus infinity for a unit that never varies.
    """
    labels = np.where(responses.conditions == target, 0, -1)
    labels = np.where(responses.conditions == control, 1, labels)
    return _t_scores(labels[None], responses.values)[0]


def _t_scores(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    scores = STATISTICS["welch_t"].evaluate(Sides(labels, np.array([1.0, -1.0])), values)
    return np.where(np.isfinite(scores), scores, -np.inf)


def _sham_units(ground: Ground, responses: Responses, draws: int) -> list[list[Unit]]:
    """The same selection between random halves of the lists that mean nothing."""
    lists = np.flatnonzero(responses.conditions == LISTS)
    rng = random_of(ground, "language_network", "shams")
    labels = np.full((draws, len(responses.conditions)), -1)
    for own in labels:
        order = rng.permutation(lists)
        own[order[: len(order) // 2]], own[order[len(order) // 2 :]] = 0, 1
    scores = [_t_scores(own[None], responses.values)[0] for own in labels]
    return [responses.units.named(np.argsort(-own, kind="stable")) for own in scores]


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


@dataclass(frozen=True)
class Apart:
    """Difference of the means of two changes on trials of different tasks.

    Attributes
    ----------
    first, second : Change
        Their carriers are resampled apart from each other.
    """

    first: Change
    second: Change

    def _draws(self) -> np.ndarray:
        first, second = (
            own.carriers.weights @ own.differences for own in (self.first, self.second)
        )
        return first - second

    @property
    def effect(self) -> Effect:
        """The difference with its interval over carriers."""
        tail = (1 - self.first.level) / 2
        low, high = np.quantile(self._draws(), [tail, 1 - tail])
        first, second = self.first.effect, self.second.effect
        return Effect(
            first.mean - second.mean,
            float(low),
            float(high),
            first.n + second.n,
            min(first.n_carriers, second.n_carriers),
        )

    def p_above(self, threshold: float) -> float:
        """Test that the difference is above a threshold, as :meth:`Change.p_above`."""
        draws = self._draws()
        return min(1.0, 2 * (1 + int((draws <= threshold).sum())) / (1 + len(draws)))


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
