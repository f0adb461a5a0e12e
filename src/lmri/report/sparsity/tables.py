"""Tables of sparse runs: what they must hold, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from lmri.config import StudyConfig
from lmri.report.reader import Reader
from lmri.store import read_table

QUALITY = (
    *("subject", "plan", "policy", "asked", "task", "sparsity", "n", "n_carriers"),
    *("bytes_avoided", "flops_avoided"),
    *("perplexity_dense", "perplexity_ratio", "ratio_low", "ratio_high", "divergence"),
    *("exact_dense", "exact", "exact_change", "exact_low", "exact_high"),
)
ACHIEVED = (
    *("subject", "plan", "policy", "asked", "task", "layer", "rule", "site", "denominator"),
    *("calibrated", "achieved", "parameters", "skipped"),
)
SPEED = (
    *("subject", "plan", "policy", "asked", "backend", "threads", "sparsity", "ideal"),
    *("phase", "arm", "round", "tokens", "seconds"),
)
LIMITS = (
    *("subject", "policy", "loss", "plan", "sparsity", "ratio", "ratio_high", "n", "worst_task"),
    *("next_sparsity", "next_ratio"),
)

SURVIVAL = (
    *("subject", "contrast", "phase", "kind", "method", "units", "correlation", "selected"),
    *("selected_again", "shared", "dice", "chance", "strongest", "strongest_rank"),
)

TABLES = {
    "quality": ("runs/quality", QUALITY),
    "achieved": ("runs/achieved", ACHIEVED),
    "speed": ("runs/speed", SPEED),
    "limits": ("runs/limits", LIMITS),
}
"""Tables of every subject, below its folder: the file without its suffix, and its columns."""

ALL = "all"
"""In the place of a task: over the trials of all tasks."""


def _empty(columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(columns))


@dataclass(frozen=True)
class Sparse:
    """Tables over all subjects; those that could not be read are empty.

    Attributes
    ----------
    quality, achieved, speed, limits, survival : DataFrame
        As in ``docs/artefacts.md``.
    """

    quality: pd.DataFrame = field(default_factory=lambda: _empty(QUALITY))
    achieved: pd.DataFrame = field(default_factory=lambda: _empty(ACHIEVED))
    speed: pd.DataFrame = field(default_factory=lambda: _empty(SPEED))
    limits: pd.DataFrame = field(default_factory=lambda: _empty(LIMITS))
    survival: pd.DataFrame = field(default_factory=lambda: _empty(SURVIVAL))

    @property
    def overall(self) -> pd.DataFrame:
        """Quality over all tasks, by subject, policy and sparsity."""
        rows = self.quality[self.quality["task"] == ALL]
        # Subjects stay in the order of the study.
        order = rows["subject"].map({name: i for i, name in enumerate(rows["subject"].unique())})
        return (
            rows.assign(_order=order)
            .sort_values(["_order", "policy", "asked"], kind="stable")
            .drop(columns="_order")
        )


def read_sparse(reader: Reader, config: StudyConfig) -> Sparse:
    """Read the tables of all subjects; those of a study without sparse runs are empty.

    Parameters
    ----------
    reader : Reader
        Reads below the study, and remembers what could not be read.
    config : StudyConfig
        Which subjects, and whether they are run sparsely.

    Returns
    -------
    Sparse
        The tables.
    """
    wanted = dict(TABLES) if config.sparse.policies else {}
    if config.tested_tasks:
        wanted["survival"] = ("survival", SURVIVAL)
    read = {}
    for name, (file, columns) in wanted.items():
        tables = [_read(reader, subject, file, columns) for subject in config.subjects]
        # One that could not be read has no types, and would take those of the others away.
        found = [table for table in tables if len(table)]
        read[name] = pd.concat(found, ignore_index=True) if found else _empty(columns)
    return Sparse(**read)


def _read(reader: Reader, subject: str, file: str, columns: tuple[str, ...]) -> pd.DataFrame:
    return reader.read(
        subject,
        f"sparse/{subject}/{file}.parquet",
        lambda path: read_table(path, columns),
        _empty(columns),
    )
