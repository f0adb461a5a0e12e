"""Rows of ``arms.parquet`` that belong together: one place for every selection."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.report import words
from lmri.report.kinds import KINDS, Noun

DIRECTIONS = ("positive_control", "random_direction")


@dataclass(frozen=True)
class Bystander:
    """A behaviour that must stay: where it is found in the arms, and its name."""

    task: str
    condition: str
    score: str

    @property
    def name(self) -> str:
        """Name for people."""
        return words.condition_name(self.task, self.condition)


@dataclass(frozen=True)
class Evidence:
    """The arms of one finding, with its primary endpoint.

    Attributes
    ----------
    arms : DataFrame
        Rows of one subject, contrast, phase and map.
    endpoint : dict
        ``primary_endpoint`` of the finding.
    secondary : dict
        ``secondary`` of the finding.
    noun : Noun
        Words for its units.
    """

    arms: pd.DataFrame
    endpoint: dict
    secondary: dict
    noun: Noun = KINDS["expert"]

    @property
    def doses(self) -> list[int]:
        """Numbers of units switched off, ascending."""
        return sorted({*self.secondary.get("doses", []), self.endpoint["dose"]})

    @property
    def sign(self) -> int:
        """Sign that turns value - intact into the effect that was predicted."""
        return 1 if self.endpoint.get("direction") == "increase" else -1

    @property
    def effect_label(self) -> str:
        """Name of the effect."""
        word = "increase" if self.sign == 1 else "decrease"
        return f"{word} of the {words.score_name(self.endpoint['score'])}"

    @property
    def bystanders(self) -> list[Bystander]:
        """Behaviours that must stay, in the order of the finding."""
        return [
            Bystander(entry["task"], entry.get("condition") or "all", entry.get("score") or "exact")
            for entry in self.endpoint.get("bystanders", [])
        ]

    def target(self, score: str | None = None) -> pd.DataFrame:
        """Rows on the target trials with one score (the primary one when None)."""
        rows = self.arms[
            (self.arms["trial_role"] == "target")
            & (self.arms["held_out"] == "all")
            & (self.arms["score"] == (score or self.endpoint["score"]))
        ]
        # Several target conditions are also pooled: the pooled row is the endpoint.
        pooled = rows[rows["condition"] == "all"]
        return rows if pooled.empty else pooled

    def bystander(self, bystander: Bystander, score: str | None = None) -> pd.DataFrame:
        """Rows on the trials of one bystander with one score (its own when None)."""
        return self.arms[
            (self.arms["trial_role"] == "bystander")
            & (self.arms["held_out"] == "all")
            & (self.arms["task"] == bystander.task)
            & (self.arms["condition"] == bystander.condition)
            & (self.arms["score"] == (score or bystander.score))
        ]

    def in_mode(self, rows: pd.DataFrame, mode: str | None = None) -> pd.DataFrame:
        """Those of some rows that were run in one mode (the primary one when None)."""
        return rows[rows["mode"] == (mode or self.endpoint["mode"])]

    def at_endpoint(self, rows: pd.DataFrame, arm: str) -> pd.DataFrame:
        """Those of some rows that belong to an arm at the primary mode and dose."""
        if arm in DIRECTIONS:
            return rows[rows["arm"] == arm]
        rows = self.in_mode(rows)
        return rows[(rows["arm"] == arm) & (rows["dose"] == self.endpoint["dose"])]

    def shams_by_own_dose(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Give rows with sham maps at the dose they were run at: at the endpoint, their own.

        Arms of the endpoint are named by its dose; that of a sham map was chosen for it as the
        finding's was.
        """
        shams = self.at_endpoint(rows, "sham")
        if shams.empty:
            return rows
        doses = np.array(self.doses)
        # A map that selects fewer units than its dose stands at the dose all the same.
        own = np.searchsorted(doses, self.sizes(shams)).clip(max=len(doses) - 1)
        moved = shams.assign(dose=doses[own])
        others = rows.drop(shams.index)
        run = ["arm", "mode", "dose", "draw", "task", "condition", "score"]
        # The first draws of that dose are the same maps once more.
        return pd.concat([moved, others]).drop_duplicates(run)

    def sizes(self, rows: pd.DataFrame) -> np.ndarray:
        """Count the units that each of some rows changed."""
        return np.array([len(json.loads(units)) for units in rows["units"]], dtype=int)

    def effects(self, rows: pd.DataFrame) -> pd.Series:
        """Effects of some rows in the predicted direction."""
        return self.sign * (rows["value"].astype(float) - rows["intact"].astype(float))

    def effect(self, rows: pd.DataFrame) -> tuple[float, float, float]:
        """Effect of the first of some rows with its interval, in the predicted direction."""
        if rows.empty:
            return (float("nan"),) * 3
        row = rows.iloc[0]
        ends = sorted((self.sign * float(row["low"]), self.sign * float(row["high"])))
        return float(self.effects(rows).iloc[0]), ends[0], ends[1]
