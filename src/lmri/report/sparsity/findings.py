"""What becomes of maps and findings in a subject that is sparse already."""

from __future__ import annotations

import numpy as np
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
    effects = dense.set_index(keys)["effect"]
    return Table(
        caption=(
            "The effect of switching a finding's units off, in the dense model and in one that is "
            f"sparse already ({plan}), with its 95 % interval over carriers. No sham maps are run "
            "in the sparse model: an effect there may be that of the units or of more damage to a "
            "model that is damaged already. What the plan alone does to the behaviour stands in "
            "the last column. Decides nothing."
        ),
        columns=[
            Column("Subject"),
            Column("Contrast"),
            Column("Units", "and phase of the map"),
            Column("Dense", "effect", "number"),
            Column("Sparse", "effect", "number"),
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
            f"The maps made again from recordings under {plan}. The correlation is over all units; "
            "Dice compares the units that both maps select, with what sets of their size share by "
            "chance; the last column says where the strongest unit of the dense map has gone."
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
        Cell(words.number(row["correlation"]), "number"),
        Cell(f"{words.whole(row['selected'])}, {words.whole(row['selected_again'])}", "number"),
        Cell(words.number(row["dice"]), "number", f"chance {words.number(row['chance'])}"),
        Cell(words.whole(row["strongest_rank"]), "number", str(row["strongest"])),
    ]


def _finding_row(row: dict, effects: pd.Series, keys: list[str]) -> list[Cell]:
    found = effects.get(tuple(row[key] for key in keys), np.nan)
    dense = float(found.iloc[0]) if isinstance(found, pd.Series) else float(found)
    return [
        Cell(str(row["subject"])),
        Cell(words.readable(row["contrast"])),
        Cell(words.readable(row["kind"]), note=words.phase_name(row["phase"])),
        Cell(words.signed(dense), "number"),
        Cell(words.signed(row["effect"]), "number", words.interval(row["low"], row["high"])),
        Cell(words.number(row["intact"]), "number", f"{words.whole(row['n'])} trials"),
    ]


def _map_cell(row: dict) -> Cell:
    name = MapName(f"{row['kind']}.{row['method']}")
    return Cell(name.noun.full, note=f"{name.statistic_name}, {words.phase_name(row['phase'])}")
