"""What is lost of behaviours: log-probability of texts under plans, and one loss less another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.experiment.measuring import carriers_of, change_of
from lmri.experiment.outcome import Ground
from lmri.intervene import INTACT, Plan, continuation_log_probabilities
from lmri.score import Effect
from lmri.validate.change import Change


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
