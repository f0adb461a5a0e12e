"""The tables of claims, rival selections and comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lmri.report import words
from lmri.report.evidence import Evidence
from lmri.report.view import Cell, Column, Table

CLAIMS = (
    *("subject", "contrast", "phase", "kind", "method", "claim", "claim_kind", "statement"),
    *("statistic", "threshold", "controls", "split", "family", "n", "n_carriers", "effect", "low"),
    *("high", "p", "p_corrected", "outcome", "reason"),
)
"""Columns of ``claims.parquet`` that the report shows."""

COMPARISONS = (
    *("first", "second", "lineage", "contrast", "phase", "kind", "method", "task", "condition"),
    *("trial_role", "score", "n", "n_carriers", "first_effect", "first_low", "first_high"),
    *("second_effect", "second_low", "second_high", "difference", "low", "high", "p_corrected"),
    *("margin", "outcome"),
)
"""Columns of ``comparisons.parquet`` that the report shows."""

OUTCOMES = ("holds", "fails", "undecided", "not testable")

RIVALS = {
    "bottom": "the last of the same ranking",
    "top_load": "the most active",
    "top_attribution": "those that most is attributed to directly",
}
"""Other ways to choose as many units, by arm."""


def claim_matrix(claims: pd.DataFrame, data: str) -> Table:
    """Show what came of every claim in every subject.

    Parameters
    ----------
    claims : DataFrame
        Rows of ``claims.parquet`` of all subjects.
    data : str
        File with the same rows.

    Returns
    -------
    Table
        One row per subject and contrast, one column per claim, and how many subjects it holds in.
    """
    names = list(dict.fromkeys(claims["claim"]))
    cells = {(r["subject"], r["contrast"], r["claim"]): r for r in claims.to_dict("records")}
    places = list(dict.fromkeys(zip(claims["subject"], claims["contrast"], strict=True)))
    rows = [
        [
            Cell(str(subject), note=words.readable(contrast)),
            *(_outcome_cell(cells.get((subject, contrast, name))) for name in names),
        ]
        for subject, contrast in places
    ]
    counted = [_counted(claims[claims["claim"] == name]["outcome"]) for name in names]
    return Table(
        caption=(
            "Every claim of every subject, failures included; below, how often each holds among "
            "those that could be tested."
        ),
        columns=[Column("Subject", "and contrast"), *(Column(_claim_name(n)) for n in names)],
        rows=[*rows, [Cell("Holds in"), *(Cell(count) for count in counted)]],
        source="validation/<subject>/claims.parquet",
        data=data,
    )


def claim_table(claims: pd.DataFrame, source: str, data: str) -> Table:
    """Show every claim that a finding made, with what came of it.

    Parameters
    ----------
    claims : DataFrame
        Rows of one finding.
    source, data : str
        Where they come from; where they are repeated.

    Returns
    -------
    Table
        One row per claim.
    """
    return Table(
        caption=(
            "Every claim that was made, fixed before the re-run. The effect is in the direction "
            "that is claimed; a claim holds if its p, corrected for the claims of its family, is "
            "small enough, and fails if its interval shows the contrary."
        ),
        columns=[
            Column("Claim"),
            Column("Outcome"),
            Column("Statement"),
            Column("Effect", "with its interval", "number"),
            Column("p", "corrected", "number"),
            Column("Trials", "(carriers)", "number"),
            Column("What was found"),
        ],
        rows=[_claim_row(row) for row in claims.to_dict("records")],
        source=source,
        data=data,
    )


def rival_table(evidence: Evidence, source: str, data: str) -> Table | None:
    """Say whether the finding's units do more than as many that were chosen otherwise.

    Parameters
    ----------
    evidence : Evidence
        Arms of the finding.
    source, data : str
        Where the numbers come from; where they are repeated.

    Returns
    -------
    Table or None
        One row per rival selection; None where none was run.
    """
    target, many = evidence.target(), evidence.noun.many
    finding = evidence.at_endpoint(target, "finding")
    own, low, _ = evidence.effect(finding)
    units = set(map(tuple, words.read_units(finding["units"].iloc[0]))) if len(finding) else set()
    rows = []
    for arm, name in RIVALS.items():
        rival = evidence.at_endpoint(target, arm)
        if rival.empty:
            continue
        effect = float(evidence.effects(rival).iloc[0])
        chosen = words.read_units(rival["units"].iloc[0])
        shared = len(units & set(map(tuple, chosen)))
        beaten = "beaten" if low > effect else "not beaten"
        rows.append(
            [
                Cell(words.sentence(f"{many}: {name}")),
                Cell(words.unit_names(chosen), note=f"{shared} of them are the finding's"),
                Cell(words.number(effect), "number"),
                Cell(f"same {many}" if shared == len(units) else beaten),
            ]
        )
    if not rows:
        return None
    return Table(
        caption=(
            f"As many {many} chosen in other ways, at the primary endpoint, where the finding's "
            f"have an effect of {words.number(own)} ({evidence.effect_label}). A rival is beaten "
            "if its effect is below the interval of the finding's. Decides nothing."
        ),
        columns=[
            Column("Selection"),
            Column("Units"),
            Column("Effect", kind="number"),
            Column("Against the finding"),
        ],
        rows=rows,
        source=source,
        data=data,
    )


def comparison_table(rows: pd.DataFrame, data: str) -> Table:
    """Show how what the units of two subjects do differs, on the same trials.

    Parameters
    ----------
    rows : DataFrame
        Rows of ``comparisons.parquet``.
    data : str
        File with the same rows.

    Returns
    -------
    Table
        One row per pair, finding and condition.
    """
    return Table(
        caption=(
            "Subjects of one base on the same trials: the change of the score with each one's own "
            "units off, and the difference of the changes with its interval over carriers. That an "
            "effect is there in one and not shown in the other is no difference."
        ),
        columns=[
            Column("Subjects", "and contrast"),
            Column("Trials"),
            Column("First", "change", "number"),
            Column("Second", "change", "number"),
            Column("Difference", "with its interval", "number"),
            Column("p", "corrected", "number"),
            Column("Outcome"),
            Column("Trials", "(carriers)", "number"),
        ],
        rows=[_comparison_row(row) for row in rows.to_dict("records")],
        source="comparisons.parquet",
        data=data,
    )


def rule_lines(finding: dict, verdict: dict) -> Sequence[tuple[str, str]]:
    """Say what the rule was, when it was fixed, and what the kernels say.

    Parameters
    ----------
    finding : dict
        The finding.
    verdict : dict
        Row of ``verdicts.parquet``.

    Returns
    -------
    list of tuple of str
        Lead and text.
    """
    endpoint = finding["primary_endpoint"]
    lines = [
        (
            "Rule.",
            f"{words.score_name(endpoint['score']).capitalize()} in "
            f"{words.listing(map(words.readable, endpoint['target']))} of "
            f"{words.readable(endpoint['task'])} must {endpoint['direction']} by more than "
            f"{endpoint['margin']:g}, beyond {endpoint['shams']} sham maps at "
            f"{endpoint['alpha']:g} over {endpoint['claims']} claims; all else must stay.",
        ),
        ("Fixed", f"{finding['written']}, sha256 {finding['hash']}."),
        ("Kernels.", _kernel(verdict)),
    ]
    if cut := int(verdict.get("cut") or 0):
        lines.append(
            ("Cut.", f"{words.plural(cut, 'response')} reached the limit of their length.")
        )
    return lines


def _kernel(verdict: dict) -> str:
    trials = int(verdict.get("kernel_trials") or 0)
    if not trials:
        why = verdict.get("kernel_reason") or "no kernel was run"
        return f"Not repeated on the kernels: {why}."
    return (
        f"{int(verdict['kernel_agreeing'])} of {trials} trials have the same score one at a time "
        f"on the kernels that skip ({verdict['kernel']}) as on the reference."
    )


def _claim_name(name: str) -> str:
    return words.sentence(words.readable(name))


def _outcome_cell(row: dict | None) -> Cell:
    if row is None:
        return Cell("not claimed")
    return Cell(str(row["outcome"]), "verdict")


def _counted(outcomes: pd.Series) -> str:
    tested = int((outcomes != OUTCOMES[-1]).sum())
    return f"{int((outcomes == OUTCOMES[0]).sum())} of {tested}"


def _claim_row(row: dict) -> list[Cell]:
    return [
        Cell(_claim_name(row["claim"]), note=str(row["family"])),
        Cell(str(row["outcome"]), "verdict"),
        Cell(str(row["statement"]), note=str(row["statistic"])),
        Cell(words.signed(row["effect"]), "number", words.interval(row["low"], row["high"])),
        Cell(words.probability(row["p"]), "number", words.probability(row["p_corrected"])),
        Cell(f"{words.whole(row['n'])} ({words.whole(row['n_carriers'])})", "number"),
        Cell(str(row["reason"])),
    ]


def _comparison_row(row: dict) -> list[Cell]:
    place = words.condition_name(row["task"], row["condition"])
    return [
        Cell(f"{row['first']}, {row['second']}", note=words.readable(row["contrast"])),
        Cell(place, note=f"{row['trial_role']}, {words.score_name(row['score'])}"),
        *(
            Cell(
                words.signed(row[f"{who}_effect"]),
                "number",
                words.interval(row[f"{who}_low"], row[f"{who}_high"]),
            )
            for who in ("first", "second")
        ),
        Cell(words.signed(row["difference"]), "number", words.interval(row["low"], row["high"])),
        Cell(words.probability(row["p_corrected"]), "number"),
        Cell(str(row["outcome"])),
        Cell(f"{words.whole(row['n'])} ({words.whole(row['n_carriers'])})", "number"),
    ]
