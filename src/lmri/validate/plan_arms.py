"""The arms of a validation: which interventions are run, as the finding lists them."""

from __future__ import annotations

from lmri.anatomy import Anatomy
from lmri.intervene import Plan, feasible
from lmri.validate.arms import Arm

INTACT_ARM = Arm("intact", "none")


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
    ranked = [(unit["layer"], unit["expert"]) for unit in finding["units"]]
    secondary = finding["secondary"]
    arms = [
        _arm("finding", mode, ranked, dose, 0, finding)
        for mode in secondary["modes"]
        for dose in secondary["doses"]
    ]
    return [arm for arm in arms if feasible(arm.plan, anatomy)]


def sham_arms(finding: dict, anatomy: Anatomy) -> list[Arm]:
    """Sham maps: all of them at the primary endpoint, fewer at every other dose and mode.

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
    arms = []
    for mode in secondary["modes"]:
        for dose in secondary["doses"]:
            primary = _is_primary(finding, mode, dose)
            count = len(maps) if primary else min(secondary["draws"], len(maps))
            arms += [_arm("sham", mode, maps[d], dose, d, finding) for d in range(count)]
    return [arm for arm in arms if feasible(arm.plan, anatomy)]


def matched_arms(finding: dict, anatomy: Anatomy) -> list[Arm]:
    """Layer-matched and load-matched draws at every dose, in the primary mode.

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
    mode, arms = finding["secondary"]["mode"], []
    for name in ("layer_matched", "load_matched"):
        for dose, draws in finding["controls"][name].items():
            sets = _units(draws)
            arms += [_arm(name, mode, sets[d], int(dose), d, finding) for d in range(len(sets))]
    return [arm for arm in arms if feasible(arm.plan, anatomy)]


def _arm(
    name: str, mode: str, ranked: list[tuple[int, int]], dose: int, draw: int, finding: dict
) -> Arm:
    primary = name in {"finding", "sham"} and _is_primary(finding, mode, dose)
    return Arm(name, mode, dose, draw, Plan(mode, tuple(ranked[:dose])), primary)


def _is_primary(finding: dict, mode: str, dose: int) -> bool:
    endpoint = finding.get("primary_endpoint")
    return endpoint is not None and (mode, dose) == (endpoint["mode"], endpoint["dose"])


def _units(sets: list[list[list[int]]]) -> list[list[tuple[int, int]]]:
    return [[(layer, expert) for layer, expert in units] for units in sets]
