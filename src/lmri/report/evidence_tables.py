"""The tables of one contrast: units, measures, the rule, bystanders, transcripts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmri.report import words
from lmri.report.evidence import DIRECTIONS, Bystander, Evidence
from lmri.report.inputs import Scan
from lmri.report.kinds import Noun
from lmri.report.view import Cell, Column, Table

TOP_UNITS = 8
MOST_UNITS = 16
"""Units in a table, at least and at most."""

MOST_ROWS = 5000
"""Units in a data file; of more, the strongest."""


def unit_frame(scan: Scan) -> pd.DataFrame:
    """Flatten a map: one row per unit.

    Parameters
    ----------
    scan : Scan
        With its map.

    Returns
    -------
    DataFrame
        What names a unit and every statistic, best rank first; at most :data:`MOST_ROWS`.
    """
    dims = scan.noun.dims
    keep = [name for name in scan.statistics.data_vars if scan.statistics[name].dims == dims]
    frame = scan.statistics[keep].to_dataframe().reset_index()
    order = "rank" if "rank" in frame else "score"
    ordered = frame.sort_values(order, ascending=order == "rank", kind="stable", ignore_index=True)
    return ordered.head(MOST_ROWS)


def unit_table(
    scan: Scan, selected: list[list[int]], off: list[list[int]], source: str, data: str
) -> Table:
    """List the units with the strongest scores.

    Parameters
    ----------
    scan : Scan
        With its map.
    selected, off : list of [layer, ...]
        Units the finding names; units that were switched off.
    source, data : str
        Where the numbers come from; where they are repeated.

    Returns
    -------
    Table
        At least eight units, as many as were switched off up to :data:`MOST_UNITS`.
    """
    noun = scan.noun
    frame = unit_frame(scan).head(min(max(TOP_UNITS, len(off)), MOST_UNITS))
    hint = "target − control" if scan.name.counted else scan.name.statistic_name
    numbers = [
        ("score", "Score", hint, words.signed),
        ("standard_error", "Standard error", "over pairs of trials", words.number),
        ("interaction", "Interaction", "beyond the sum of the parts", words.signed),
        ("hedges_g", "Hedges g", "difference over deviation", words.signed),
        ("mean_target", "Mean, target", "", words.number),
        ("mean_control", "Mean, control", "", words.number),
        ("rate_target", "Rate, target", "share of tokens", words.number),
        ("rate_control", "Rate, control", "share of tokens", words.number),
        ("mote_sum", "Raw sum", "over tokens, controls pooled", words.signed),
        ("p_max", "p", f"over all {noun.many}", words.probability),
        ("q", "q", "false discovery", words.probability),
    ]
    numbers = [entry for entry in numbers if entry[0] in frame]
    return Table(
        caption=f"The {noun.many} with the {_strongest(scan)} scores.",
        columns=[
            Column(noun.one.capitalize(), noun.written),
            Column("Used as"),
            *(Column(label, hint, "number") for _, label, hint, _ in numbers),
        ],
        rows=[
            [
                Cell(words.unit_name(_unit(row, noun))),
                Cell(_use(_unit(row, noun), selected, off)),
                *(Cell(write(row[name]), "number") for name, _, _, write in numbers),
            ]
            for row in frame.to_dict("records")
        ],
        source=source,
        data=data,
    )


def measure_table(evidence: Evidence, source: str, data: str) -> Table:
    """Show every score of the target trials at the primary endpoint.

    Parameters
    ----------
    evidence : Evidence
        Arms of the finding.
    source, data : str
        Where the numbers come from; where they are repeated.

    Returns
    -------
    Table
        One row per score.
    """
    names = dict.fromkeys([*words.SCORES, str(evidence.endpoint["score"])])
    scores = [score for score in names if len(evidence.target(score))]
    return Table(
        caption=(
            "Every score of the target trials at the primary endpoint. Only the "
            f"{words.score_name(evidence.endpoint['score'])} decides; the others tell what came "
            "in its place. The positive control sets the residual stream along the mean-difference "
            "direction to that of the controls; the same along a random direction should change "
            "little."
        ),
        columns=[
            Column("Score"),
            Column("Intact", kind="number"),
            Column(_off(evidence), "change with its interval", "number"),
            Column("Sham maps off", "mean, smallest to largest", "number"),
            Column("Positive control", "change with its interval", "number"),
            Column("Random direction", "change with its interval", "number"),
            Column("Trials", "(carriers)", "number"),
        ],
        rows=[_measure_row(evidence, score) for score in scores],
        source=source,
        data=data,
    )


def check_table(checks: str, source: str) -> Table:
    """Show every part of the rule, passed or failed.

    Parameters
    ----------
    checks : str
        JSON list of objects with ``check``, ``passed`` and ``detail``.
    source : str
        Where it comes from.

    Returns
    -------
    Table
        One row per part.
    """
    return Table(
        caption="The rule, fixed before the evaluation trials were run, part by part.",
        columns=[Column("Part"), Column("Outcome"), Column("Detail")],
        rows=[
            [
                Cell(words.readable(entry["check"])),
                Cell("passed" if entry["passed"] else "failed", "check"),
                Cell(str(entry["detail"])),
            ]
            for entry in words.read_checks(checks)
        ],
        source=source,
    )


def bystander_table(evidence: Evidence, source: str, data: str) -> Table:
    """Show every bystander at the primary endpoint.

    Parameters
    ----------
    evidence : Evidence
        Arms of the finding.
    source, data : str
        Where the numbers come from; where they are repeated.

    Returns
    -------
    Table
        One row per bystander.
    """
    margin = words.number(evidence.endpoint["margin"])
    return Table(
        caption=(
            "Behaviours that must stay. Each interval of the change has to lie within "
            f"{words.MINUS}{margin} to +{margin}. Where no trial changed, the interval takes the "
            "trials as independent; below it stands what cannot be excluded if the trials of one "
            "carrier change together."
        ),
        columns=[
            Column("Behaviour"),
            Column("Score"),
            Column("Intact", kind="number"),
            Column(_off(evidence), kind="number"),
            Column("Change", kind="number"),
            Column("Interval", kind="number"),
            Column("Trials", "(carriers)", "number"),
        ],
        rows=[_bystander_row(evidence, bystander) for bystander in evidence.bystanders],
        source=source,
        data=data,
    )


def beside_table(evidence: Evidence, source: str, data: str) -> Table | None:
    """Show transfer and items held out of training: reported, deciding nothing.

    Parameters
    ----------
    evidence : Evidence
        Arms of the finding.
    source, data : str
        Where the numbers come from; where they are repeated.

    Returns
    -------
    Table or None
        None when neither was run.
    """
    arms = evidence.arms
    rows = evidence.at_endpoint(
        arms[(arms["trial_role"] == "transfer") | (arms["held_out"] == "held_out")], "finding"
    )
    rows = rows[rows["score"].isin([evidence.endpoint["score"], "fact_told", "exact"])]
    if rows.empty:
        return None
    return Table(
        caption=(
            "Transfer to other stimuli, and items kept out of training, at the primary endpoint. "
            "Reported; decides nothing."
        ),
        columns=[
            Column("Trials"),
            Column("Role"),
            Column("Score"),
            Column("Intact", kind="number"),
            Column(_off(evidence), kind="number"),
            Column("Change", "with its interval", "number"),
            Column("Trials", "(carriers)", "number"),
        ],
        rows=[
            [
                Cell(words.condition_name(row["task"], row["condition"])),
                Cell(_role(row)),
                Cell(words.score_name(row["score"])),
                Cell(words.number(row["intact"]), "number"),
                Cell(words.number(row["value"]), "number"),
                _change(row),
                _trials(row),
            ]
            for row in rows.to_dict("records")
        ],
        source=source,
        data=data,
    )


def transcript_table(
    transcripts: pd.DataFrame, count: int, source: str, data: str, noun: Noun
) -> Table:
    """Show paired responses to the same prompts.

    Parameters
    ----------
    transcripts : DataFrame
        Rows of one finding.
    count : int
        How many to show.
    source, data : str
        Where they come from; where all of them are.
    noun : Noun
        Words for the units that are off.

    Returns
    -------
    Table
        One row per trial.
    """
    rows = transcripts.head(count)
    draws = sorted({int(draw) for draw in rows["sham_draw"]})
    sham = f"sham map {draws[0]} off" if len(draws) == 1 else "a sham map off"
    return Table(
        caption=(
            f"{len(rows)} evaluation trials drawn by the seed of the study, not chosen: the "
            "responses to the same prompt, in full. Heavier: other than intact."
        ),
        columns=[
            Column("Prompt", "and condition"),
            Column("True answer"),
            Column("Intact"),
            Column(f"{noun.many.capitalize()} off"),
            Column(sham.capitalize()),
        ],
        rows=[
            [
                Cell(str(row["prompt"]), "speech", words.readable(row["condition"])),
                Cell(str(row["fact"]), "speech"),
                Cell(str(row["intact"]), "speech"),
                *(_response(str(row[arm]), str(row["intact"])) for arm in ("finding", "sham")),
            ]
            for row in rows.to_dict("records")
        ],
        source=source,
        data=data,
        layout="transcripts",
    )


def _strongest(scan: Scan) -> str:
    return "strongest" if scan.profile is not None and scan.profile.two_sided else "largest"


def _unit(row: dict, noun: Noun) -> list[int]:
    return [int(row[dim]) for dim in noun.dims]


def _off(evidence: Evidence) -> str:
    return f"{evidence.noun.many.capitalize()} off"


def _use(unit: list[int], selected: list[list[int]], off: list[list[int]]) -> str:
    if unit in off:
        return "switched off"
    return "named by the map" if unit in selected else words.NOTHING


def _response(text: str, intact: str) -> Cell:
    return Cell(text, "same" if text == intact else "changed")


def _measure_row(evidence: Evidence, score: str) -> list[Cell]:
    rows = evidence.target(score)
    finding = evidence.at_endpoint(rows, "finding")
    first = finding.iloc[0].to_dict() if len(finding) else {}
    shams = evidence.at_endpoint(rows, "sham")["value"].to_numpy(float)
    directions = [evidence.at_endpoint(rows, arm) for arm in DIRECTIONS]
    return [
        Cell(words.score_name(score), note=words.score_meaning(score)),
        Cell(words.number(first.get("intact", np.nan)), "number"),
        _value_and_change(first),
        _spread(shams),
        *(_value_and_change(own.iloc[0].to_dict() if len(own) else {}) for own in directions),
        _trials(first),
    ]


def _value_and_change(row: dict) -> Cell:
    if not row:
        return Cell(words.NOTHING, "number")
    between, change = _interval(row), words.signed(row["effect"])
    return Cell(
        words.number(row["value"]), "number", f"{change} ({between})" if between else change
    )


def _spread(values: np.ndarray) -> Cell:
    values = values[np.isfinite(values)]
    if not len(values):
        return Cell(words.NOTHING, "number")
    return Cell(words.number(values.mean()), "number", words.interval(values.min(), values.max()))


def _bystander_row(evidence: Evidence, bystander: Bystander) -> list[Cell]:
    rows = evidence.at_endpoint(evidence.bystander(bystander), "finding")
    head = [Cell(bystander.name), Cell(words.score_name(bystander.score))]
    if rows.empty:
        return [*head, *(Cell(words.NOTHING, "number") for _ in range(5))]
    row = rows.iloc[0].to_dict()
    return [
        *head,
        Cell(words.number(row["intact"]), "number"),
        Cell(words.number(row["value"]), "number"),
        Cell(words.signed(row["effect"]), "number"),
        Cell(words.interval(row["low"], row["high"]), "number", _by_carrier(row)),
        _trials(row),
    ]


def _by_carrier(row: dict) -> str:
    bound = words.number(row.get("carrier_bound", np.nan))
    unchanged = row["effect"] == 0 and bound != words.NOTHING
    return f"up to {bound} by carrier" if unchanged else ""


def _role(row: dict) -> str:
    role = "transfer" if row["trial_role"] == "transfer" else str(row["trial_role"])
    return f"{role}, held out of training" if row["held_out"] == "held_out" else role


def _change(row: dict) -> Cell:
    return Cell(words.signed(row["effect"]), "number", _interval(row))


def _interval(row: dict) -> str:
    """Interval of a change; where no trial differs also that of carriers that change together."""
    between, bound = words.interval(row["low"], row["high"]), row.get("carrier_bound", np.nan)
    if not np.isfinite(bound):
        return between
    low, high = max(-1.0, row["effect"] - bound), min(1.0, row["effect"] + bound)
    return f"{between};\nby carrier {words.interval(low, high)}"


def _trials(row: dict) -> Cell:
    if not row:
        return Cell(words.NOTHING, "number")
    return Cell(f"{words.whole(row['n'])} ({words.whole(row['n_carriers'])})", "number")
