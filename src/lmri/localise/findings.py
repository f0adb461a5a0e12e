"""Findings: the units a map selects, before anything is said of a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from lmri.config import ContrastOptions, EvidenceOptions
from lmri.intervene import KINDS, Unit
from lmri.localise.units import Units

EMPTY = "no unit survives the max-statistic: nothing to validate"

NO_SHAMS_ASKED = "a causal map is re-run for a hypothesis with 'localise.causal.shams' only"

OTHER_PHASE = "an exploratory map of another phase is looked at and not re-run"

REASONS = {
    ("hypothesis", False): EMPTY,
    ("exploratory", False): EMPTY,
    ("negative_control", False): "the map is empty, as it should be: nothing to validate",
    ("hypothesis", True): "not yet calibrated",
    ("exploratory", True): "an exploratory map decides nothing and is not validated",
    ("negative_control", True): "a false positive: nothing is there, yet the map is not empty",
}
"""Why a finding is not tested, by role and by whether its map selects anything."""

NO_UNITS = "the subject has no {}, so there is nothing to map"

ALWAYS_RUN = "the experts of the subject cannot be switched off: all of them run on every token"


class Selection(Protocol):
    """What a map selects, whatever it was made from."""

    @property
    def kind(self) -> str:
        """Kind of the units."""

    @property
    def method(self) -> str:
        """Name of the map without the kind."""

    @property
    def units(self) -> Units:
        """All units."""

    @property
    def strength(self) -> np.ndarray:
        """Scores by which units are ranked."""

    @property
    def load(self) -> np.ndarray:
        """How active each unit is, to match controls."""

    def selected(self, alpha: float) -> list[Unit]:
        """Units that survive the max-statistic, the best first."""

    def described(self, units: Sequence[Unit]) -> list[dict]:
        """Coordinates of units and their numbers, as a finding lists them."""

    def shams(
        self,
        trials: pd.DataFrame,
        condition: str | None,
        *,
        draws: int,
        most: int,
        seed: int,
        usable: Callable[[list[Unit]], bool],
    ) -> list[list[Unit]]:
        """Re-run the selection where nothing is, see :func:`lmri.localise.shams.sham_maps`."""


def unmapped_finding(
    subject: str,
    contrast: ContrastOptions,
    phase: str,
    role: str,
    kind: str,
    method: str,
    provenance: dict,
) -> dict:
    """Describe that a subject without units of a kind has no map of them.

    Parameters
    ----------
    subject : str
        Name of the subject.
    contrast : ContrastOptions
        The contrast.
    phase, role : str
        Phase of the map; hypothesis, exploratory or negative control.
    kind, method : str
        Kind of the units and name of the map.
    provenance : dict
        Where it comes from.

    Returns
    -------
    dict
        A finding with status ``not_testable`` and no units, to which no map belongs.
    """
    return {
        "stage": "localise",
        "subject": subject,
        "task": contrast.task,
        "contrast": contrast.name,
        "phase": phase,
        "kind": kind,
        "method": method,
        "role": role,
        "status": "not_testable",
        "reason": NO_UNITS.format(KINDS[kind].plural),
        "units": [],
        "provenance": provenance,
    }


def base_finding(
    subject: str,
    contrast: ContrastOptions,
    phase: str,
    role: str,
    result: Selection,
    evidence: EvidenceOptions,
    provenance: dict,
) -> dict:
    """Describe what a map selects; empty when no unit survives the max-statistic.

    Parameters
    ----------
    subject : str
        Name of the subject.
    contrast : ContrastOptions
        The contrast.
    phase, role : str
        Phase of the map; hypothesis, exploratory or negative control.
    result : Selection
        The map.
    evidence : EvidenceOptions
        Level and doses.
    provenance : dict
        Where it comes from.

    Returns
    -------
    dict
        The finding without an endpoint; status ``null`` or ``not_testable``.
    """
    units = result.selected(evidence.alpha)
    units = units[: max(evidence.doses_of(result.kind))]
    found = bool(units)
    return {
        **unmapped_finding(subject, contrast, phase, role, result.kind, result.method, provenance),
        "status": "not_testable" if found else "null",
        "reason": REASONS[role, found],
        "units": result.described(units),
    }
