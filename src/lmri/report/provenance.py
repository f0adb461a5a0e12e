"""Where everything came from: versions, hashes, seeds, run times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from lmri.report import words
from lmri.report.inputs import Scan, StudyInputs
from lmri.report.view import Cell, Column, Table


def provenance_tables(inputs: StudyInputs, provenance: Mapping) -> list[Table]:
    """List the origin of the report and of what it shows.

    Parameters
    ----------
    inputs : StudyInputs
        The study.
    provenance : mapping
        Versions, hashes and seeds of the report itself; may be nested.

    Returns
    -------
    list of Table
        The report, the findings, the run times; those with nothing to show are left out.
    """
    tables = [_report_table(provenance), _finding_table(inputs), _runtime_table(inputs.benchmarks)]
    return [table for table in tables if table.rows]


def _report_table(provenance: Mapping) -> Table:
    return Table(
        caption="This report.",
        columns=[Column("What"), Column("Value")],
        rows=[[Cell(name), Cell(value, "code")] for name, value in _flatten(provenance)],
        source="",
    )


def _finding_table(inputs: StudyInputs) -> Table:
    rows = [
        _finding_row(scan)
        for subject in inputs.subjects
        for scans in subject.scans.values()
        for scan in scans
        if scan.finding is not None
    ]
    return Table(
        caption="Findings: hashes of what was fixed before the evaluation, and of what made it.",
        columns=[
            Column("Finding"),
            Column("Status"),
            Column("Hash"),
            Column("Code"),
            Column("Settings"),
            Column("Subject"),
            Column("Seed"),
            Column("Written"),
        ],
        rows=rows,
        source="findings/localise/",
    )


def _finding_row(scan: Scan) -> list[Cell]:
    finding, origin = scan.finding, scan.finding.get("provenance", {})
    return [
        Cell(scan.finding_path.removeprefix("findings/localise/"), "code"),
        Cell(words.readable(finding["status"])),
        _hash(finding["hash"]),
        _hash(origin.get("code")),
        _hash(origin.get("config")),
        _hash(origin.get("subject")),
        Cell(str(origin.get("seed", words.NOTHING))),
        Cell(str(finding.get("written", words.NOTHING))),
    ]


def _runtime_table(benchmarks: pd.DataFrame) -> Table:
    return Table(
        caption=f"Run times: {words.number(benchmarks['seconds'].sum(), 0)} s of jobs in all.",
        columns=[
            Column("Job"),
            Column("Seconds", kind="number"),
            Column("Memory, MB", kind="number"),
        ],
        rows=[
            [
                Cell(str(row["job"]), "code"),
                Cell(words.number(row["seconds"], 1), "number"),
                Cell(words.number(row["max_rss_mb"], 0), "number"),
            ]
            for row in benchmarks.to_dict("records")
        ],
        source="benchmarks/",
    )


def _hash(value: object) -> Cell:
    # Twelve characters tell hashes apart; the whole one is in the file the row names.
    return Cell(str(value)[:12] if value else words.NOTHING, "code")


def _flatten(values: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{words.readable(key)}", str(value)
