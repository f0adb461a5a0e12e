"""Control draws that were scored before, by jobs of their own.

A score of a trial depends on the subject, the trial and the plan alone: it is kept under a hash of
what was asked. What is not there is run, so that verdicts are the same however much is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.errors import StoreError
from lmri.intervene import AnyPlan, plan_record
from lmri.store import read_table
from lmri.validate.arms import Arm, Bench

COLUMNS = ("key", "row", "value")
IDENTITY = ("trial", "prompt", "messages", "reference", "refusal")
"""Columns that say what a trial asks and what is looked for in its response."""


class Drawn:
    """Scores of control draws by plan, trials and score.

    Parameters
    ----------
    scores : mapping of str to ndarray of shape (n_trials,)
        By :func:`score_key`.
    """

    def __init__(self, scores: Mapping[str, np.ndarray] | None = None) -> None:
        self._scores = dict(scores or {})

    def __len__(self) -> int:
        return len(self._scores)

    def run(
        self, bench: Bench, arms: Sequence[Arm], trials: pd.DataFrame, score: str
    ) -> list[np.ndarray]:
        """Score arms as :meth:`lmri.validate.arms.Bench.quick`; only those not known are run.

        Parameters
        ----------
        bench : Bench
            Runs arms.
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
        asked = asked_of(bench, trials, score)
        keys = [score_key(arm.plan, asked) for arm in arms] if self._scores else [""] * len(arms)
        missing = [arm for arm, key in zip(arms, keys, strict=True) if key not in self._scores]
        run = iter(bench.quick(missing, trials, score) if missing else [])
        return [self._scores[key] if key in self._scores else next(run) for key in keys]


def score_key(plan: AnyPlan, asked: str) -> str:
    """Name the scores of a plan on trials: a hash of both.

    Parameters
    ----------
    plan : Plan or Combined
        The plan; the order of its units counts.
    asked : str
        From :func:`asked_of`.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    text = json.dumps([asked, plan_record(plan)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def asked_of(bench: Bench, trials: pd.DataFrame, score: str) -> str:
    """Name what is asked of plans: a hash of trials and score.

    Parameters
    ----------
    bench : Bench
        Asks it.
    trials : DataFrame
        The trials.
    score : str
        The score.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    own = trials[[name for name in IDENTITY if name in trials.columns]]
    text = json.dumps([bench.identity, score, own.astype(str).to_dict("list")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_drawn(paths: Iterable[Path], subject: str) -> Drawn:
    """Read what jobs scored.

    Parameters
    ----------
    paths : iterable of Path
        Tables of :func:`score_draws`.
    subject : str
        Hash of the subject, which must be theirs.

    Returns
    -------
    Drawn
        The scores of all of them.

    Raises
    ------
    StoreError
        If a table is damaged or was made with another subject.
    """
    scores: dict[str, np.ndarray] = {}
    for path in paths:
        table = read_table(path, COLUMNS)
        other = json.loads(table.attrs["provenance"])["subject"]
        if other != subject:
            raise StoreError(
                f"{path}: the subject of the control draws must be the one that is validated "
                f"({str(subject)[:12]}). Got {str(other)[:12]}: delete the file and run again."
            )
        for key, own in table.groupby("key"):
            scores[str(key)] = own.sort_values("row")["value"].to_numpy()
    return Drawn(scores)
