"""What the page of examples reads."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lmri.config import StudyConfig
from lmri.errors import StoreError
from lmri.report.reader import Reader
from lmri.report.redaction import redact_table
from lmri.store import FIRST_QUANTITY, read_table

COLUMNS = {
    "units": (
        *("subject", "contrast", "phase", "kind", "method", "source", "rank", "score"),
        *("quantity", "unit", "tokens", "active", "mean", "largest", "examples", "facets"),
    ),
    "examples": (
        *("kind", "quantity", "unit", "facet", "rank", "activity", "task", "trial", "repeat"),
        *("condition", "split", "position", "length", "span", "token"),
    ),
    "tokens": ("kind", "quantity", "unit", "rank", "position", "span", "token", "activity"),
    "traces": (
        *("contrast", "task", "trial", "condition", "split", "length", "kind", "quantity"),
        *("unit", "position", "span", "token", "activity"),
    ),
}
"""Tables of a subject and their columns."""

PATH = "pages/examples.html"
"""The page, relative to the report."""

UNIT = ["kind", "quantity", "unit"]
"""Columns that name what was read of which unit."""


@dataclass(frozen=True)
class SubjectExamples:
    """Tables of one subject, as in ``docs/artefacts.md``.

    Attributes
    ----------
    units, examples, tokens, traces : DataFrame
        Units by map; their examples; tokens around these; every token of traced trials.
    left_out : dict of str to str
        Why units of a kind are not there.
    """

    units: pd.DataFrame
    examples: pd.DataFrame
    tokens: pd.DataFrame
    traces: pd.DataFrame
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyExamples:
    """Examples of all subjects.

    Attributes
    ----------
    found : dict of str to SubjectExamples
        By subject.
    """

    found: dict[str, SubjectExamples] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to show, or to say of why there is not."""
        return any(len(own.units) or own.left_out for own in self.found.values())

    def anchors(self, subject: str, kind: str, quantity: str) -> dict[tuple[int, ...], str]:
        """Where the page shows the units of a map.

        Parameters
        ----------
        subject : str
            The subject.
        kind, quantity : str
            Kind of the units, and what the map compares.

        Returns
        -------
        dict of tuple of int to str
            Identifiers in the page, by unit; of those that have examples.
        """
        own = self.found.get(subject)
        if own is None:
            return {}
        # All tokens or the routed ones: the neurons of experts have one activity.
        quantity = FIRST_QUANTITY[kind] if kind == "expert_neuron" else quantity
        units = own.units
        chosen = (units["kind"] == kind) & (units["quantity"] == quantity) & (units["examples"] > 0)
        named = [json.loads(unit) for unit in units["unit"][chosen]]
        return {tuple(unit): anchor_of_unit(subject, kind, quantity, unit) for unit in named}


def anchor_of_subject(subject: str) -> str:
    """Identifier of the part of a subject in the page: letters, digits and hyphens."""
    return "units-" + re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")


def anchor_of_unit(subject: str, kind: str, quantity: str, unit: list[int]) -> str:
    """Identifier of a unit in the page: letters, digits and hyphens."""
    return anchor_of_subject("-".join([subject, kind, quantity, *map(str, unit)]))


def read_examples(reader: Reader, config: StudyConfig) -> StudyExamples:
    """Read the examples of all subjects; there are none of a study that asks for none.

    Parameters
    ----------
    reader : Reader
        Notes what is missing.
    config : StudyConfig
        Which subjects, and what is redacted.

    Returns
    -------
    StudyExamples
        What there is.
    """
    if not config.shown_tasks:
        return StudyExamples()
    return StudyExamples(
        {name: _read(reader, name, config.report.redact) for name in config.subjects}
    )


def _read(reader: Reader, subject: str, redact: str) -> SubjectExamples:
    folder = f"analyses/examples/{subject}"
    tables = {
        table: reader.read(
            subject,
            f"{folder}/{table}.parquet",
            lambda path, columns=columns: redact_table(read_table(path, columns), redact),
            pd.DataFrame(columns=list(columns)),
        )
        for table, columns in COLUMNS.items()
    }
    left_out = reader.read(subject, f"{folder}/about.json", _left_out, {})
    return SubjectExamples(**tables, left_out=left_out)


def _left_out(path: Path) -> dict[str, str]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(reason) for name, reason in about["left_out"].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise StoreError(f"{path}: not readable ({error}). Look for examples again.") from None
