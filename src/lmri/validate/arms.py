"""Arms: one intervention on one set of trials, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lmri.anatomy import Subject, encode, prompt_room, render_trials
from lmri.intervene import INTACT, Plan, Responses, most_new_tokens, respond, says_exactly
from lmri.score import coherent, onset_tokens, response_log_probability, score_responses


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
    """

    def __init__(
        self, subject: Subject, rows: int, max_new_tokens: int, limits: dict[str, float]
    ) -> None:
        self._subject = subject
        self._rows = rows
        self._max_new_tokens = max_new_tokens
        self._limits = limits

    def run(self, arms: Sequence[Arm], trials: pd.DataFrame) -> list[pd.DataFrame]:
        """Free responses of every arm to the same trials.

        Parameters
        ----------
        arms : sequence of Arm
            The arms.
        trials : DataFrame
            The trials.

        Returns
        -------
        list of DataFrame
            For every arm the scores of the trials, ``coherent`` among them.
        """
        subject = self._subject
        results = []
        for chunk in self._chunks(arms, len(trials)):
            repeated = pd.concat([trials] * len(chunk), ignore_index=True)
            prompts, responses = self._respond(chunk, trials, repeated, self._max_new_tokens)
            scores = score_responses(
                subject.tokenizer,
                repeated,
                responses.tokens,
                responses.ended,
                responses.onset_margin,
            )
            likely = response_log_probability(subject, prompts, responses.tokens, self._rows)
            scores["coherent"] = coherent(likely, responses.tokens, responses.ended, self._limits)
            results += _per_arm(scores, len(chunk))
        return results

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
        results = []
        for chunk in self._chunks(arms, len(trials)):
            repeated = pd.concat([trials] * len(chunk), ignore_index=True)
            _, responses = self._respond(chunk, trials, repeated, 1)
            first = np.array([row[0] for row in responses.tokens])
            watched = np.array(onset_tokens(self._subject.tokenizer, repeated))
            onset = (first == watched).astype(np.float64)
            margin = responses.onset_margin.astype(np.float64)
            scores = pd.DataFrame({"refusal_onset": onset, "onset_margin": margin})
            results += _per_arm(scores, len(chunk))
        return results

    def _exact(self, arms: Sequence[Arm], trials: pd.DataFrame) -> list[np.ndarray]:
        tokenizer = self._subject.tokenizer
        prompts, references = self._prompts(trials), []
        for row in trials.itertuples():
            tokens = encode(tokenizer, row.reference, f"reference of {row.trial!r}")
            references.append([*tokens, tokenizer.eos_token_id])
        results = []
        for chunk in self._chunks(arms, len(trials)):
            exact = says_exactly(
                self._subject,
                prompts * len(chunk),
                references * len(chunk),
                plans=[arm.plan for arm in chunk],
                plan_of_row=np.repeat(np.arange(len(chunk)), len(trials)),
                rows=self._rows,
            )
            results += list(exact.astype(np.float64).reshape(len(chunk), len(trials)))
        return results

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
