"""Rows of measurements: one table for people, one JSON file for machines."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

IDLE = 0.3
"""Load average up to which a machine counts as idle."""


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


Parts = Mapping[str, Callable[[int], Iterator[Row]]]
"""What measures the parts of a benchmark, given the number of rounds."""


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


def printed(figure: str, ours: float, unit: str, theirs: float | None = None) -> Row:
    """Make the row of a cost that has no bar.

    Parameters
    ----------
    figure : str
        What was measured.
    ours : float
        The cost.
    unit : str
        Its unit.
    theirs : float or None
        A cost to compare with.

    Returns
    -------
    Row
        With the ratio where there are two.
    """
    ratio = None if theirs is None else theirs / ours
    return Row(figure, ours, theirs, ratio, "none: printed", unit, "held")


def idle() -> bool:
    """Say whether nothing else runs: the load average of the last minute is at most ``IDLE``."""
    return os.getloadavg()[0] <= IDLE


def run(module: str, *arguments: object, variables: Mapping[str, str] | None = None) -> str:
    """Run a module of the benchmarks in a process of its own.

    Parameters
    ----------
    module : str
        Its name below ``benchmarks``.
    *arguments : object
        What it is called with.
    variables : mapping of str to str, optional
        Variables of its environment that differ from those here.

    Returns
    -------
    str
        What it printed.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    environment = os.environ | dict(variables or {})
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def report_parts(parts: Parts, arguments: argparse.Namespace) -> int:
    """Measure the parts that were asked for and report them.

    Parameters
    ----------
    parts : mapping of str to callable
        What measures each part, given the number of rounds.
    arguments : argparse.Namespace
        Of :func:`part_parser`.

    Returns
    -------
    int
        Exit code, see :func:`report`.
    """
    rows = [row for name in arguments.only for row in parts[name](arguments.rounds)]
    return report(rows, arguments)


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


def part_parser(name: str, description: str, parts: Parts, rounds: int) -> argparse.ArgumentParser:
    """Start the parser of a benchmark of several parts.

    Parameters
    ----------
    name : str
        Name of the module.
    description : str
        One line of help.
    parts : mapping of str to callable
        The parts.
    rounds : int
        Rounds unless asked otherwise.

    Returns
    -------
    argparse.ArgumentParser
        With ``--json``, ``--only`` and ``--rounds``.
    """
    made = parser(name, description)
    made.add_argument("--only", nargs="+", choices=list(parts), default=list(parts), metavar="NAME")
    made.add_argument("--rounds", type=int, default=rounds, help="rounds of each part")
    return made


def _status(held: bool) -> str:
    return "held" if held else "failed"
