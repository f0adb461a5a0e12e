"""The page of sparsity: what subjects can do without, at what cost, and how fast that is."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmri.report import words
from lmri.report.figures.curves import Curve, draw_curves
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.sparse import ALL
from lmri.report.view import Cell, Column, Figure, Fold, Heading, Leaf, Panel, Table

POLICIES = {
    "cats": "CATS",
    "cett": "CETT",
    "chess": "CHESS",
    "fatrelu": "FATReLU",
    "relu": "ReLU",
    "statistical_top_k": "statistical top-k",
    "teal": "TEAL",
    "teal_greedy": "TEAL, greedy",
    "top_k": "top-k",
    "wina": "WINA",
    "wina_k_gate": "WINA, keys and gate",
}
"""Names of policies for people."""

SOURCE = "sparse/<subject>/{}.parquet"

HIGHEST_RATIO = 10.0
"""Perplexity ratios above are cut: the model is lost there, whatever the number."""


def policy_name(policy: str) -> str:
    """Name a policy for people."""
    return POLICIES.get(policy, words.readable(policy))


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
        speed_figure(sparse.speed, sparse.overall, data["speed"]),
        Heading("What was asked, what was achieved"),
        achieved_table(sparse.achieved, data["achieved"]),
        *_findings(inputs, files),
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


def quality_figure(overall: pd.DataFrame, data: str) -> Figure | None:
    """Draw perplexity against sparsity, a panel per subject and a curve per policy.

    Parameters
    ----------
    overall : DataFrame
        Quality over all tasks.
    data : str
        File with all rows.

    Returns
    -------
    Figure or None
        None without rows.
    """
    panels, told = [], []
    for number, (subject, rows) in enumerate(overall.groupby("subject", sort=False)):
        curves = []
        for policy, own in rows.groupby("policy", sort=True):
            kept = own[own["perplexity_ratio"] <= HIGHEST_RATIO]
            ends = kept["ratio_low"], kept["ratio_high"].clip(upper=HIGHEST_RATIO)
            curves.append(
                Curve(
                    policy_name(str(policy)),
                    kept["sparsity"].tolist(),
                    kept["perplexity_ratio"].tolist(),
                    *(end.tolist() for end in ends),
                )
            )
        names = ("weights not read, share of the model", "perplexity / dense")
        drawing = draw_curves(curves, f"sparse-{number}", names=names, level=1.0, log=True)
        panels.append(Panel(drawing, title=str(subject)))
        best = rows[rows["perplexity_ratio"] <= 1.01]
        most = best["sparsity"].max() if len(best) else 0.0
        told.append(f"{subject}: up to {_percent(most)} of the weights at a ratio of at most 1.01")
    if not panels:
        return None
    return Figure(
        title="Perplexity of the answers under each policy",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "A curve that stays at 1 while it goes right: weights that are not read are not "
            "missed. The horizontal axis counts what was really skipped, of all weights of the "
            "layers, so that policies that touch few of them end early."
        ),
        falsify=(
            "A curve that rises at once: the rule takes away what is needed. Points above "
            f"{HIGHEST_RATIO:g} are left out; lines up and down are 95 % intervals over carriers."
        ),
        source=SOURCE.format("quality"),
        data=data,
    )


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
    loss = _percent(limits["loss"].iloc[0])
    rows = []
    for policy, own in limits.groupby("policy", sort=True):
        by_subject = {row["subject"]: row for row in own.to_dict("records")}
        cells = [_limit_cell(by_subject.get(subject)) for subject in subjects]
        rows.append([Cell(policy_name(str(policy))), *cells])
    return Table(
        caption=(
            f"Largest share of the model's weights that was skipped with a perplexity less than "
            f"{loss} above the dense one, of the sparsities that were measured; below it the next "
            "one that was, and its ratio."
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
            "from the dense ones, nat per token; share of trials answered exactly, and its change."
        ),
        columns=[
            Column("Subject"),
            Column("Policy"),
            Column("Task"),
            Column("Asked", "of its own inputs", "number"),
            Column("Skipped", "of the model", "number"),
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


def speed_figure(speed: pd.DataFrame, overall: pd.DataFrame, data: str) -> Figure | None:
    """Draw the speed of decoding beside the ideal, a panel per subject.

    Parameters
    ----------
    speed : DataFrame
        Every repeat.
    overall : DataFrame
        Quality over all tasks, for the sparsity of every plan.
    data : str
        File with all rows.

    Returns
    -------
    Figure or None
        None where nothing was timed.
    """
    decode = speed[speed["phase"] == "decode"]
    if decode.empty:
        return None
    rates = decode.assign(rate=decode["tokens"] / decode["seconds"])
    keys = ["subject", "policy", "plan", "ideal"]
    medians = rates.pivot_table(index=keys, columns="arm", values="rate", aggfunc="median")
    ratios = (medians["sparse"] / medians["dense"]).rename("ratio").reset_index()
    sparsity = overall.set_index(["subject", "plan"])["sparsity"]
    ratios["sparsity"] = [sparsity.get((s, p), np.nan) for s, p in ratios[keys[:3:2]].to_numpy()]
    panels, told = [], []
    for number, (subject, rows) in enumerate(ratios.groupby("subject", sort=False)):
        ordered = rows.sort_values("sparsity")
        curves = [
            Curve(policy_name(str(policy)), own["sparsity"].tolist(), own["ratio"].tolist())
            for policy, own in ordered.groupby("policy", sort=True)
        ]
        ideal = Curve("ideal", ordered["sparsity"].tolist(), ordered["ideal"].tolist())
        names = ("weights not read, share of the model", "speed / dense")
        drawing = draw_curves(curves, f"speed-{number}", names=names, line=ideal, level=1.0)
        panels.append(Panel(drawing, title=str(subject)))
        best = ordered.loc[ordered["ratio"].idxmax()]
        told.append(
            f"{subject}: at most {words.number(best['ratio'])} times dense "
            f"({policy_name(str(best['policy']))})"
        )
    first = speed.iloc[0]
    return Figure(
        title="Tokens per second at batch 1, beside the dense model",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "Curves along the dashed line, which is the dense model's bytes over those that are "
            f"read. Backend {first['backend']}, {words.plural(int(first['threads']), 'thread')}, "
            "median of the repeats, in turns with the dense model on the same machine."
        ),
        falsify=(
            "Curves below 1: the model is so small that calling a product takes longer than "
            "reading its weights, and nothing is gained. Times are not reproducible bit for bit."
        ),
        source=SOURCE.format("speed"),
        data=data,
    )


def achieved_table(achieved: pd.DataFrame, data: str) -> Table | None:
    """Tell what share was asked for, what the calibration gave and what unseen trials gave.

    Parameters
    ----------
    achieved : DataFrame
        Every rule of every plan.
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
    keys = ["subject", "policy", "asked", "denominator"]
    cells = []
    for (subject, policy, asked, of), own in rows.groupby(keys, sort=True, dropna=False):
        shares = own["achieved"]
        cells.append(
            [
                Cell(str(subject)),
                Cell(policy_name(str(policy))),
                Cell(str(of)),
                Cell(_percent(asked), "number"),
                Cell(_percent(own["calibrated"].mean()), "number"),
                Cell(
                    _percent(shares.mean()),
                    "number",
                    f"{_percent(shares.min())} to {_percent(shares.max())}",
                ),
                Cell(words.whole(len(own)), "number"),
            ]
        )
    return Table(
        caption=(
            "The share asked for, that on the calibration trials, and that on trials the policy "
            "never saw (mean over its sites, with the smallest and the largest)."
        ),
        columns=[
            Column("Subject"),
            Column("Policy"),
            Column("Share of"),
            Column("Asked", kind="number"),
            Column("Calibrated", kind="number"),
            Column("Achieved", "on unseen trials", "number"),
            Column("Sites", kind="number"),
        ],
        rows=cells,
        source=SOURCE.format("achieved"),
        data=data,
        layout="grid",
    )


