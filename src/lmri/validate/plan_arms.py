"""The arms of a validation: which interventions are run, as the finding lists them."""

from __future__ import annotations

from collections.abc import Sequence

from lmri.anatomy import Anatomy
from lmri.intervene import KINDS, Plan, Unit, feasible
from lmri.validate.arms import Arm

INTACT_ARM = Arm("intact", "none")

MATCHED = ("layer_matched", "load_matched", "massive_matched")
"""Control draws that decide nothing; the last only of dimensions of the residual."""

RIVALS = ("bottom", "top_load", "top_attribution")
"""Other ways to choose as many units: the last of the ranking, the most active, the most
attributed to. One set each; they are shown beside and decide nothing."""


def finding_arms(finding: dict, anatomy: Anatomy) -> list[Arm]:
    """The finding's units at every dose and mode that the subject can carry out.

    Parameters
    ----------
    finding : dict
        A testable finding.
    anatomy : Anatomy
        Of the subject.

    Returns
    -------
    list of Arm
        The primary endpoint's arm among them.
    """
    ranked, secondary, make = named_units(finding), finding["secondary"], _Maker(finding)
    arms = [
        make("finding", mode, ranked, dose, 0)
        for mode in secondary["modes"]
        for dose in secondary["doses"]
    ]
    return [arm for arm in arms if feasible(arm.plan, anatomy)]


def sham_arms(finding: dict, anatomy: Anatomy) -> list[Arm]:
    """Sham maps: all of them at the primary endpoint, fewer at every other dose and mode.

    At the endpoint each is run at the dose that was chosen for it as the finding's was; the arms
    are named by the dose of the endpoint.

    Parameters
    ----------
    finding : dict
        A testable finding.
    anatomy : Anatomy
        Of the subject.

    Returns
    -------
    list of Arm
        The arms that the subject can carry out.
    """
    secondary, maps = finding["secondary"], _units(finding["controls"]["sham"])
    arms, make = [], _Maker(finding)
    own = finding.get("sham_doses")
    for mode in secondary["modes"]:
        for dose in secondary["doses"]:
            primary = make.is_primary(mode, dose)
            count = len(maps) if primary else min(secondary["draws"], len(maps))
            doses = own if primary and own is not None else [dose] * count
            arms += [make("sham", mode, maps[d], dose, d, doses[d]) for d in range(count)]
    return [arm for arm in arms if feasible(arm.plan, anatomy)]


def matched_arms(finding: dict, anatomy: Anatomy) -> list[Arm]:
    """Matched draws at every dose, in the primary mode.

    Parameters
    ----------
    finding : dict
        A finding with a primary endpoint.
    anatomy : Anatomy
        Of the subject.

    Returns
    -------
    list of Arm
        The arms that the subject can carry out.
    """
    return _listed_arms(finding, anatomy, MATCHED)


def rival_arms(finding: dict, anatomy: Anatomy) -> list[Arm]:
    """Rival selections at every dose, in the primary mode.

    Parameters
    ----------
    finding : dict
        A finding with a primary endpoint.
    anatomy : Anatomy
        Of the subject.

    Returns
    -------
    list of Arm
        The arms that the subject can carry out.
    """
    return _listed_arms(finding, anatomy, RIVALS)


def _listed_arms(finding: dict, anatomy: Anatomy, names: Sequence[str]) -> list[Arm]:
    mode, arms, make = finding["secondary"]["mode"], [], _Maker(finding)
    for name in names:
        for dose, draws in finding["controls"].get(name, {}).items():
            sets = _units(draws)
            arms += [make(name, mode, sets[d], int(dose), d) for d in range(len(sets))]
    return [arm for arm in arms if feasible(arm.plan, anatomy)]


def named_units(finding: dict) -> list[Unit]:
    """Units that a finding selects, from the best.

    Parameters
    ----------
    finding : dict
        A finding of a kind that can be intervened on.

    Returns
    -------
    list of tuple of int
        As (layer, ...).
    """
    names = KINDS[finding["kind"]].names
    return [tuple(unit[name] for name in names) for unit in finding["units"]]


class _Maker:
    """Makes the arms of one finding."""

    def __init__(self, finding: dict) -> None:
        self._kind = finding["kind"]
        self._means, self._values = (
            {tuple(unit): values for unit, values in finding.get(name, [])}
            for name in ("means", "values")
        )
        self._endpoint = finding.get("primary_endpoint")

    def is_primary(self, mode: str, dose: int) -> bool:
        endpoint = self._endpoint
        return endpoint is not None and (mode, dose) == (endpoint["mode"], endpoint["dose"])

    def __call__(
        self,
        name: str,
        mode: str,
        ranked: Sequence[Unit],
        dose: int,
        draw: int,
        units: int | None = None,
    ) -> Arm:
        primary = name in {"finding", "sham"} and self.is_primary(mode, dose)
        values = self._means if mode == "mean" else self._values
        plan = Plan.of(mode, ranked[: dose if units is None else units], self._kind, values)
        return Arm(name, mode, dose, draw, plan, primary)


def _units(sets: list[list[list[int]]]) -> list[list[Unit]]:
    return [[tuple(unit) for unit in units] for units in sets]
