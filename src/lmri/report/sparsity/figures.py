"""Quality and speed against sparsity."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from lmri.report import words
from lmri.report.figures.curves import Curve, draw_curves
from lmri.report.sparsity.names import SOURCE, percent, policy_name
from lmri.report.view import Figure, Panel

HIGHEST_RATIO = 10.0
"""Perplexity ratios above are cut: the model is lost there, whatever the number."""

QUARTILES = [0.25, 0.5, 0.75]


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
            ends = kept["ratio_low"] - 1, kept["ratio_high"].clip(upper=HIGHEST_RATIO) - 1
            curves.append(
                Curve(
                    policy_name(str(policy)),
                    kept["sparsity"].tolist(),
                    (kept["perplexity_ratio"] - 1).tolist(),
                    *(end.tolist() for end in ends),
                )
            )
        names = ("weights not read, share", "rise of the perplexity")
        drawing = draw_curves(curves, f"sparse-{number}", names=names, level=0.0, linear=0.01)
        panels.append(Panel(drawing, title=str(subject)))
        lowest = rows.loc[rows["sparsity"].idxmin()]
        told.append(
            f"{subject}: from a rise of {words.number(lowest['perplexity_ratio'] - 1, 3)} at "
            f"{percent(lowest['sparsity'])} to one of "
            f"{words.number(rows['perplexity_ratio'].max() - 1)} at "
            f"{percent(rows['sparsity'].max())}"
        )
    if not panels:
        return None
    return Figure(
        title="Perplexity of the answers under each policy",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "A curve that stays at 0 while it goes right: weights that are not read are not "
            "missed. The horizontal axis counts what was really skipped, of the weights that a "
            "token is multiplied with, so that policies that touch few of them end early. "
            "The vertical axis is linear up to 0.01, a rise of 1 %, and logarithmic beyond."
        ),
        falsify=(
            "A curve that rises at once: the rule takes away what is needed. Points above "
            f"{HIGHEST_RATIO - 1:g} are left out; lines up and down are 95 % intervals over "
            "carriers."
        ),
        source=SOURCE.format("quality"),
        data=data,
        layout="medium",
    )


def speed_figure(speed: pd.DataFrame, data: str) -> Figure | None:
    """Draw how many times faster decoding is than at 0 %, beside the ideal; a panel per subject.

    Arms are compared within a round, whose times are of the same minute: on shared cores those of
    different rounds differ by more than what is looked for.

    Parameters
    ----------
    speed : DataFrame
        Every repeat.
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
    keys = ["subject", "policy", "plan", "sparsity", "ideal"]
    seconds = decode.pivot_table(index=[*keys, "round"], columns="arm", values="seconds")
    gains = (seconds["dense"] / seconds["sparse"]).groupby(keys).quantile(QUARTILES).unstack()
    ratios = gains.set_axis(["low", "ratio", "high"], axis=1).reset_index()
    # Each plan has its own runtime at 0 %: that of its policy.
    plain = (seconds["transformers"] / seconds["dense"]).groupby(["subject", "policy"])
    plain = plain.quantile(QUARTILES).unstack()
    panels, told = [], []
    timed = set(ratios["subject"])
    for number, subject in enumerate(n for n in speed["subject"].unique() if n in timed):
        rows = ratios[ratios["subject"] == subject]
        ordered = rows.sort_values("sparsity")
        curves = [
            Curve(
                policy_name(str(policy)),
                *(own[name].tolist() for name in ("sparsity", "ratio", "low", "high")),
            )
            for policy, own in ordered.groupby("policy", sort=True)
        ]
        ideal = Curve("ideal", ordered["sparsity"].tolist(), ordered["ideal"].tolist())
        names = ("weights not read while decoding, share", "speed / the same at 0 %")
        drawing = draw_curves(curves, f"speed-{number}", names=names, line=ideal, level=1.0)
        panels.append(Panel(drawing, title=str(subject)))
        best = ordered.loc[ordered["ratio"].idxmax()]
        told.append(
            f"{subject}: at most {words.number(best['ratio'])} times the same at 0 % "
            f"({policy_name(str(best['policy']))}), which is "
            f"{words.number(plain.loc[(subject, best['policy']), 0.5])} times plain transformers"
        )
    first = speed.iloc[0]
    return Figure(
        title="Speed of decoding at batch 1, over that of the same runtime that skips nothing",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "Curves along the dashed line, which is all weights over those that are read. "
            f"Backend {first['backend']}, {words.plural(int(first['threads']), 'thread')}. The "
            "plan, the same at 0 % and plain transformers took turns on the same machine: a point "
            "is the median over the rounds of the ratio within a round, and the line through it "
            f"goes from quartile to quartile ({_rounds(decode)}). At 0 % against plain "
            f"transformers: {words.listing(_against_plain(plain))}."
        ),
        falsify=(
            "Curves below 1: the model is so small that calling a product takes longer than "
            "reading its weights, and nothing is gained. Points above the dashed line, or long "
            "lines through them: the cores were busy otherwise. Times are not reproducible."
        ),
        source=SOURCE.format("speed"),
        data=data,
        layout="medium",
    )


def _against_plain(plain: pd.DataFrame) -> Iterator[str]:
    """Say how fast each runtime that skips nothing is; columns are quartiles."""
    for (subject, policy), own in plain.iterrows():
        low, middle, high = (words.number(own[quartile]) for quartile in QUARTILES)
        yield f"{subject} {policy_name(str(policy))} {middle} ({low} to {high})"


def _rounds(decode: pd.DataFrame) -> str:
    """Say how often every plan was timed."""
    counts = decode.groupby(["subject", "plan"])["round"].nunique()
    if counts.min() == counts.max():
        return words.plural(int(counts.max()), "round")
    return f"{counts.min()} to {counts.max()} rounds"
