"""Tables over all subjects: maps, what replicates, overlaps, heads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd

MAPS = (
    *("subject", "contrast", "role", "phase", "kind", "method", "name", "units", "selected"),
    *("rising", "strongest", "score", "p_max", "size", "split_half_correlation"),
    *("split_half_dice", "split_half_chance", "layers", "status", "reason"),
)
REPLICATION = (
    *("contrast", "phase", "kind", "method", "name", "subjects", "mapped", "modal_layer"),
    *("in_modal_layer", "correlation_low", "correlation_mean", "correlation_high"),
    "second_level",
)
OVERLAP = (
    *("first", "second", "kind", "shared", "first_size", "second_size", "universe", "jaccard"),
    *("overlap", "p", "chance"),
)
HEADS = ("subject", "series", "step", "layer", "head")

TABLES = {"maps": MAPS, "replication": REPLICATION, "overlap": OVERLAP}
"""Columns of the tables that every study has."""


def _empty(columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(columns))


@dataclass(frozen=True)
class Group:
    """Tables over all subjects; those that could not be read are empty.

    Attributes
    ----------
    maps, replication, overlap, heads : DataFrame
        As in ``docs/artefacts.md``.
    """

    maps: pd.DataFrame = field(default_factory=lambda: _empty(MAPS))
    replication: pd.DataFrame = field(default_factory=lambda: _empty(REPLICATION))
    overlap: pd.DataFrame = field(default_factory=lambda: _empty(OVERLAP))
    heads: pd.DataFrame = field(default_factory=lambda: _empty(HEADS))

    @property
    def scores(self) -> list[str]:
        """Columns of the table of heads that are scores."""
        numbers = self.heads.select_dtypes("number").columns
        return [str(name) for name in numbers if name not in HEADS]

    def overlaps_of(self, contrast: str) -> pd.DataFrame:
        """Compare the maps of a contrast with those of others.

        Parameters
        ----------
        contrast : str
            Name of the contrast.

        Returns
        -------
        DataFrame
            Rows of ``overlap`` between this contrast (``own``) and another (``other``), both read
            into lists of subject, contrast, phase and map; the least probable first.
        """
        return self._overlaps(
            lambda first, second: (first[1] == contrast) != (second[1] == contrast), contrast
        )

    def overlaps_between_subjects(self, contrast: str) -> pd.DataFrame:
        """Compare the maps of a contrast between subjects whose units correspond.

        Parameters
        ----------
        contrast : str
            Name of the contrast.

        Returns
        -------
        DataFrame
            As of :meth:`overlaps_of`, with one subject in ``own`` and another in ``other``.
        """
        return self._overlaps(lambda first, second: first[1] == second[1] == contrast, contrast)

    def _overlaps(
        self, wanted: Callable[[list[str], list[str]], bool], contrast: str
    ) -> pd.DataFrame:
        rows = []
        for row in self.overlap.to_dict("records"):
            first, second = _place(row["first"]), _place(row["second"])
            if not first or not second or not wanted(first, second):
                continue
            sides = [(first, row["first_size"]), (second, row["second_size"])]
            if first[1] != contrast:
                sides.reverse()
            (own, own_size), (other, other_size) = sides
            sizes = {"own_size": own_size, "other_size": other_size}
            rows.append({**row, "own": own, "other": other, **sizes})
        columns = [*OVERLAP, "own", "other", "own_size", "other_size"]
        found = pd.DataFrame(rows, columns=columns)
        return found.sort_values(
            ["p", "overlap"], ascending=[True, False], kind="stable", ignore_index=True
        )


def read_counts(text: object) -> dict[int, int]:
    """Read the JSON of selected units by layer; anything else is none.

    Parameters
    ----------
    text : object
        Content of the column ``layers``.

    Returns
    -------
    dict of int to int
        Units by layer.
    """
    try:
        counts = json.loads(text) if isinstance(text, str) else {}
        return {int(layer): int(count) for layer, count in counts.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def read_unit(text: object) -> list[int]:
    """Read the JSON list of one unit's coordinates; anything else is none."""
    try:
        unit = json.loads(text) if isinstance(text, str) and text else []
        return [int(part) for part in unit]
    except (ValueError, TypeError):
        return []


def _place(text: object) -> list[str]:
    """Subject, contrast, phase and map of one side of an overlap; empty when unreadable."""
    try:
        place = json.loads(text) if isinstance(text, str) else []
    except ValueError:
        return []
    return [str(part) for part in place] if isinstance(place, list) and len(place) == 4 else []
