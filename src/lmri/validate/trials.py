"""Scores of every trial: what subjects are compared by, and claims are read off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from lmri.validate.arms import Arm, Part

TRIAL_SCORES = (
    *("refusal_onset", "onset_margin", "refusal_exact", "fact_told", "exact", "coherent"),
    "ended",
)
"""Scores of a response, and whether it ended before the limit."""


class TrialScores:
    """Collects scores of the intact subject, the finding's arms and the positive control.

    Parameters
    ----------
    more : iterable of str
        Names of scores that decide, beside :data:`TRIAL_SCORES`.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._names = [*TRIAL_SCORES, *more]
        self._frames: list[pd.DataFrame] = []
        self._scores: dict[tuple[str, str, str, str], pd.DataFrame] = {}

    def add(self, arm: Arm, part: Part, scored: pd.DataFrame) -> None:
        """Take the scores of one arm on one part.

        Parameters
        ----------
        arm : Arm
            Intact, of the finding, or the positive control.
        part : Part
            The trials.
        scored : DataFrame
            Their scores, one row a trial.
        """
        frame = scored[self._names].astype(np.float64).reset_index(drop=True)
        if arm.primary or arm.name != "finding":
            self._scores[part.role, part.task, part.condition, arm.name] = frame
        names = {"arm": arm.name, "mode": arm.mode, "dose": arm.dose, "primary": arm.primary}
        places = {"task": part.task, "condition": part.condition, "trial_role": part.role}
        columns = {**names, **places, "trial": part.trials["trial"].to_numpy()}
        self._frames.append(frame.assign(**columns)[[*columns, *self._names]])

    def of(self, part: Part, score: str, arm: str) -> np.ndarray:
        """Scores of the trials of a part.

        Parameters
        ----------
        part : Part
            One that was run.
        score : str
            One of :data:`TRIAL_SCORES`, or of those that decide.
        arm : str
            ``intact``, ``finding`` (at the primary endpoint) or ``positive_control``.

        Returns
        -------
        ndarray of shape (n_trials,), float64
            The scores.
        """
        return self._scores[part.role, part.task, part.condition, arm][score].to_numpy()

    def table(self, finding: Mapping[str, str]) -> pd.DataFrame:
        """All scores, with columns that say of which finding.

        Parameters
        ----------
        finding : mapping of str to str
            Those columns.

        Returns
        -------
        DataFrame
            Rows of ``trials.parquet``.
        """
        if not self._frames:
            return pd.DataFrame()
        table = pd.concat(self._frames, ignore_index=True)
        return pd.concat([pd.DataFrame(dict(finding), index=table.index), table], axis=1)
