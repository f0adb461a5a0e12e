"""What becomes of maps and findings in a subject that is sparse already."""

from __future__ import annotations

import json

import pandas as pd

from lmri.report import words
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.kinds import MapName
from lmri.report.view import Cell, Column, Heading, Table


def surviving_findings(inputs: StudyInputs, files: Files) -> list[Heading | Table]:
    """Show findings that were re-run under a plan, and the maps made again under it.

    Parameters
    ----------
    inputs : StudyInputs
        The study.
    files : Files
        Takes the rows.

    Returns
    -------
    list of Heading or Table
        Nothing where no finding was re-run so.
    """
    plan = inputs.config.sparse.finding_plan
    blocks = [_effects(inputs, plan, files), _survival(inputs.sparse.survival, plan, files)]
    shown = [block for block in blocks if block is not None]
    return [Heading("Do findings survive?"), *shown] if shown else []


def _effects(inputs: StudyInputs, plan: str, files: Files) -> Table | None:
    """Effects of findings in the sparse subject beside those in the dense one."""
    arms = pd.concat([subject.arms for subject in inputs.subjects], ignore_index=True)
    rows = arms[arms["arm"] == "finding_sparse"]
    if rows.empty:
        return None
    data = files.add("sparse-findings", rows)
    dense = arms[(arms["arm"] == "finding") & (arms["held_out"] == "all")]
    keys = ["subject", "contrast", "phase", "kind", "method", "task", "condition", "score"]
    keys += ["mode", "dose"]
    effects = dense.drop_duplicates(keys).set_index(keys)[["effect", "low", "high"]]
    return Table(
        caption=(
            "What switching off a finding's units changes in the score of its target trials, in "
            f"the dense model and in one that is sparse already ({plan}), each with its 95 % "
            "interval; the two are not tested against each other. Units are those of the primary "
            "endpoint, and of an exploratory map those of its largest dose. No sham maps are run "
            "in the sparse model: an effect there may be that of the units or of more damage to a "
            "model that is damaged already. What the plan alone does to the behaviour stands in "
            "the last column. Decides nothing."
        ),
        columns=[
            Column("Subject"),
            Column("Contrast"),
            Column("Map", "and its phase"),
            Column("Off", "units", "number"),
            Column("Dense", "change", "number"),
            Column("Sparse", "change", "number"),
            Column("Plan alone", "score, trials", "number"),
        ],
        rows=[_finding_row(row, effects, keys) for row in rows.to_dict("records")],
        source="validation/<subject>/arms.parquet",
        data=data,
    )


def _survival(survival: pd.DataFrame, plan: str, files: Files) -> Table | None:
    """Maps of the sparse subject beside those of the dense one."""
    if survival.empty:
        return None
    return Table(
        caption=(
            f"The maps made again from recordings under {plan}. The correlation is over the units "
            "with a score in both, without those whose statistic is cut; Dice compares the units "
            "that both maps select, with what sets of their size share by chance; the last column "
            "says where the strongest unit of the dense map has gone."
        ),
        columns=[
            Column("Subject"),
            Column("Contrast"),
            Column("Map", "and its phase"),
            Column("Correlation", kind="number"),
            Column("Selected", "dense, sparse", "number"),
            Column("Dice", kind="number"),
            Column("Strongest", "its rank now", "number"),
        ],
        rows=[_survival_row(row) for row in survival.to_dict("records")],
        source="sparse/<subject>/survival.parquet",
        data=files.add("sparse-survival", survival),
    )


def _survival_row(row: dict) -> list[Cell]:
    return [
        Cell(str(row["subject"])),
        Cell(words.readable(row["contrast"])),
        _map_cell(row),
        Cell(words.number(row["correlation"]), "number", f"{words.whole(row['units'])} units"),
        Cell(f"{words.whole(row['selected'])}, {words.whole(row['selected_again'])}", "number"),
        Cell(words.number(row["dice"]), "number", f"chance {words.number(row['chance'])}"),
        Cell(words.whole(row["strongest_rank"]), "number", str(row["strongest"])),
    ]


def _finding_row(row: dict, effects: pd.DataFrame, keys: list[str]) -> list[Cell]:
    found = effects.reindex([tuple(row[key] for key in keys)]).iloc[0]
    return [
        Cell(str(row["subject"])),
        Cell(words.readable(row["contrast"])),
        _map_cell(row),
        Cell(words.whole(len(json.loads(row["units"]))), "number"),
        Cell(words.signed(found["effect"]), "number", words.interval(found["low"], found["high"])),
        Cell(words.signed(row["effect"]), "number", words.interval(row["low"], row["high"])),
        Cell(words.number(row["intact"]), "number", f"{words.whole(row['n'])} trials"),
    ]


def _map_cell(row: dict) -> Cell:
    name = MapName(f"{row['kind']}.{row['method']}")
    return Cell(name.title, note=f"{name.statistic_name}, {words.phase_name(row['phase'])}")
