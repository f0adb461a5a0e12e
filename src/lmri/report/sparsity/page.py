"""The page of sparsity: what subjects can do without, at what cost, and how fast that is."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmri.report import words
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.sparsity.figures import quality_figure, speed_figure
from lmri.report.sparsity.findings import surviving_findings
from lmri.report.sparsity.names import SOURCE, amount, percent, policy_name
from lmri.report.sparsity.tables import ALL
from lmri.report.view import Cell, Column, Fold, Heading, Leaf, Table

ARMS = {"sparse": "sparse", "dense": "at 0 %", "transformers": "transformers"}
"""What is timed in turns, with the words of a column."""


def sparse_leaf(inputs: StudyInputs, path: str, files: Files) -> Leaf:
    """Make the page of sparsity.

    Parameters
    ----------
    inputs : StudyInputs
        A study with sparse runs.
    path : str
        Of the page, relative to the report.
    files : Files
        Takes the tables.

    Returns
    -------
    Leaf
        Quality against sparsity, limits, speed, what was achieved, findings under a policy.
    """
    sparse = inputs.sparse
    data = {
        name: files.add(f"sparse-{name}", getattr(sparse, name))
        for name in ("quality", "achieved", "speed", "limits")
    }
    blocks = [
        Heading("Quality against sparsity"),
        quality_figure(sparse.overall, data["quality"]),
        limit_table(sparse.limits, data["limits"]),
        Fold("Every policy, sparsity and task", quality_table(sparse.quality, data["quality"])),
        Heading("Speed against sparsity"),
        speed_figure(sparse.speed, data["speed"]),
        _folded("Tokens per second", speed_table(sparse.speed, data["speed"])),
        Heading("What was asked, what was achieved"),
        _folded(
            "Every policy and sparsity",
            achieved_table(sparse.achieved, sparse.overall, data["achieved"]),
        ),
        *surviving_findings(inputs, files),
    ]
    return Leaf(
        path=path,
        study=inputs.config.study,
        eyebrow="sparsity of all subjects",
        title="Sparsity",
        question="How much of a model can a token do without, and which rule finds it best?",
        answer=_answer(sparse.limits),
        role="",
        blocks=[block for block in blocks if block is not None],
    )


def _folded(title: str, table: Table | None) -> Fold | None:
    return None if table is None else Fold(title, table)


def limit_table(limits: pd.DataFrame, data: str) -> Table | None:
    """Tell for every subject and policy the sparsity at which perplexity has risen by a share.

    Parameters
    ----------
    limits : DataFrame
        One row per subject and policy.
    data : str
        File with all rows.

    Returns
    -------
    Table or None
        None without rows.
    """
    if limits.empty:
        return None
    subjects = list(dict.fromkeys(limits["subject"]))
    loss = percent(limits["loss"].iloc[0])
    rows = []
    for policy, own in limits.groupby("policy", sort=True):
        by_subject = {row["subject"]: row for row in own.to_dict("records")}
        cells = [_limit_cell(by_subject.get(subject)) for subject in subjects]
        rows.append([Cell(policy_name(str(policy))), *cells])
    return Table(
        caption=(
            "Largest share of the weights a token is multiplied with that was skipped while the "
            f"upper end of the 95 % interval of the perplexity stayed less than {loss} above the "
            "dense one, of the sparsities that were measured. Chosen on the trials it is told of: "
            "a description, no test. Below: the task that lost most exact answers, and the next "
            "sparsity that was measured, with its ratio."
        ),
        columns=[Column("Policy"), *(Column(str(name), kind="number") for name in subjects)],
        rows=rows,
        source=SOURCE.format("limits"),
        data=data,
    )


def quality_table(quality: pd.DataFrame, data: str) -> Table:
    """List quality by subject, policy, sparsity and task.

    Parameters
    ----------
    quality : DataFrame
        All rows.
    data : str
        File with all rows.

    Returns
    -------
    Table
        One row each.
    """
    ordered = quality.sort_values(["subject", "policy", "asked"], kind="stable")
    return Table(
        caption=(
            "Perplexity ratio with its 95 % interval over carriers; divergence of the predictions "
            "from the dense ones, nat per token; share of trials answered exactly, and its change. "
            "Asked is the share of a policy's own inputs; of CETT its tail error, of skipped "
            "experts the quantile of the ratios of weights. Skipped is the share of all weights a "
            "token is multiplied with."
        ),
        columns=[
            Column("Subject"),
            Column("Policy"),
            Column("Task"),
            Column("Asked", "see the caption", "number"),
            Column("Skipped", "of weights", "number"),
            Column("Perplexity ratio", kind="number"),
            Column("Divergence", "nat", "number"),
            Column("Exact", kind="number"),
            Column("Trials", kind="number"),
        ],
        rows=[_quality_row(row) for row in ordered.to_dict("records")],
        source=SOURCE.format("quality"),
        data=data,
        layout="grid",
    )


def speed_table(speed: pd.DataFrame, data: str) -> Table | None:
    """List tokens per second of both phases under every plan, and without.

    Parameters
    ----------
    speed : DataFrame
        Every repeat.
    data : str
        File with all rows.

    Returns
    -------
    Table or None
        None where nothing was timed; one row per subject and plan.
    """
    if speed.empty:
        return None
    rates = speed.assign(rate=speed["tokens"] / speed["seconds"])
    keys = ["subject", "plan"]
    medians = rates.groupby([*keys, "phase", "arm"])["rate"].median().unstack(["phase", "arm"])
    timed = [(phase, arm) for phase in ("decode", "prefill") for arm in ARMS]
    rows = []
    # Plans in the order of the table, which is that of the study.
    for row in speed.drop_duplicates(keys).to_dict("records"):
        own = medians.loc[(row["subject"], row["plan"])]
        rows.append(
            [
                Cell(str(row["subject"])),
                Cell(policy_name(str(row["policy"]))),
                Cell(percent(row["asked"]), "number"),
                *(Cell(_rate(own.get(key, np.nan)), "number") for key in timed),
            ]
        )
    return Table(
        caption=(
            "Tokens per second at batch 1 on the wall clock, median of the rounds: under the "
            "plan, under the same plan at 0 %, and in plain transformers. Decoding runs on kernels "
            "that skip; a prefill of more than a few tokens on masked products, which make every "
            "product and the masks besides. The figure compares within rounds: quotients of two "
            "columns are not its points."
        ),
        columns=[
            Column("Subject"),
            Column("Policy"),
            Column("Asked", kind="number"),
            *(Column(phase.capitalize(), ARMS[arm], "number") for phase, arm in timed),
        ],
        rows=rows,
        source=SOURCE.format("speed"),
        data=data,
        layout="grid",
    )


def achieved_table(achieved: pd.DataFrame, overall: pd.DataFrame, data: str) -> Table | None:
    """Tell what share was asked for, what the calibration gave and what unseen trials gave.

    Parameters
    ----------
    achieved : DataFrame
        Every rule of every plan.
    overall : DataFrame
        Quality over all tasks, which has what each plan avoids.
    data : str
        File with all rows.

    Returns
    -------
    Table or None
        None without rows; one row per subject, plan, and what the share is of.
    """
    rows = achieved[achieved["task"] == ALL]
    if rows.empty:
        return None
    keys = ["subject", "plan", "policy", "asked", "denominator"]
    avoided = overall.set_index(["subject", "plan"])[["bytes_avoided", "flops_avoided"]]
    cells = []
    for (subject, plan, policy, asked, of), own in rows.groupby(keys, sort=False, dropna=False):
        shares = own["achieved"]
        saved = avoided.reindex([(subject, plan)]).iloc[0]
        cells.append(
            [
                Cell(str(subject)),
                Cell(policy_name(str(policy))),
                Cell(str(of)),
                Cell(percent(asked), "number"),
                Cell(percent(own["calibrated"].mean()), "number"),
                Cell(
                    percent(shares.mean()),
                    "number",
                    f"{percent(shares.min())} to {percent(shares.max())}",
                ),
                Cell(words.whole(len(own)), "number"),
                Cell(
                    amount(saved["bytes_avoided"], "B"),
                    "number",
                    amount(saved["flops_avoided"], "FLOP"),
                ),
            ]
        )
    return Table(
        caption=(
            "The share asked for, that on the calibration trials, and that on trials the policy "
            "never saw (mean over its sites, with the smallest and the largest). Avoided is what a "
            "token is spared there by the whole plan, on average: bytes of weights that need not "
            "be read, and two operations for each weight; caches are not counted."
        ),
        columns=[
            Column("Subject"),
            Column("Policy"),
            Column("Share of"),
            Column("Asked", kind="number"),
            Column("Calibrated", kind="number"),
            Column("Achieved", "on unseen trials", "number"),
            Column("Sites", kind="number"),
            Column("Avoided", "bytes and FLOP a token", "number"),
        ],
        rows=cells,
        source=SOURCE.format("achieved"),
        data=data,
        layout="grid",
    )


def _rate(value: float) -> str:
    """Write tokens per second, from a hundred on without decimals."""
    return words.number(value, 0 if value >= 100 else 1)


def _quality_row(row: dict) -> list[Cell]:
    return [
        Cell(str(row["subject"])),
        Cell(policy_name(str(row["policy"]))),
        Cell(words.readable(str(row["task"]))),
        Cell(percent(row["asked"]), "number"),
        Cell(percent(row["sparsity"]), "number"),
        Cell(
            words.number(row["perplexity_ratio"], 3),
            "number",
            words.interval(row["ratio_low"], row["ratio_high"], 3),
        ),
        Cell(words.number(row["divergence"], 3), "number"),
        Cell(words.number(row["exact"]), "number", words.signed(row["exact_change"])),
        Cell(words.whole(row["n"]), "number", f"{words.whole(row['n_carriers'])} carriers"),
    ]


def _limit_cell(row: dict | None) -> Cell:
    if row is None:
        return Cell(words.NOTHING, "number")
    beyond = f"next {percent(row['next_sparsity'])}: {words.number(row['next_ratio'], 3)}"
    note = beyond if np.isfinite(row["next_sparsity"]) else "none measured beyond"
    if not row["plan"]:
        return Cell("none measured", "number", note)
    worst = f"{row['worst_task']}; " if row["worst_task"] else ""
    return Cell(percent(row["sparsity"]), "number", f"{worst}{note}")


def _answer(limits: pd.DataFrame) -> str:
    parts = []
    for subject, rows in limits.groupby("subject", sort=False):
        passed = rows[rows["plan"] != ""]
        if passed.empty:
            parts.append(f"no plan of {subject} costs so little")
            continue
        best = passed.loc[passed["sparsity"].idxmax()]
        parts.append(
            f"a token of {subject} does without {percent(best['sparsity'])} of the weights it is "
            f"multiplied with under {policy_name(str(best['policy']))}"
        )
    if not parts:
        return ""
    loss, n = percent(limits["loss"].iloc[0]), words.whole(limits["n"].iloc[0])
    return (
        f"With a perplexity less than {loss} above the dense one, upper end of its interval "
        f"included ({n} trials of all tasks, which also chose the plan): "
        f"{words.listing(parts)}."
    )