def _findings(inputs: StudyInputs, files: Files) -> list:
    """Findings re-run under a policy: rows of the arms that are named so."""
    arms = pd.concat([subject.arms for subject in inputs.subjects], ignore_index=True)
    rows = arms[arms["arm"] == "finding_sparse"]
    if rows.empty:
        return []
    data = files.add("sparse-findings", rows)
    dense = arms[(arms["arm"] == "finding") & arms["primary"] & (arms["held_out"] == "all")]
    keys = ["subject", "contrast", "phase", "kind", "method", "task", "condition", "score"]
    effects = dense.set_index(keys)["effect"]
    table = Table(
        caption=(
            "The effect of switching a finding off, in the dense model and in one that is sparse "
            f"already (plan {inputs.config.sparse.finding_plan}). An effect that stays was not a "
            "matter of the weights that a token can do without."
        ),
        columns=[
            Column("Subject"),
            Column("Contrast"),
            Column("Units"),
            Column("Dense", "effect", "number"),
            Column("Sparse", "effect", "number"),
            Column("Sparse, intact", "score", "number"),
        ],
        rows=[_finding_row(row, effects, keys) for row in rows.to_dict("records")],
        source="validation/<subject>/arms.parquet",
        data=data,
    )
    return [Heading("Do findings survive?"), table]


def _finding_row(row: dict, effects: pd.Series, keys: list[str]) -> list[Cell]:
    found = effects.get(tuple(row[key] for key in keys), np.nan)
    dense = float(found.iloc[0]) if isinstance(found, pd.Series) else float(found)
    return [
        Cell(str(row["subject"])),
        Cell(words.readable(row["contrast"])),
        Cell(words.readable(row["kind"])),
        Cell(words.signed(dense), "number"),
        Cell(words.signed(row["effect"]), "number", words.interval(row["low"], row["high"])),
        Cell(words.number(row["intact"]), "number"),
    ]


def _quality_row(row: dict) -> list[Cell]:
    return [
        Cell(str(row["subject"])),
        Cell(policy_name(str(row["policy"]))),
        Cell(words.readable(str(row["task"]))),
        Cell(_percent(row["asked"]), "number"),
        Cell(_percent(row["sparsity"]), "number"),
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
    beyond = f"{_percent(row['next_sparsity'])}: {words.number(row['next_ratio'], 3)}"
    note = beyond if np.isfinite(row["next_sparsity"]) else "none measured beyond"
    share = _percent(row["sparsity"]) if row["plan"] else "none measured"
    return Cell(share, "number", note)


def _answer(limits: pd.DataFrame) -> str:
    parts = []
    for subject, rows in limits.groupby("subject", sort=False):
        best = rows.loc[rows["sparsity"].idxmax()]
        parts.append(
            f"{subject} does without {_percent(best['sparsity'])} of its weights under "
            f"{policy_name(str(best['policy']))}"
        )
    if not parts:
        return ""
    loss = _percent(limits["loss"].iloc[0])
    return f"At a perplexity less than {loss} above the dense one, {words.listing(parts)}."


def _percent(share: float) -> str:
    return words.NOTHING if share is None or not np.isfinite(share) else f"{100 * share:.3g} %"
