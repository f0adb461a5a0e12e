"""What a subject answers to trials under plans: how likely the right answer is, and if it comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lmri.anatomy import encode
from lmri.config import ConditionOptions
from lmri.experiment.measuring import change_of, prompts_of
from lmri.experiment.outcome import Ground
from lmri.intervene import INTACT, AnyPlan, answer_scores
from lmri.score import joint_carriers
from lmri.validate.change import Carriers, Change

PLANS_AT_ONCE = 64
"""Plans that are held as arrays at once, so that memory does not grow with the draws."""


@dataclass(frozen=True)
class Answers:
    """What comes of plans on trials.

    Attributes
    ----------
    probability, exact : ndarray of shape (n_plans, n_trials), float64
        Probability of the whole right answer, its end included, and 1 where it is given greedily.
    """

    probability: np.ndarray
    exact: np.ndarray


@dataclass
class Asked:
    """Trials that a subject is asked under plans.

    Attributes
    ----------
    ground : Ground
        The subject and the limits of a run.
    trials : DataFrame
        Stimuli, numbered from 0, of any tasks.
    """

    ground: Ground
    trials: pd.DataFrame

    @cached_property
    def prompts(self) -> list[list[int]]:
        """Token ids of every prompt."""
        return prompts_of(self.ground, self.trials)

    @cached_property
    def references(self) -> list[list[int]]:
        """Token ids of every right answer, with the end token."""
        tokenizer = self.ground.subject.tokenizer
        return [
            [*encode(tokenizer, text, f"reference of {trial!r}"), tokenizer.eos_token_id]
            for trial, text in zip(self.trials["trial"], self.trials["reference"], strict=True)
        ]

    @cached_property
    def intact(self) -> Answers:
        """What the intact subject answers; of one plan."""
        return self.under([INTACT])

    @cached_property
    def carriers(self) -> Carriers:
        """Bootstrap over what carries the trials; missing where a task has none."""
        return self._carriers(self.trials)

    def under(self, plans: Sequence[AnyPlan], rows: np.ndarray | None = None) -> Answers:
        """Ask trials under plans.

        Parameters
        ----------
        plans : sequence of Plan or Combined
            The plans.
        rows : ndarray of shape (n,), int64, optional
            Which trials; by default all.

        Returns
        -------
        Answers
            One row a plan.
        """
        rows = np.arange(len(self.trials)) if rows is None else rows
        prompts = [self.prompts[row] for row in rows]
        references = [self.references[row] for row in rows]
        likely, said = np.empty((2, len(plans), len(rows)))
        for start in range(0, len(plans), PLANS_AT_ONCE):
            own = slice(start, start + PLANS_AT_ONCE)
            likely[own], said[own] = answer_scores(
                self.ground.subject, prompts, references, plans[own], self.ground.rows
            )
        return Answers(np.exp(likely), said)

    def change(self, differences: np.ndarray, rows: np.ndarray | None = None) -> Change:
        """Differences of a probability on all trials or on some, with their bootstrap.

        Parameters
        ----------
        differences : ndarray of shape (n_trials or n_rows,)
            In the direction that is claimed.
        rows : ndarray of shape (n_rows,), int64, optional
            Which trials; by default all.

        Returns
        -------
        Change
            At the level of the evidence.
        """
        own = self.carriers if rows is None else self._carriers(self.trials.iloc[rows])
        return change_of(self.ground, own, differences, is_rate=True)

    def _carriers(self, trials: pd.DataFrame) -> Carriers:
        return Carriers(joint_carriers(trials), self.ground.bootstrap, self.ground.seed)


def name_of(own: ConditionOptions) -> str:
    """Name a condition, or all of a task.

    Parameters
    ----------
    own : ConditionOptions
        The task and its condition.

    Returns
    -------
    str
        As in tables and notes.
    """
    return own.task if own.condition is None else f"{own.task}, {own.condition}"
