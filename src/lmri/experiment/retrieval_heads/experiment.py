"""Whether the heads that look at the needle are those that it is said with, and copies too.

Heads are ranked by their retrieval score on selection trials of a needle task
(:mod:`lmri.localise.heads.retrieval`). On evaluation trials the best of them are switched off:
their outputs are set to 0 with the pattern preserved, they look at all tokens alike, or at the
first token nearly alone. A subject has few heads, so that the controls are all other sets of as
many heads, or a random choice of these. The same is asked of copying, where nothing stands between
the words and their repetition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import rankdata

from lmri.config import RetrievalHeadsOptions
from lmri.errors import EvidenceError
from lmri.experiment.measuring import (
    carriers_of,
    change_of,
    random_of,
    scores_under,
    stated,
    trials_of,
)
from lmri.experiment.outcome import Drawn, Ground, Outcome, Statement
from lmri.experiment.retrieval_heads.heads import Heads, control_sets, needle_attention
from lmri.intervene import INTACT, Plan, Unit
from lmri.localise.heads import copying_map, pattern_map, retrieval_map
from lmri.localise.study import open_shards
from lmri.validate.change import Change
from lmri.validate.statistics import rank_p

MODES = {
    "zero": "at zero with their patterns preserved",
    "uniform": "looking at all tokens alike",
    "sink": "looking at the first token",
}
"""How heads are switched off."""

SINK = 1e4
"""Factor of the attention to the first token in the mode ``sink``: little else is left."""

SCORE = "exact"


def run(ground: Ground, options: RetrievalHeadsOptions) -> Outcome:
    """Rank the heads, switch sets of them off, and look at where they look.

    Parameters
    ----------
    ground : Ground
        What may be read; the tasks must be recorded with ``attention``, for every token of the task
        of copying.
    options : RetrievalHeadsOptions
        Tasks and sizes.

    Returns
    -------
    Outcome
        Statements on needles, on copying, and on attention.
    """
    recorded = open_shards(ground.recordings / options.needle)
    try:
        retrieval = retrieval_map(recorded)
    except EvidenceError as error:
        return _untested(options, str(error))
    heads = _head_table(ground, options, retrieval)
    if options.heads >= len(heads):
        reason = f"the subject has {len(heads)} heads: there are no others to compare"
        return _untested(options, f"{reason} {options.heads} with")
    ranked = _ranked(heads["retrieval"].to_numpy(), heads)
    top = ranked[: options.heads]
    controls = control_sets(ground, top, _all_heads(heads), options.draws)
    statements, doses, tests = [], {}, []
    for task, plural in ((options.needle, "needles"), (options.copying, "copies")):
        tested = _Tested(ground, options, task, plural)
        statements += tested.statements(top, controls)
        statements.append(tested.alone(heads))
        tests += tested.rows
        rankings = {"retrieval": ranked, "induction": _ranked(heads["induction"], heads)}
        doses[f"{plural}_by_heads"] = tested.by_dose(rankings)
    looked = needle_attention(ground, _trials(ground, options, options.needle))
    statements.append(_attention_statement(ground, options, looked, heads, top, controls))
    heads["on_needle"] = looked["on_needle"].mean("trial").to_numpy().ravel()
    heads["on_word"] = looked["on_word"].mean("trial").to_numpy().ravel()
    heads["switched_off"] = [head in top for head in _all_heads(heads)]
    tables = {"heads": heads, "tests": pd.DataFrame(tests), **doses}
    if not tests:  # neither behaviour is there
        del tables["tests"]
    captions = {name: own for name, own in _CAPTIONS.items() if name in tables}
    figures = [own for own in _figures() if own.table in tables]
    return Outcome(statements, tables, captions, figures, _notes(retrieval, top, controls))


def correlation(ranks: np.ndarray, values: np.ndarray) -> float:
    """Rank correlation of ranks and values; 0 where either does not vary."""
    if np.ptp(ranks) == 0 or np.ptp(values) == 0:
        return 0.0
    return float(np.corrcoef(ranks, rankdata(values))[0, 1])


class _Tested:
    """Sets of heads switched off on the evaluation trials of a task."""

    def __init__(
        self, ground: Ground, options: RetrievalHeadsOptions, task: str, plural: str
    ) -> None:
        self._ground, self._options, self._plural = ground, options, plural
        self._trials = _trials(ground, options, task)
        self._carriers = carriers_of(ground, self._trials)
        (self._intact,) = scores_under(ground, self._trials, [INTACT], SCORE)
        self.rows: list[dict] = []

    def statements(self, top: Heads, controls: Sequence[Heads]) -> Iterator[Statement]:
        """One for every mode, and one against sets with as many heads in each layer."""
        claims = _claims(self._plural, len(top))
        if (known := self._intact.mean()) < self._options.baseline:
            reason = f"the intact subject gives {known:.2f} of the right answers"
            yield from (Statement.untested(*own, reason, SCORE) for own in claims.items())
            return
        matched = _matched(top, controls)
        for mode in MODES:
            own, *others = self._losses(mode, [top, *controls])
            alike = [others[i] for i in matched]
            self._add_rows(mode, own, others, alike)
            claim = f"{self._plural}_{mode}"
            yield self._stated(claim, claims[claim], own, others, "other sets of heads")
            if mode == "zero":
                claim = f"{self._plural}_in_their_layers"
                yield self._stated(claim, claims[claim], own, alike, "other sets in these layers")

    def alone(self, heads: pd.DataFrame) -> Statement:
        """Ask whether heads cost more answers, each alone at zero, the more they retrieve.

        Sets of heads cost all answers soon, whichever they are; single heads differ. Heads are
        what is exchanged, and what is resampled, with the carriers of the trials: the interval is
        that of other heads too. The column ``<plural>_lost`` is added to their table.
        """
        claim, sentence = _alone(self._plural)
        changes = self._losses("zero", [[head] for head in _all_heads(heads)])
        lost = np.array([own.differences for own in changes])  # (n_heads, n_trials)
        heads[f"{self._plural}_lost"] = lost.mean(axis=1)
        if (known := self._intact.mean()) < self._options.baseline:
            reason = f"the intact subject gives {known:.2f} of the right answers"
            return Statement.untested(claim, sentence, reason, SCORE)
        retrieval = heads["retrieval"].to_numpy()
        ranks = rankdata(retrieval)
        rng = random_of(self._ground, "retrieval_heads", "alone", self._plural)
        mean = lost.mean(axis=1)
        draws = [correlation(rng.permutation(ranks), mean) for _ in range(self._options.draws)]
        resampled = [
            correlation(rankdata(retrieval[picks]), own[picks])
            for own, picks in zip(
                self._carriers.weights @ lost.T, self._head_draws(len(heads)), strict=True
            )
        ]
        tail = (1 - changes[0].level) / 2
        low, high = np.quantile(resampled, [tail, 1 - tail])
        rho = correlation(ranks, mean)
        below = 2 * (1 + sum(own <= 0 for own in resampled)) / (1 + len(resampled))
        p = min(1.0, max(below, rank_p(rho, draws)))
        effect = changes[0].effect
        carriers = min(effect.n_carriers, len(heads))
        numbers = (rho, float(low), float(high), 0.0, p, effect.n, carriers)
        controls = f"{len(draws)} exchanges of {len(heads)} heads"
        return Statement(claim, sentence, *numbers, controls, "rank correlation of heads")

    def _head_draws(self, count: int) -> np.ndarray:
        """Heads with repeats, for every resample of the carriers, (n_resamples, n_heads)."""
        rng = random_of(self._ground, "retrieval_heads", "heads", self._plural)
        return rng.integers(count, size=(len(self._carriers.weights), count))

    def by_dose(self, rankings: dict[str, list[Unit]]) -> pd.DataFrame:
        """Share of right answers as more heads of a ranking are at zero."""
        rows = []
        for ranking, heads in rankings.items():
            for count in range(2 * self._options.heads + 1):
                (right,) = scores_under(
                    self._ground, self._trials, [_plan("zero", heads[:count])], SCORE
                )
                effect = self._change(right).effect
                known = {"ranking": ranking, "heads": count, "right": effect.mean, "n": effect.n}
                # Where all trials agree the interval is that of a change, which may be negative.
                ends = {"low": max(0.0, effect.low), "high": min(1.0, effect.high)}
                rows.append({**known, **ends})
        return pd.DataFrame(rows)

    def _losses(self, mode: str, sets: Sequence[Sequence[Unit]]) -> list[Change]:
        plans = [_plan(mode, heads) for heads in sets]
        values = scores_under(self._ground, self._trials, plans, SCORE)
        return [self._change(self._intact - own) for own in values]

    def _change(self, differences: np.ndarray) -> Change:
        return change_of(self._ground, self._carriers, differences, is_rate=True)

    def _stated(
        self, claim: str, sentence: str, own: Change, others: Sequence[Change], named: str
    ) -> Statement:
        if not others:
            return Statement.untested(claim, sentence, f"there are no {named}", SCORE)
        effects = [float(other.differences.mean()) for other in others]
        return stated(
            claim,
            sentence,
            own,
            threshold=self._options.margin,
            among=(float(own.differences.mean()), effects),
            controls=f"{len(others)} {named}",
            score=SCORE,
        )

    def _add_rows(
        self, mode: str, own: Change, others: Sequence[Change], alike: Sequence[Change]
    ) -> None:
        effect, test = own.effect, {"test": f"{self._plural}, {mode}"}
        numbers = {"lost": effect.mean, "low": effect.low, "high": effect.high, "n_sets": 1}
        self.rows.append({**test, "who": "retrieval heads", **numbers})
        for who, sets in (("all other sets", others), ("sets in these layers", alike)):
            if sets:
                effects = [other.differences.mean() for other in sets]
                low, middle, high = np.quantile(effects, [0.05, 0.5, 0.95])
                numbers = {"lost": middle, "low": low, "high": high, "n_sets": len(sets)}
                self.rows.append({**test, "who": who, **numbers})


def _trials(ground: Ground, options: RetrievalHeadsOptions, task: str) -> pd.DataFrame:
    return trials_of(ground, task, "evaluation", most=options.trials)


def _plan(mode: str, heads: Sequence[Unit]) -> Plan:
    return Plan.of(mode, heads, "head", {head: [SINK] for head in heads})


def _head_table(
    ground: Ground, options: RetrievalHeadsOptions, retrieval: xr.Dataset
) -> pd.DataFrame:
    copying = open_shards(ground.recordings / options.copying)
    scores = {
        "retrieval": retrieval["retrieval"],
        "induction": pattern_map(copying, phase="response")["induction"],
        "copying": copying_map(ground.subject)["copying"],
    }
    layers, heads = scores["retrieval"].shape
    places = [(layer, head) for layer in range(layers) for head in range(heads)]
    columns = {name: own.to_numpy().ravel() for name, own in scores.items()}
    return pd.DataFrame(places, columns=["layer", "head"]).assign(**columns)


def _all_heads(heads: pd.DataFrame) -> list[Unit]:
    return list(heads[["layer", "head"]].itertuples(index=False, name=None))


def _ranked(scores: Sequence[float], heads: pd.DataFrame) -> Heads:
    order = np.argsort(-np.asarray(scores), kind="stable")
    units = _all_heads(heads)
    return tuple(units[i] for i in order)


def _matched(own: Heads, sets: Sequence[Heads]) -> list[int]:
    """Which sets have as many heads in each layer."""
    layers = sorted(layer for layer, _ in own)
    return [i for i, heads in enumerate(sets) if sorted(layer for layer, _ in heads) == layers]


def _attention_statement(
    ground: Ground,
    options: RetrievalHeadsOptions,
    looked: xr.Dataset,
    heads: pd.DataFrame,
    top: Heads,
    controls: Sequence[Heads],
) -> Statement:
    weights = looked["on_needle"].to_numpy().reshape(looked.sizes["trial"], -1)
    places = {head: i for i, head in enumerate(_all_heads(heads))}

    def above(chosen: Heads) -> np.ndarray:
        inside = np.zeros(len(places), dtype=bool)
        inside[[places[head] for head in chosen]] = True
        return weights[:, inside].mean(1) - weights[:, ~inside].mean(1)

    trials = _trials(ground, options, options.needle)
    change = change_of(ground, carriers_of(ground, trials), above(top), is_rate=False)
    others = [float(above(chosen).mean()) for chosen in controls]
    return stated(
        *_looking(len(top)),
        change,
        among=(float(change.differences.mean()), others),
        controls=f"{len(controls)} other sets of heads",
        score="attention",
    )


def _claims(plural: str, heads: int) -> dict[str, str]:
    """Claims on a behaviour, with their sentences."""
    claims = {
        f"{plural}_{mode}": (
            f"With the {heads} best retrieval heads {words}, {plural} are lost, and more of them "
            f"than with other sets of {heads} heads."
        )
        for mode, words in MODES.items()
    }
    claims[f"{plural}_in_their_layers"] = (
        f"With the {heads} best retrieval heads {MODES['zero']}, more {plural} are lost than with "
        "other sets that have as many heads in each layer."
    )
    return claims


def _alone(plural: str) -> tuple[str, str]:
    return (
        f"{plural}_by_each_head",
        f"The more a head retrieves, the more {plural} are lost with this head alone at zero.",
    )


def _looking(heads: int) -> tuple[str, str]:
    return (
        "attention_on_needle",
        f"While the needle is said, the {heads} best retrieval heads give it more of their "
        "attention than all other heads do, and than any other such set.",
    )


def _untested(options: RetrievalHeadsOptions, reason: str) -> Outcome:
    claims = [
        *_claims("needles", options.heads).items(),
        _alone("needles"),
        *_claims("copies", options.heads).items(),
        _alone("copies"),
        _looking(options.heads),
    ]
    return Outcome([Statement.untested(*own, reason, SCORE) for own in claims])


def _notes(retrieval: xr.Dataset, top: Heads, controls: Sequence[Heads]) -> list[str]:
    named = ", ".join(f"{layer}.{head}" for layer, head in top)
    return [
        f"Switched off (layer.head): {named}; chosen on {retrieval.attrs['counted_runs']} of "
        f"{retrieval.attrs['runs']} selection runs, those that were answered.",
        f"Ranked among {len(controls)} other sets of heads: no p is below "
        f"{1 / (1 + len(controls)):.2g}; among the {len(_matched(top, controls))} of them with as "
        f"many heads in each layer none is below {1 / (1 + len(_matched(top, controls))):.2g}.",
    ]


_CAPTIONS = {
    "heads": (
        "Every head: retrieval score on selection trials, induction in the answers of the task of "
        "copying, copying by the weights alone; on evaluation trials the attention on the needle "
        "(on_needle) and on the very word that is said next (on_word), and the share of answers "
        "that is lost with the head alone at zero."
    ),
    "tests": (
        "Answers lost when the retrieval heads are switched off, with the interval over carriers, "
        "and when other sets of as many heads are: median and 5 to 95 % of the sets."
    ),
}


def _figures() -> list[Drawn]:
    heat = Drawn(
        *("heads", "heat", "head", "layer", None, None, "retrieval"),
        title="Retrieval score of every head",
        caption="Few cells stand out where retrieval is the work of few heads.",
        against="An even map: then no few heads retrieve.",
    )
    tests = Drawn(
        *("tests", "dots", "test", "lost", "low", "high", "who"),
        title="Answers lost",
        caption=(
            "The mark of the retrieval heads lies beyond the bars of other sets where they are "
            "what the answer needs."
        ),
        against="Marks within the bars: as many other heads do as much.",
    )
    curves = [
        Drawn(
            *(f"{plural}_by_heads", "line", "heads", "right", "low", "high", "ranking"),
            title=f"Right {plural} as heads are switched off",
            caption=(
                "Share of right answers with the best heads of each ranking at zero, one more at "
                "every step. A steep fall at the first heads means that few carry the answer."
            ),
            against="Curves that stay up, or fall alike for both rankings.",
        )
        for plural in ("needles", "copies")
    ]
    return [heat, tests, *curves]
