"""Which units examples are looked for: those of findings, and the strongest of primary maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmri.intervene import KINDS
from lmri.store import CAUSAL_PHASE, FIRST_QUANTITY, read_finding, read_map

FINDING, MAP = "finding", "map"


@dataclass(frozen=True)
class Activity:
    """What is read at every token: a quantity of one unit.

    Attributes
    ----------
    kind, quantity : str
        Kind of the unit, and what of it.
    unit : tuple of int
        Its layer, and what names it there.
    """

    kind: str
    quantity: str
    unit: tuple[int, ...]


@dataclass(frozen=True)
class Asked:
    """A unit that a map of a contrast names.

    Attributes
    ----------
    activity : Activity
        What is read of it.
    contrast, phase, method : str
        The map; its kind is that of the activity.
    source : str
        ``finding`` where the map selected the unit, ``map`` where it is only among its strongest.
    rank : int
        Place by strength, from 1.
    score : float
        Its statistic.
    """

    activity: Activity
    contrast: str
    phase: str
    method: str
    source: str
    rank: int
    score: float


def asked_units(
    findings: Path,
    maps: Path,
    contrasts: Sequence[str],
    names: Sequence[str],
    phase: str,
    most: int,
) -> list[Asked]:
    """List the units that findings and primary maps of a subject name.

    Parameters
    ----------
    findings, maps : Path
        Folders of the subject.
    contrasts : sequence of str
        Contrasts of the study.
    names : sequence of str
        Maps as the configuration names them, the primary one first.
    phase : str
        The primary phase; causal maps have none and count besides.
    most : int
        Units of each finding and of each primary map.

    Returns
    -------
    list of Asked
        By contrast and map, the strongest first. A unit that several maps name is there for each.
    """
    asked: list[Asked] = []
    for contrast in contrasts:
        for own in (phase, CAUSAL_PHASE):
            folder = f"{contrast}.{own}"
            found = list(_of_findings(findings / folder, names, contrast, own, most))
            selected = {(entry.activity.kind, entry.method, entry.activity.unit) for entry in found}
            asked += found
            if own == phase:
                asked += [
                    entry
                    for entry in _of_map(maps / folder, names, contrast, own, most)
                    if (entry.activity.kind, entry.method, entry.activity.unit) not in selected
                ]
    return asked


def _of_findings(
    folder: Path, names: Sequence[str], contrast: str, phase: str, most: int
) -> Iterator[Asked]:
    order = {f"{name}.json": number for number, name in enumerate(names)}
    paths = sorted(folder.glob("*.json"), key=lambda p: (order.get(p.name, len(order)), p.name))
    for path in paths:
        finding = read_finding(path)
        kind, method = finding["kind"], finding["method"]
        units = sorted(finding["units"], key=lambda own: -abs(_score(own)))
        for rank, own in enumerate(units[:most], start=1):
            named = tuple(int(own[part]) for part in KINDS[kind].names)
            activity = Activity(kind, quantity_of(kind, method), named)
            yield Asked(activity, contrast, phase, method, FINDING, rank, _score(own))


def _of_map(
    folder: Path, names: Sequence[str], contrast: str, phase: str, most: int
) -> Iterator[Asked]:
    """The strongest units of the first map that the subject has."""
    name = next((own for own in names if (folder / f"{own}.zarr").is_dir()), None)
    if name is None:
        return
    statistics = read_map(folder / f"{name}.zarr")
    kind, _, method = name.partition(".")
    score = statistics["score"]
    two_sided = bool(statistics.attrs.get("two_sided", False))
    strength = np.nan_to_num(np.abs(score) if two_sided else score, nan=-np.inf).ravel()
    for rank, at in enumerate(np.argsort(-strength, kind="stable")[:most], start=1):
        if not np.isfinite(strength[at]):
            return
        places = np.unravel_index(at, score.shape)
        unit = tuple(
            int(score[dim].values[place]) for dim, place in zip(score.dims, places, strict=True)
        )
        activity = Activity(kind, quantity_of(kind, method), unit)
        value = float(score.values.ravel()[at])
        yield Asked(activity, contrast, phase, method, MAP, rank, value)


def quantity_of(kind: str, method: str) -> str:
    """Name what a map compares.

    Parameters
    ----------
    kind, method : str
        Parts of its name: ``head`` and ``entropy.welch_t``.

    Returns
    -------
    str
        The quantity. The neurons of experts have one activity, whichever tokens a map counts.
    """
    named = method.rpartition(".")[0]
    if kind == "expert_neuron" or not named:
        return FIRST_QUANTITY.get(kind, "activation")
    return named


def _score(unit: Mapping[str, Any]) -> float:
    return float(unit.get("score", 0.0))
