"""What the page of experiments reads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lmri.checks import SLUG
from lmri.config import StudyConfig
from lmri.errors import StoreError
from lmri.report.reader import Reader
from lmri.report.redaction import redact_table
from lmri.report.validation.tables import CLAIMS
from lmri.store import read_table

SCHEMA = "lmri.experiment/1"
ABOUT = {"title": str, "question": str, "source": str, "tables": dict, "figures": list}
ABOUT |= {"notes": list}
"""What an outcome must say, and its type."""

DRAWN = ("table", "kind", "x", "y", "low", "high", "series", "title", "caption", "against")
"""What a declared figure must say."""


@dataclass(frozen=True)
class Result:
    """What came of an experiment on one subject.

    Attributes
    ----------
    about : dict
        ``outcome.json``.
    statements : DataFrame
        Its claims.
    tables : dict of str to DataFrame
        Its tables by name.
    """

    about: dict
    statements: pd.DataFrame
    tables: dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Experiments:
    """What came of all experiments.

    Attributes
    ----------
    results : dict of str to dict of str to Result
        By experiment and subject.
    """

    results: dict[str, dict[str, Result]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.results)

    @property
    def statements(self) -> pd.DataFrame:
        """All claims, by experiment and subject."""
        tables = [own.statements for found in self.results.values() for own in found.values()]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def read_experiments(reader: Reader, config: StudyConfig) -> Experiments:
    """Read what came of the experiments of a study.

    Parameters
    ----------
    reader : Reader
        Reads below the study, and remembers what could not be read.
    config : StudyConfig
        Which experiments and subjects, and what is redacted.

    Returns
    -------
    Experiments
        Those that could be read.
    """
    results: dict[str, dict[str, Result]] = {}
    for experiment in config.experiments:
        for subject in config.subjects:
            found = _read_result(reader, subject, experiment, config.report.redact)
            if found is not None:
                results.setdefault(experiment, {})[subject] = found
    return Experiments(results)


def _read_result(reader: Reader, subject: str, experiment: str, redact: str) -> Result | None:
    folder = f"experiments/{subject}/{experiment}"
    about = reader.read(subject, f"{folder}/outcome.json", read_outcome, None)
    if about is None:
        return None
    read = {
        name: reader.read(
            subject,
            f"{folder}/{name}.parquet",
            lambda path, columns=columns: redact_table(read_table(path, columns), redact),
            None,
        )
        for name, columns in {"statements": CLAIMS, **dict.fromkeys(about["tables"], ())}.items()
    }
    if read["statements"] is None:
        return None
    statements = read.pop("statements")
    return Result(about, statements, {name: own for name, own in read.items() if own is not None})


def read_outcome(path: Path) -> dict:
    """Read what an experiment says of its tables and figures.

    Parameters
    ----------
    path : Path
        ``outcome.json``.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    StoreError
        If it is missing, no JSON, or does not say what it must.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not a readable outcome ({error}). Run it again.") from None
    if not isinstance(about, dict) or about.get("schema") != SCHEMA:
        raise StoreError(f"{path}: the 'schema' must be '{SCHEMA}'. Run the experiment again.")
    for key, kind in ABOUT.items():
        if not isinstance(about.get(key), kind):
            raise StoreError(f"{path}: '{key}' must be a {kind.__name__}. Run it again.")
    for name in about["tables"]:
        # It becomes a path.
        if not SLUG.fullmatch(name):
            raise StoreError(f"{path}: no table can be named {name!r}. Run it again.")
    for figure in about["figures"]:
        if not isinstance(figure, dict) or set(figure) != set(DRAWN):
            raise StoreError(f"{path}: a figure must say {', '.join(DRAWN)}. Run it again.")
    return about
