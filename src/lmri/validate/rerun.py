"""The re-runs of one finding: rows of ``arms.parquet``, the evidence, the transcripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.anatomy import Subject
from lmri.config import ValidateOptions
from lmri.intervene import ablated_direction
from lmri.score import Effect, Resampler, Scorer, carrier_columns
from lmri.sparse.plan import SparsePlan
from lmri.sparse.runtime import sparse
from lmri.validate.arms import Arm, Bench, Keep, Part
from lmri.validate.drawn import Drawn
from lmri.validate.parts import evaluation_parts, part_name, target_part
from lmri.validate.plan_arms import (
    INTACT_ARM,
    finding_arms,
    matched_arms,
    rival_arms,
    sham_arms,
)
from lmri.validate.positive_control import mean_difference, random_direction
from lmri.validate.responses import SavedResponses
from lmri.validate.statistics import as_large, nothing_to_lose, stopped_draws
from lmri.validate.trials import TrialScores
from lmri.validate.verdict import Evidence

SCORES = ("refusal_onset", "onset_margin", "refusal_exact", "fact_told", "exact", "coherent")
LOGITS = "onset_margin"
"""The one score that is not in [0, 1]."""

TRANSCRIPTS = 40
"""Paired transcripts kept of every primary finding; the report shows the first of them."""

DRAWS_AT_ONCE = 16
"""Sham maps that are run before a test that may stop early looks at them."""


@dataclass
class Rerun:
    """Re-runs of one finding on one subject.

    Attributes
    ----------
    subject : Subject
        The loaded subject.
    finding : dict
        A testable finding.
    stimuli : Path
        Folder with ``<task>.parquet``.
    options : ValidateOptions
        Resamples and sizes.
    seed : int
        Seed of the study.
    plan : SparsePlan, optional
        The finding is also re-run under it.
    drawn : Drawn
        Control draws that were scored before.
    saved : SavedResponses, optional
        Gets the free responses of the intact subject and of the finding.
    scorers : mapping of str to Scorer
        Scorers that decide beside the scores of every response.

    After :meth:`confirm`, ``trials`` has the scores of every trial and ``parts`` what was run.
    """

    subject: Subject
    finding: dict
    stimuli: Path
    options: ValidateOptions
    seed: int
    plan: SparsePlan | None = None
    drawn: Drawn = field(default_factory=Drawn)
    saved: SavedResponses | None = None
    scorers: Mapping[str, Scorer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        secondary = self.finding["secondary"]
        endpoint = self.finding.get("primary_endpoint", {})
        limits = endpoint.get("coherence", {"log_probability": -np.inf, "repeats": np.inf})
        sizes = self.options.rows, secondary["max_new_tokens"]
        self.bench = Bench(self.subject, *sizes, limits, self.scorers)
        self._level = 1 - endpoint.get("alpha", 0.05)
        self.trials = TrialScores(self.scorers)
        self.parts: list[Part] = []
        self._rows: list[dict] = []
        self._resamplers: dict[tuple, Resampler] = {}

    def explore(self) -> pd.DataFrame:
        """Target trials of a finding without a primary endpoint, with its few sham maps.

        Returns
        -------
        DataFrame
            Rows of ``arms.parquet``.
        """
        part = target_part(self.finding, self.stimuli)
        score = self.finding["secondary"]["score"]
        arms = finding_arms(self.finding, self.subject.anatomy)
        intact, *values = self.bench.quick([INTACT_ARM, *arms], part.trials, score)
        for arm, value in zip(arms, values, strict=True):
            effect = self._effect(part, value - intact, score)
            self._add(arm, part, score, value, intact, effect)
        self._add_controls(sham_arms(self.finding, self.subject.anatomy), part, score)
        self._add_sparse(part, score)
        return pd.DataFrame(self._rows)

    def confirm(self) -> tuple[pd.DataFrame, Evidence, pd.DataFrame]:
        """Everything a verdict needs.

        Returns
        -------
        arms : DataFrame
            Rows of ``arms.parquet``.
        evidence : Evidence
            For the rule.
        transcripts : DataFrame
            Rows of ``transcripts.parquet``.
        """
        self.parts = parts = evaluation_parts(self.finding, self.stimuli)
        endpoint = self.finding["primary_endpoint"]
        arms = finding_arms(self.finding, self.subject.anatomy)
        primary = next(arm for arm in arms if arm.primary)
        responses = {}
        effects: dict[str, Effect] = {}
        absent: set[str] = set()
        for number, part in enumerate(parts):
            scores = self._run_part(part, arms, endpoint["mode"])
            responses[number] = scores["intact"]["response"], scores["primary"]["response"]
            if part.role == "bystander":
                change = scores["primary"]["exact"] - scores["intact"]["exact"]
                effects[part_name(part)] = self._effect(part, change.to_numpy(), "exact")
                if nothing_to_lose(scores["intact"]["exact"].to_numpy(), endpoint["margin"]):
                    absent.add(part_name(part))
        target = parts[0]
        score = endpoint["score"]
        self._add_sparse(target, score)
        control = self._run_directions(target)
        effect = _decrease(self._row_effect(pd.DataFrame(self._rows), primary, target, score))
        sham = sham_arms(self.finding, self.subject.anatomy)
        shams = self._add_shams(sham, target, effect.mean)
        self._add_controls(matched_arms(self.finding, self.subject.anatomy), target, score)
        if rivals := rival_arms(self.finding, self.subject.anatomy):
            self._add_controls(rivals, target, score)
        self._add_bystander_controls(parts)
        table = pd.DataFrame(self._rows)
        evidence = Evidence(
            effect=effect,
            shams=shams,
            bystanders=effects,
            coherent=float(self._row_value(table, primary, target, "coherent")),
            positive_control=_decrease(control),
            sham_sets=_different([arm for arm in sham if arm.primary][: len(shams)]),
            absent=frozenset(absent),
        )
        return table, evidence, self._transcripts(parts, responses)

    def _run_part(self, part: Part, arms: Sequence[Arm], mode: str) -> dict[str, pd.DataFrame]:
        """Free responses of the intact subject and the finding's arms; returns the main ones."""
        self._resamplers.clear()  # one part at a time: draws of all would be large
        decisive = [arm for arm in arms if part.role == "target" or arm.mode == mode]
        others = [arm for arm in arms if arm not in decisive]
        intact, *scores = self.bench.run([INTACT_ARM, *decisive], part.trials, self._keep(part))
        self._add_scores(INTACT_ARM, part, intact, intact)
        self.trials.add(INTACT_ARM, part, intact)
        for arm, scored in zip(decisive, scores, strict=True):
            self._add_scores(arm, part, scored, intact)
            if arm.mode == mode:
                self.trials.add(arm, part, scored)
        if others:
            rows = self._few(len(part.trials))
            shown, base = _rows_of(part, rows), intact.iloc[rows].reset_index(drop=True)
            for arm, scored in zip(others, self.bench.run(others, shown.trials), strict=True):
                self._add_scores(arm, shown, scored, base)
        primary = next(i for i, arm in enumerate(decisive) if arm.primary)
        return {"intact": intact, "primary": scores[primary]}

    def _keep(self, part: Part) -> Keep | None:
        """What saves the responses to a part, if they are to be saved."""
        if self.saved is None:
            return None
        return partial(self.saved.add, self.finding["contrast"], part, self.subject.tokenizer)

    def _add_sparse(self, target: Part, score: str) -> None:
        """The plan alone against the intact subject, and the finding within it; if there is one."""
        plan, own = self.plan, finding_arms(self.finding, self.subject.anatomy)
        if plan is None or not own:
            return
        mode = self.finding["secondary"]["mode"]
        chosen = [arm for arm in own if arm.primary] or [arm for arm in own if arm.mode == mode][
            -1:
        ]
        (intact,) = self.bench.quick([INTACT_ARM], target.trials, score)
        with sparse(self.subject, plan, "reference", subject_hash=plan.subject, count=False):
            alone, *values = self.bench.quick([INTACT_ARM, *chosen], target.trials, score)
        effect = self._effect(target, alone - intact, score)
        self._add(Arm("intact_sparse", plan.policy), target, score, alone, intact, effect)
        for arm, value in zip(chosen, values, strict=True):
            effect = self._effect(target, value - alone, score)
            arm = replace(arm, name="finding_sparse", primary=False)
            self._add(arm, target, score, value, alone, effect)

    def _run_directions(self, target: Part) -> Effect:
        """Ablate the mean-difference direction, and a random one; returns the former's effect."""
        last = self.subject.anatomy.layers - 1
        rows, score = self.options.rows, self.finding["primary_endpoint"]["score"]
        direction, origin = mean_difference(self.subject, self.finding, self.stimuli, rows)
        directions = {
            "positive_control": direction,
            "random_direction": random_direction(self.subject, self.seed),
        }
        (intact,) = self.bench.run([INTACT_ARM], target.trials)
        effects = {}
        for name, direction in directions.items():
            with ablated_direction(self.subject, last, direction, origin):
                (scored,) = self.bench.run([INTACT_ARM], target.trials)
            arm = Arm(name, "ablate")
            self._add_scores(arm, target, scored, intact)
            self.trials.add(arm, target, scored)
            change = (scored[score] - intact[score]).to_numpy()
            effects[name] = self._effect(target, change, score)
        return effects["positive_control"]

    def _add_shams(self, arms: Sequence[Arm], part: Part, effect: float) -> list[float]:
        """Add sham maps; where the finding says so, no more than decide at the endpoint."""
        endpoint = self.finding["primary_endpoint"]
        score, stop = endpoint["score"], endpoint.get("stop_after")
        if stop is None:
            return self._add_controls(arms, part, score)
        drawn: list[float] = []
        waiting = [arm for arm in arms if arm.primary]
        while waiting and as_large(effect, drawn) < stop:
            drawn += self._add_controls(waiting[:DRAWS_AT_ONCE], part, score)
            waiting = waiting[DRAWS_AT_ONCE:]
        # Draws of the last batch beyond the one that ended the test do not count.
        extra = len(drawn) - stopped_draws(effect, drawn, stop)
        if extra:
            del self._rows[-extra:]
        self._add_controls([arm for arm in arms if not arm.primary], part, score)
        return drawn[: len(drawn) - extra]

    def _add_controls(self, arms: Sequence[Arm], part: Part, score: str) -> list[float]:
        """Add control draws on a part; returns the decreases at the primary endpoint."""
        intact, *values = self.drawn.run(self.bench, [INTACT_ARM, *arms], part.trials, score)
        for arm, value in zip(arms, values, strict=True):
            self._add(arm, part, score, value, intact, None)
        pairs = zip(arms, values, strict=True)
        return [float((intact - value).mean()) for arm, value in pairs if arm.primary]

    def _add_bystander_controls(self, parts: Sequence[Part]) -> None:
        """Control draws on a few trials of every bystander, in the primary mode."""
        for shown, arms in self._bystander_controls(parts):
            self._add_controls(arms, shown, "exact")

    def _bystander_controls(self, parts: Sequence[Part]) -> Iterator[tuple[Part, list[Arm]]]:
        mode, draws = self.finding["secondary"]["mode"], self.finding["secondary"]["draws"]
        shams = sham_arms(self.finding, self.subject.anatomy)
        arms = [arm for arm in shams if arm.mode == mode and arm.draw < draws]
        arms += matched_arms(self.finding, self.subject.anatomy)
        for part in parts:
            if part.role == "bystander":
                yield _rows_of(part, self._few(len(part.trials))), arms

    def control_work(self) -> Iterator[tuple[Part, list[Arm], str]]:
        """Yield trials, control draws and score of everything that can be scored beforehand."""
        shams = sham_arms(self.finding, self.subject.anatomy)
        target = target_part(self.finding, self.stimuli)
        if "primary_endpoint" not in self.finding:
            yield target, shams, self.finding["secondary"]["score"]
            return
        matched = matched_arms(self.finding, self.subject.anatomy)
        rivals = rival_arms(self.finding, self.subject.anatomy)
        yield target, [*shams, *matched, *rivals], self.finding["primary_endpoint"]["score"]
        for shown, arms in self._bystander_controls(evaluation_parts(self.finding, self.stimuli)):
            yield shown, arms, "exact"

    def _few(self, trials: int) -> np.ndarray:
        """Rows that stand for a part in secondary runs; tables are sorted, so drawn by the seed."""
        count = min(self.options.control_bystander_trials, trials)
        rng = np.random.default_rng([self.seed, 10])
        return np.sort(rng.choice(trials, size=count, replace=False))

    def _add_scores(self, arm: Arm, part: Part, scored: pd.DataFrame, intact: pd.DataFrame) -> None:
        for score in (*SCORES, *self.scorers):
            # A trial that nothing is refused in has no onset margin.
            known = np.isfinite(scored[score]) & np.isfinite(intact[score])
            self._add_score(arm, part, scored, intact, score, known.to_numpy())
        if arm.primary or arm is INTACT_ARM:
            held_out = part.trials["held_out"].to_numpy(dtype=bool)
            score = self._main_score(part)
            self._add_score(arm, part, scored, intact, score, held_out, held_out="held_out")

    def _add_score(
        self,
        arm: Arm,
        part: Part,
        scored: pd.DataFrame,
        intact: pd.DataFrame,
        score: str,
        keep: np.ndarray,
        held_out: str = "all",
    ) -> None:
        if not keep.any():
            return
        kept = Part(part.role, part.task, part.condition, part.trials[keep])
        value, base = scored[score].to_numpy()[keep], intact[score].to_numpy()[keep]
        effect = self._effect(kept, value - base, score)
        self._add(arm, kept, score, value, base, effect, held_out)

    def _main_score(self, part: Part) -> str:
        return "exact" if part.role == "bystander" else self.finding["secondary"]["score"]

    def _effect(self, part: Part, differences: np.ndarray, score: str) -> Effect:
        resampler = self._resampler(part)
        return resampler.effect(differences, self._level, is_rate=score != LOGITS)

    def _resampler(self, part: Part) -> Resampler:
        key = part.task, tuple(part.trials["trial"])
        if key not in self._resamplers:
            carriers = carrier_columns(part.trials)
            self._resamplers[key] = Resampler(carriers, self.options.bootstrap, self.seed)
        return self._resamplers[key]

    def _add(
        self,
        arm: Arm,
        part: Part,
        score: str,
        value: np.ndarray,
        intact: np.ndarray,
        effect: Effect | None,
        held_out: str = "all",
    ) -> None:
        carriers = carrier_columns(part.trials)
        self._rows.append(
            {
                **self.finding_columns,
                **arm.describe(),
                "task": part.task,
                "condition": part.condition,
                "trial_role": part.role,
                "held_out": held_out,
                "score": score,
                "n": len(value),
                "n_carriers": min(carriers[name].nunique() for name in carriers),
                "value": float(value.mean()),
                "intact": float(intact.mean()),
                "effect": float((value - intact).mean()),
                "low": np.nan if effect is None else effect.low,
                "high": np.nan if effect is None else effect.high,
                "carrier_bound": np.nan if effect is None else effect.carrier_bound,
            }
        )

    def _row_effect(self, table: pd.DataFrame, arm: Arm, part: Part, score: str) -> Effect:
        row = _row(table, arm, part, score)
        bounds = float(row["effect"]), float(row["low"]), float(row["high"])
        return Effect(*bounds, int(row["n"]), int(row["n_carriers"]), float(row["carrier_bound"]))

    def _row_value(self, table: pd.DataFrame, arm: Arm, part: Part, score: str) -> float:
        return float(_row(table, arm, part, score)["value"])

    def _transcripts(
        self, parts: Sequence[Part], responses: dict[int, tuple[pd.Series, pd.Series]]
    ) -> pd.DataFrame:
        """Paired responses: half to target trials, half to bystanders of the same task."""
        rng = np.random.default_rng([self.seed, 9])
        shams = [arm for arm in sham_arms(self.finding, self.subject.anatomy) if arm.primary]
        sham = shams[rng.integers(len(shams))]
        same = [i for i, p in enumerate(parts) if p.role == "bystander" and p.task == parts[0].task]
        frames = []
        for number, count in [(0, TRANSCRIPTS // 2), *((i, TRANSCRIPTS // 2) for i in same)]:
            trials = parts[number].trials
            picks = rng.choice(len(trials), size=min(count, len(trials)), replace=False)
            chosen = trials.iloc[picks].reset_index(drop=True)
            intact, finding = (column.iloc[picks].to_numpy() for column in responses[number])
            (shammed,) = self.bench.run([sham], chosen)
            columns = chosen[["trial", "condition", "prompt", "fact", "reference"]]
            frames.append(columns.assign(intact=intact, finding=finding, sham=shammed["response"]))
        target, *bystanders = frames
        rest = (
            pd.concat(bystanders).sample(frac=1, random_state=self.seed)
            if bystanders
            else target[:0]
        )
        table = _interleave(target, rest)[:TRANSCRIPTS]
        return table.assign(**self.finding_columns, sham_draw=sham.draw)

    @property
    def finding_columns(self) -> dict[str, str]:
        """Columns that say which finding a row belongs to."""
        named = {name: self.finding[name] for name in ("contrast", "phase", "kind", "method")}
        return {"subject": self.subject.name, **named}


def _row(table: pd.DataFrame, arm: Arm, part: Part, score: str) -> pd.Series:
    keep = (table["arm"] == arm.name) & (table["mode"] == arm.mode) & (table["dose"] == arm.dose)
    keep &= (table["trial_role"] == part.role) & (table["score"] == score)
    return table[keep & (table["held_out"] == "all")].iloc[0]


def _different(arms: Sequence[Arm]) -> int:
    return len({frozenset(arm.plan.units) for arm in arms})


def _decrease(effect: Effect) -> Effect:
    return replace(effect, mean=-effect.mean, low=-effect.high, high=-effect.low)


def _rows_of(part: Part, rows: np.ndarray) -> Part:
    return replace(part, trials=part.trials.iloc[rows].reset_index(drop=True))


def _interleave(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Rows of both in turn, so that any number of leading rows shows both."""
    first = first.assign(_turn=np.arange(len(first)) * 2)
    second = second.assign(_turn=np.arange(len(second)) * 2 + 1)
    joined = pd.concat([first, second]).sort_values("_turn", kind="stable")
    return joined.drop(columns="_turn").reset_index(drop=True)
