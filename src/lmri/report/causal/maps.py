"""Causal maps as the report keeps them: reduced, with what has to be known to read them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from lmri.config import CausalOptions, ContrastOptions
from lmri.errors import StoreError
from lmri.report import words
from lmri.report.causal.words import RENAMED, is_by_role, noun_of, role_name
from lmri.report.kinds import Noun
from lmri.report.profiles import Profile, profile
from lmri.report.reader import Reader
from lmri.store import CAUSAL_PHASE, read_finding, read_map

MOST_COMPARED = 8192
"""Units of a map up to which single scores are kept, to compare methods unit by unit."""

CONDITIONAL = ("expert", "expert_neuron", "neuron", "shared_neuron", "feature")
"""Kinds that only some subjects have: a map of them may be missing where all are."""

NO_ROLES = ("direct",)
"""Methods that are of the last token alone."""


@dataclass(frozen=True)
class Agreement:
    """Correlation of a map with patching.

    Attributes
    ----------
    correlation, low, high : float
        Pearson correlation over units, and its interval; NaN where it is not known.
    units : int
        Units that were patched.
    """

    correlation: float
    low: float
    high: float
    units: int


@dataclass(frozen=True)
class CausalMap:
    """One causal map of one subject.

    Attributes
    ----------
    kind, method : str
        The two parts of its name.
    path : str
        Where it is, relative to the study.
    profile : Profile
        The map, reduced.
    columns : tuple of str
        Names of the columns, in words; empty where units are counted.
    scores : ndarray of shape (units,) or None
        Every score, in the order of layers and units; None where there are too many.
    finding : dict or None
        Its finding; None of a map that was not put to the test.
    """

    kind: str
    method: str
    path: str
    profile: Profile
    columns: tuple[str, ...]
    scores: np.ndarray | None
    finding: dict | None = None

    @property
    def noun(self) -> Noun:
        """Words for its units."""
        return self.profile.noun

    @property
    def by_role(self) -> bool:
        """Whether it is of layers by roles of tokens."""
        return is_by_role(self.kind)

    @property
    def metric(self) -> str:
        """Unit of its scores, a key of :data:`lmri.report.causal.words.METRICS`."""
        return str(self.profile.attributes.get("metric", ""))

    @property
    def pairs(self) -> int:
        """Pairs of trials behind it."""
        return self.count("n_pairs")

    @property
    def agreement(self) -> Agreement | None:
        """How well it agrees with patching; None for patching itself."""
        units = self.count("patching_units")
        if not units:
            return None
        numbers = (self.number(f"patching_{name}") for name in ("correlation", "low", "high"))
        return Agreement(*numbers, units)

    def number(self, name: str) -> float:
        """A number among the attributes; NaN where it is not there."""
        return self.profile.attribute(name)

    def count(self, name: str) -> int:
        """A count among the attributes; 0 where it is not there."""
        value = self.number(name)
        return int(value) if math.isfinite(value) else 0

    def counts(self, name: str) -> dict[str, int]:
        """Counts by name, from the JSON among the attributes; empty where it is not readable."""
        try:
            found = json.loads(str(self.profile.attributes.get(name, "{}")))
            return {str(key): int(value) for key, value in found.items()}
        except (ValueError, TypeError, AttributeError):
            return {}

    def unit_name(self, row: dict) -> str:
        """Name a unit: ``2:16``, or ``layer 2 (last of prompt)`` where columns have names."""
        dims = self.noun.dims
        if not self.columns:
            return words.unit_name([row[dim] for dim in dims])
        return f"layer {int(row[dims[0]])} ({row['column']})"


def read_causal(
    reader: Reader, subject: str, contrast: ContrastOptions, options: CausalOptions, alpha: float
) -> list[CausalMap]:
    """Read the causal maps of a contrast.

    Parameters
    ----------
    reader : Reader
        Notes what is missing.
    subject : str
        The subject.
    contrast : ContrastOptions
        The contrast.
    options : CausalOptions
        Which maps to expect.
    alpha : float
        Level of the max-statistic.

    Returns
    -------
    list of CausalMap
        By kind in the order of the configuration, each by method.
    """
    folder = f"maps/{subject}/{contrast.name}.{CAUSAL_PHASE}"
    found = []
    for kind, method in expected_maps(options, reader.study / folder):
        path = f"{folder}/{kind}.{method}.zarr"
        made = reader.read(
            subject, path, lambda store, k=kind, m=method: _read(store, k, m, alpha), None
        )
        if made is not None:
            profiled, columns, scores = made
            own = _finding(reader, subject, f"{contrast.name}.{CAUSAL_PHASE}/{kind}.{method}")
            found.append(CausalMap(kind, method, path, profiled, columns, scores, own))
    return found


def expected_maps(options: CausalOptions, folder: Path) -> list[tuple[str, str]]:
    """List the maps that a subject should have.

    Parameters
    ----------
    options : CausalOptions
        Which were asked for.
    folder : Path
        Folder of the maps: kinds that only some subjects have count if there is one of them.

    Returns
    -------
    list of tuple of str
        Kind and method.
    """
    present = {path.name.partition(".")[0] for path in folder.glob("*.zarr")}
    kinds = [kind for kind in options.kinds if kind not in CONDITIONAL or kind in present]
    places = [f"{kind}_by_role" for kind in options.role_kinds]
    return [
        *((RENAMED.get(kind, kind), method) for kind in kinds for method in options.methods),
        *(
            (kind, method)
            for kind in places
            for method in options.methods
            if method not in NO_ROLES
        ),
    ]


def _finding(reader: Reader, subject: str, name: str) -> dict | None:
    """Read the finding of a map; most causal maps have none."""
    path = f"findings/localise/{subject}/{name}.json"
    if not (reader.study / path).is_file():
        return None
    return reader.read(subject, path, read_finding, None)


def _read(
    path: Path, kind: str, method: str, alpha: float
) -> tuple[Profile, tuple[str, ...], np.ndarray | None]:
    statistics, noun = read_map(path), noun_of(kind)
    if "score" not in statistics or set(noun.dims) != set(statistics["score"].dims):
        raise StoreError(f"{path}: has no 'score' by {words.listing(noun.dims)}. Localise again.")
    own = [name for name, values in statistics.items() if set(values.dims) == set(noun.dims)]
    statistics = statistics[own].transpose(*noun.dims, ...)  # not what is kept of single pairs
    found = profile(f"{kind}.{method}", statistics, alpha, noun)
    columns = _columns(statistics, noun.dims[-1])
    if columns:
        labels = dict(zip(statistics[noun.dims[-1]].values.tolist(), columns, strict=True))
        found.top["column"] = [labels[value] for value in found.top[noun.dims[-1]]]
    few = statistics["score"].size <= MOST_COMPARED
    return found, columns, statistics["score"].values.reshape(-1) if few else None


def _columns(statistics: xr.Dataset, last: str) -> tuple[str, ...]:
    """Names of the columns of a map, where they are not counted."""
    if last == "role":
        return tuple(role_name(str(role)) for role in statistics["role"].values)
    if "place" in statistics.coords and statistics["place"].dims == (last,):
        return tuple(words.place_name(str(place)) for place in statistics["place"].values)
    return ()
