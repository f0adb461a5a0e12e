"""Rows of measurements: one table for people, one JSON file for machines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Attributes
    ----------
    figure : str
        What was measured.
    ours : float or None
        Our value; None when it was not measured.
    theirs : float or None
        The alternative, measured in the same run; None when there is none.
    ratio : float or None
        How many times better ours is: theirs / ours for costs.
    bar : str
        What has to hold, in words.
    unit : str
        Unit of ``ours`` and ``theirs``.
    status : str
        ``held``, ``failed`` or ``not_measured``.
    """

    figure: str
    ours: float | None
    theirs: float | None
    ratio: float | None
    bar: str
    unit: str
    status: str


def at_most(figure: str, ours: float, limit: float, unit: str) -> Row:
    """Make the row of a cost that must not exceed a limit.

    Parameters
    ----------
    figure : str
        What was measured.
    ours : float
        The cost.
    limit : float
        The largest that holds.
    unit : str
        Its unit.

    Returns
    -------
    Row
        Without an alternative.
    """
    return Row(figure, ours, None, None, f"at most {limit:g} {unit}", unit, _status(ours <= limit))


def cheaper(figure: str, ours: float, theirs: float, least: float, unit: str) -> Row:
    """Make the row of a cost against that of an alternative.

    Parameters
    ----------
    figure : str
        What was measured.
    ours, theirs : float
        The costs.
    least : float
        Smallest ratio theirs / ours that holds.
    unit : str
        Their unit.

    Returns
    -------
    Row
        With the ratio.
    """
    ratio = theirs / ours
    bar = f"at least {least:g} times cheaper"
    return Row(figure, ours, theirs, ratio, bar, unit, _status(ratio >= least))


def report(rows: Sequence[Row], arguments: argparse.Namespace) -> int:
    """Print the table and write the JSON file that was asked for.

    Parameters
    ----------
    rows : sequence of Row
        The measurements.
    arguments : argparse.Namespace
        With ``json``, a path or None.

    Returns
    -------
    int
        Exit code: 1 when a bar failed.
    """
    table = pd.DataFrame([asdict(row) for row in rows])
    print(table.to_string(index=False, float_format=lambda value: f"{value:.2f}", na_rep="-"))
    if arguments.json is not None:
        content = [asdict(row) for row in rows]
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return int(any(row.status == "failed" for row in rows))


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """Start the parser of a benchmark.

    Parameters
    ----------
    name : str
        Name of the module.
    description : str
        One line of help.

    Returns
    -------
    argparse.ArgumentParser
        With ``--json``.
    """
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    made.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    return made


def _status(held: bool) -> str:
    return "held" if held else "failed"
