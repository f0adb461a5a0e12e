"""The stage ``draws``: one share of the control draws of a subject's findings.

Every job loads the subject once and scores its share, trial by trial; validation reads all shares
(:mod:`lmri.validate.drawn`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.anatomy import load_subject
from lmri.config import LoadOptions, ScorersOptions, ValidateOptions
from lmri.intervene import plan_record
from lmri.score import deciding_scorers
from lmri.store import write_table
from lmri.validate.arms import Arm
from lmri.validate.drawn import COLUMNS, asked_of, score_key
from lmri.validate.given import check_scorers, fitted_subject, read_findings
from lmri.validate.rerun import Rerun


def score_draws(
    *,
    subject: str,
    model: Path,
    stimuli: Path,
    findings: Path,
    out: Path,
    shard: int,
    options: ValidateOptions,
    seed: int,
    provenance: dict,
    load: LoadOptions | None = None,
    scorers: ScorersOptions | None = None,
) -> None:
    """Score one share of the control draws of a subject's findings.

    Parameters
    ----------
    subject, model, stimuli, findings, options, seed, provenance, load, scorers
        As for :func:`lmri.validate.validate_subject`.
    out : Path
        Table to write: ``key``, ``row`` of the trial, ``value``.
    shard : int
        Which share, from 0; of ``options.shards``.

    Raises
    ------
    StoreError, ScoreError
        As :func:`lmri.validate.validate_subject`.
    """
    deciding = deciding_scorers(scorers or ScorersOptions())
    read = read_findings(findings, subject)
    check_scorers(read, deciding)
    loaded = load_subject(model, subject, load=load)
    tables = [pd.DataFrame({name: [] for name in COLUMNS})]
    for finding in read.values():
        if finding["status"] == "testable":
            own = fitted_subject(loaded, finding)
            again = Rerun(own, finding, stimuli, options, seed, scorers=deciding)
            tables += _scored(again, shard, options.shards)
    types = {"key": str, "row": np.int64, "value": np.float64}
    table = pd.concat(tables, ignore_index=True).astype(types)
    # A sham map of two doses, or of two findings, may be the same.
    table = table.drop_duplicates(["key", "row"], ignore_index=True)
    table.attrs["provenance"] = json.dumps(provenance)
    write_table(out, table)


def _scored(again: Rerun, shard: int, shards: int) -> Iterator[pd.DataFrame]:
    for part, arms, score in again.control_work():
        own, asked = _share(arms, shard, shards), asked_of(again.bench, part.trials, score)
        values = again.bench.quick(own, part.trials, score) if own else []
        for arm, value in zip(own, values, strict=True):
            key = score_key(arm.plan, asked)
            yield pd.DataFrame({"key": key, "row": np.arange(len(value)), "value": value})


def _share(arms: Sequence[Arm], shard: int, shards: int) -> list[Arm]:
    """Every so many-th of the different plans: as much of every dose in all shares."""
    different = {json.dumps(plan_record(arm.plan)): arm for arm in arms}
    return list(different.values())[shard::shards]
