"""Arms: one intervention on one set of trials, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lmri.anatomy import Subject, encode, prompt_room, render_trials
from lmri.intervene import (
    INTACT,
    Plan,
    Responses,
    exact,
    most_new_tokens,
    onsets,
    respond,
    same_plans,
)
from lmri.score import (
    Scorer,
    coherent,
    onset_tokens,
    response_log_probability,
    score_responses,
)


@dataclass(frozen=True)
class Part:
    """Trials of one role: the target, a bystander, or a transfer.

    Attributes
    ----------
    role : str
        ``target``, ``bystander`` or ``transfer``.
    task, condition : str
        Where they are from; ``all`` when the conditions of a task are pooled.
    trials : DataFrame
        Evaluation trials, numbered from 0.
    """

    role: str
    task: str
    condition: str
    trials: pd.DataFrame


@dataclass(frozen=True)
class Arm:
    """An intervention.

    Attributes
    ----------
    name : str
        ``intact``, ``finding``, ``sham``, ``layer_matched``, ``load_matched``,
        ``massive_matched``, ``positive_control`` or ``random_direction``.
    mode : str
        Mode of the plan; ``none`` or ``ablate``.
    dose : int
        Units.
    draw : int
        Number of the control draw.
    plan : Plan
        The plan; the identity for directions, which are set up around the run.
    primary : bool
        Whether it belongs to the primary endpoint.
    """

    name: str
    mode: str
    dose: int = 0
    draw: int = 0
    plan: Plan = field(default=INTACT)
    primary: bool = False

    def describe(self) -> dict:
        """Columns of ``arms.parquet`` that name the arm."""
        return {
            "arm": self.name,
            "mode": self.mode,
            "dose": self.dose,
            "draw": self.draw,
            "primary": self.primary,
            "units": json.dumps([list(unit) for unit in self.plan.units]),
        }


Keep = Callable[[Sequence[Arm], list[list[int]], Responses], None]


class Bench:
    """Runs arms on parts of one subject.

    Parameters
    ----------
    subject : Subject
        The loaded subject.
    rows : int
        Trials x arms per forward pass, at most.
    max_new_tokens : int
        Limit of the responses.
    limits : dict
        Limits of coherence.
    scorers : mapping of str to Scorer, optional
        Scorers that decide beside the scores of every response.
    """

    def __init__(
        self,
        subject: Subject,
        rows: int,
        max_new_tokens: int,
        limits: dict[str, float],
        scorers: Mapping[str, Scorer] | None = None,
    ) -> None:
        self._subject = subject
        self._rows = rows
        self._max_new_tokens = max_new_tokens
        self._limits = limits
        self._scorers = dict(scorers or {})

    @property
    def identity(self) -> tuple[int, str, dict[str, str]]:
        """What scores depend on besides subject, trial and plan.

        Room for responses, a dictionary, and versions of what scorers go by.
        """
        dictionary = self._subject.dictionary
        versions = {name: own.version for name, own in self._scorers.items()}
        return self._max_new_tokens, "" if dictionary is None else dictionary.sha256, versions

    def run(
        self, arms: Sequence[Arm], trials: pd.DataFrame, keep: Keep | None = None
    ) -> list[pd.DataFrame]:
        """Free responses of every arm to the same trials.

        Parameters
        ----------
        arms : sequence of Arm
            The arms.
        trials : DataFrame
            The trials.
        keep : callable, optional
            Gets arms, the prompts of their rows, and their responses; of arms that do the same the
            first.

        Returns
        -------
        list of DataFrame
            For every arm the scores of the trials, ``coherent`` among them.
        """
        subject = self._subject
        like = same_plans([arm.plan for arm in arms])
        own = np.unique(like)
        results = []
        for chunk in self._chunks([arms[i] for i in own], len(trials)):
            repeated = pd.concat([trials] * len(chunk), ignore_index=True)
            prompts, responses = self._respond(chunk, trials, repeated, self._max_new_tokens)
            if keep is not None:
                keep(chunk, prompts, responses)
            scores = score_responses(
                subject.tokenizer,
                repeated,
                responses.tokens,
                responses.ended,
                responses.onset_margin,
                self._scorers,
            )
            likely = self._log_probability(prompts, responses)
            scores["coherent"] = coherent(likely, responses.tokens, responses.ended, self._limits)
            results += _per_arm(scores, len(chunk))
        place = {int(arm): number for number, arm in enumerate(own)}
        return [results[place[int(arm)]].copy() for arm in like]

    def _log_probability(self, prompts: list[list[int]], responses: Responses) -> np.ndarray:
        """Of every response under the intact subject; one that several arms give is read once."""
        texts = zip(prompts, responses.tokens, strict=True)
        keys = [(tuple(prompt), tokens.tobytes()) for prompt, tokens in texts]
        rows = list({key: row for row, key in reversed(list(enumerate(keys)))}.values())
        likely = response_log_probability(
            self._subject,
            [prompts[row] for row in rows],
            [responses.tokens[row] for row in rows],
            self._rows,
        )
        found = dict(zip([keys[row] for row in rows], likely, strict=True))
        return np.array([found[key] for key in keys])

    def quick(self, arms: Sequence[Arm], trials: pd.DataFrame, score: str) -> list[np.ndarray]:
        """One score of every arm, in the fewest passes that give it exactly.

        An onset needs one pass over the prompt and an exact response one pass over prompt and
        reference; any other score needs the free response.

        Parameters
        ----------
        arms : sequence of Arm
            The arms.
        trials : DataFrame
            The trials.
        score : str
            The score.

        Returns
        -------
        list of ndarray of shape (n_trials,), float64
            The scores of every arm.
        """
        if score == "exact":
            return self._exact(arms, trials)
        if score in {"refusal_onset", "onset_margin"}:
            return [scores[score].to_numpy() for scores in self._onset(arms, trials)]
        return [scores[score].to_numpy() for scores in self.run(arms, trials)]

    def _onset(self, arms: Sequence[Arm], trials: pd.DataFrame) -> list[pd.DataFrame]:
        subject = self._subject
        watched = onset_tokens(subject.tokenizer, trials)
        plans = [arm.plan for arm in arms]
        first, margins = onsets(subject, self._prompts(trials), watched, plans, self._rows)
        onset = (first == np.array(watched)).astype(np.float64)
        pairs = zip(onset, margins.astype(np.float64), strict=True)
        return [pd.DataFrame({"refusal_onset": own, "onset_margin": m}) for own, m in pairs]

    def _exact(self, arms: Sequence[Arm], trials: pd.DataFrame) -> list[np.ndarray]:
        tokenizer, references = self._subject.tokenizer, []
        for row in trials.itertuples():
            tokens = encode(tokenizer, row.reference, f"reference of {row.trial!r}")
            references.append([*tokens, tokenizer.eos_token_id])
        plans = [arm.plan for arm in arms]
        said = exact(self._subject, self._prompts(trials), references, plans, self._rows)
        return list(said.astype(np.float64))

    def _chunks(self, arms: Sequence[Arm], n_trials: int) -> list[Sequence[Arm]]:
        # Bounded by rows, so that memory does not grow with the number of draws.
        size = max(1, 4 * self._rows // max(1, n_trials))
        return [arms[start : start + size] for start in range(0, len(arms), size)]

    def _respond(
        self,
        arms: Sequence[Arm],
        trials: pd.DataFrame,
        repeated: pd.DataFrame,
        max_new_tokens: int,
    ) -> tuple[list[list[int]], Responses]:
        prompts = self._prompts(trials) * len(arms)
        return prompts, respond(
            self._subject,
            prompts,
            onset_tokens(self._subject.tokenizer, repeated),
            plans=[arm.plan for arm in arms],
            plan_of_row=np.repeat(np.arange(len(arms)), len(trials)),
            max_new_tokens=max_new_tokens,
            rows=self._rows,
        )

    def _prompts(self, trials: pd.DataFrame) -> list[list[int]]:
        # Room for a whole response, so that an onset is asked of the prompts that responses get.
        longest = most_new_tokens(self._subject, self._max_new_tokens)
        room = prompt_room(self._subject.model.config, longest)
        return [prompt.ids for prompt in render_trials(self._subject.tokenizer, trials, room)]


def _per_arm(scores: pd.DataFrame, arms: int) -> list[pd.DataFrame]:
    size = len(scores) // arms
    return [scores.iloc[i * size : (i + 1) * size].reset_index(drop=True) for i in range(arms)]
