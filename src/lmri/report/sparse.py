"""Tables of sparse runs: what they must hold, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

QUALITY = (
    *("subject", "plan", "policy", "asked", "task", "sparsity", "n", "n_carriers"),
    *("perplexity_dense", "perplexity_ratio", "ratio_low", "ratio_high", "divergence"),
    *("exact_dense", "exact", "exact_change", "exact_low", "exact_high"),
)
ACHIEVED = (
    *("subject", "plan", "policy", "asked", "task", "layer", "rule", "site", "denominator"),
    *("calibrated", "achieved", "parameters", "skipped"),
)
SPEED = (
    *("subject", "plan", "policy", "asked", "backend", "threads", "ideal"),
    *("phase", "arm", "round", "tokens", "seconds"),
)
LIMITS = ("subject", "policy", "loss", "plan", "sparsity", "ratio", "next_sparsity", "next_ratio")

TABLES = {"quality": QUALITY, "achieved": ACHIEVED, "speed": SPEED, "limits": LIMITS}
"""Columns of the tables of every subject."""

ALL = "all"
"""In the place of a task: over the trials of all tasks."""


def _empty(columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(columns))


@dataclass(frozen=True)
class Sparse:
    """Tables over all subjects; those that could not be read are empty.

    Attributes
    ----------
    quality, achieved, speed, limits : DataFrame
        As in ``docs/artefacts.md``.
    """

    quality: pd.DataFrame = field(default_factory=lambda: _empty(QUALITY))
    achieved: pd.DataFrame = field(default_factory=lambda: _empty(ACHIEVED))
    speed: pd.DataFrame = field(default_factory=lambda: _empty(SPEED))
    limits: pd.DataFrame = field(default_factory=lambda: _empty(LIMITS))

    @property
    def overall(self) -> pd.DataFrame:
        """Quality over all tasks, by subject, policy and sparsity."""
        rows = self.quality[self.quality["task"] == ALL]
        return rows.sort_values(["subject", "policy", "asked"], kind="stable")
