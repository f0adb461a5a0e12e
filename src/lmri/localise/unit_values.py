"""Numbers that modes set units to or by, measured on prompts of the selection split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.anatomy import Subject
from lmri.config import ContrastOptions, EvidenceOptions
from lmri.intervene import (
    KINDS,
    Unit,
    Values,
    donor_activity,
    donors_of,
    mean_activity,
    means_of,
    preactivation_statistics,
)
from lmri.localise.endpoint import ROWS, trial_prompts

DONORS = 32
"""Tokens of other trials among which the mode ``resample`` draws."""

LEAST_DEVIATION = 1e-6
"""A neuron that does not vary is at least that wide for Neuron Adjust, so that it has a density."""


def switch_mode(kind: str, evidence: EvidenceOptions) -> str:
    """How units of a kind are switched off at the endpoint.

    Parameters
    ----------
    kind : str
        Kind of the units.
    evidence : EvidenceOptions
        With the modes.

    Returns
    -------
    str
        ``mode`` of the evidence for experts; its ``unit_mode`` for kinds that have it; else
        ``mean`` for dimensions and sites of the residual, which may be far from zero at every
        token, and ``zero`` for all others.
    """
    if evidence.unit_mode in KINDS[kind].modes and kind != "expert":
        return evidence.unit_mode
    own = {"expert": evidence.mode, "residual": "mean", "residual_site": "mean"}
    return own.get(kind, "zero")


@dataclass(frozen=True)
class UnitValues:
    """Numbers of all units of a kind, by mode.

    Attributes
    ----------
    mode : str
        The mode of the endpoint.
    means : dict of int to ndarray or None
        Means, see :func:`lmri.intervene.mean_activity`; None for experts.
    pick : callable or None
        Gives the numbers of units in the mode of the endpoint, where these are no means.
    """

    mode: str
    means: dict[int, np.ndarray] | None = None
    pick: Callable[[Sequence[Unit]], dict[Unit, list[float]]] | None = None

    def of(self, units: Sequence[Unit]) -> Values | None:
        """Numbers of units in the mode of the endpoint; None where it needs none."""
        if self.mode == "mean":
            return means_of(self.means, units)
        return None if self.pick is None else self.pick(units)

    def stored(self, units: Sequence[Unit]) -> dict[str, list]:
        """What a finding keeps of units: pairs of a unit and its numbers."""
        if self.means is None:
            return {}
        kept = {"means": means_of(self.means, units)}
        if self.pick is not None:
            kept["values"] = self.pick(units)
        return {
            name: [[list(unit), numbers] for unit, numbers in own.items()]
            for name, own in kept.items()
        }


def unit_values(
    subject: Subject,
    selection: pd.DataFrame,
    contrast: ContrastOptions,
    kind: str,
    evidence: EvidenceOptions,
    max_new_tokens: int,
    seed: int,
) -> UnitValues:
    """Measure what the modes of a finding need.

    Means and donors are of the controls: over trials of the target a mean would leave part of the
    behaviour in. Neuron Adjust maps the target's distribution to that of the controls.

    Parameters
    ----------
    subject : Subject
        The subject.
    selection : DataFrame
        Selection trials of the task.
    contrast : ContrastOptions
        Its targets and controls.
    kind : str
        Kind of the units.
    evidence : EvidenceOptions
        With the modes.
    max_new_tokens : int
        Limit of the responses.
    seed : int
        Seed of the donors.

    Returns
    -------
    UnitValues
        The numbers.
    """
    mode = switch_mode(kind, evidence)
    if kind == "expert":
        return UnitValues(mode)

    def prompts(conditions: Sequence[str]) -> list[list[int]]:
        trials = selection[selection["condition"].isin(conditions)].reset_index(drop=True)
        return trial_prompts(subject, trials, max_new_tokens)

    controls = prompts(contrast.controls)
    means = mean_activity(subject, controls, kind, ROWS)
    pick = None
    if mode == "resample":
        donors = donor_activity(subject, controls, kind, ROWS, DONORS, seed)

        def pick(units: Sequence[Unit]) -> dict[Unit, list[float]]:
            return donors_of(donors, units)

    elif mode == "gain":

        def pick(units: Sequence[Unit]) -> dict[Unit, list[float]]:
            return {unit: [evidence.gain] for unit in units}

    elif mode == "adjust":
        sides = [
            preactivation_statistics(subject, side, ROWS, kind)
            for side in (prompts(contrast.target), controls)
        ]

        def pick(units: Sequence[Unit]) -> dict[Unit, list[float]]:
            return {unit: _adjustment(sides, unit) for unit in units}

    return UnitValues(mode, means, pick)


def _adjustment(sides: Sequence[dict[int, np.ndarray]], unit: Unit) -> list[float]:
    """``mu_f, s_f, mu_r, s_r`` of a neuron."""
    numbers = []
    for side in sides:
        mean, deviation, _ = side[unit[0]][unit[1:]]
        numbers += [float(mean), max(float(deviation), LEAST_DEVIATION)]
    return numbers
