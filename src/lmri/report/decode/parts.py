"""Tables of the page of decoding."""

from __future__ import annotations

import pandas as pd

from lmri.report import words
from lmri.report.decode.tables import SOURCE, is_known
from lmri.report.kinds import MapName
from lmri.report.view import Cell, Column, Table


def used_table(rows: pd.DataFrame, data: str) -> Table:
    """Put what is decodable in each layer beside what switching its units off does."""
    return Table(
        caption=(
            "Each layer at the primary phase: balanced accuracy on new carriers, and the change of "
            "the behaviour in target trials without mapped units of that layer. Where no arm "
            "switches this layer alone, the one with the fewest units of other layers stands in "
            "and says so. Shams are maps of trials without the label, as many of their units "
            "switched off: a change that some of them reach says nothing of the mapped units. Maps "
            "that are exploratory stay so."
        ),
        columns=[
            Column("Subject"),
            Column("Contrast"),
            Column("Layer", kind="number"),
            Column("Accuracy", "95 % over carriers", "number"),
            Column("p", "max over layers and positions", "number"),
            Column("Switched off"),
            Column("Change", "95 % interval", "number"),
            Column("Shams", "from, to; how many", "number"),
        ],
        rows=[_used_row(row) for row in rows.to_dict("records")],
        source=f"{SOURCE.format('profile')}, validation/<subject>/arms.parquet",
        data=data,
        layout="grid",
    )


def _used_row(row: dict) -> list[Cell]:
    off, change = Cell(words.NOTHING), Cell(words.NOTHING, "number")
    shams = Cell(words.NOTHING, "number")
    if is_known(row.get("effect")):
        noun = MapName(f"{row['kind']}.{row['method']}").noun
        units = noun.count(int(row["units"]))
        rest = row["others"]
        note = (
            f"with units of layer {words.listing(map(str, rest))}" if rest else "this layer alone"
        )
        off = Cell(f"{units}, {words.mode_name(row['mode'])}", note=note)
        change = Cell(
            words.signed(row["effect"]),
            "number",
            words.interval(row["effect_low"], row["effect_high"]),
        )
    if is_known(row.get("sham_least")):
        ends = f"{words.signed(row['sham_least'])} to {words.signed(row['sham_most'])}"
        shams = Cell(ends, "number", words.whole(row["shams"]))
    return [
        Cell(str(row["subject"])),
        Cell(words.readable(row["contrast"])),
        Cell(words.whole(row["layer"]), "number"),
        Cell(
            words.number(row["accuracy"]),
            "number",
            words.interval(row["accuracy_low"], row["accuracy_high"]),
        ),
        Cell(words.probability(row["p_max"]), "number"),
        off,
        change,
        shams,
    ]


def profile_table(rows: pd.DataFrame, data: str) -> Table:
    """Tell every cell of the profiles."""
    wide = rows[rows["statistic"] == "balanced_accuracy"]
    areas = rows[rows["statistic"] == "auc"]
    keys = ["subject", "task", "question", "position", "layer"]
    both = wide.merge(areas[[*keys, "value", "p_max"]], on=keys, suffixes=("", "_auc"))
    return Table(
        caption=(
            "Held-out carriers only. Chance of the balanced accuracy is one over the number of "
            "classes, of the AUC .5; p is that of the best of all layers and positions."
        ),
        columns=[
            Column("Subject"),
            Column("Label"),
            Column("Position"),
            Column("Layer", kind="number"),
            Column("Accuracy", "95 % over carriers", "number"),
            Column("Exchanged", "mean, 95 %", "number"),
            Column("p", kind="number"),
            Column("AUC", "p", "number"),
            Column("Trials", "carriers", "number"),
        ],
        rows=[_profile_row(row) for row in both.to_dict("records")],
        source=SOURCE.format("profile"),
        data=data,
        layout="grid",
    )


def _profile_row(row: dict) -> list[Cell]:
    null = f"{words.number(row['null_mean'])}, {words.number(row['null_upper'])}"
    return [
        Cell(str(row["subject"])),
        Cell(words.readable(row["question"]), note=words.readable(row["task"])),
        Cell(str(row["position"]).replace("_", " ")),
        Cell(words.whole(row["layer"]), "number"),
        Cell(words.number(row["value"]), "number", words.interval(row["low"], row["high"])),
        Cell(null if is_known(row["null_mean"]) else words.NOTHING, "number"),
        Cell(words.probability(row["p_max"]), "number"),
        Cell(words.number(row["value_auc"]), "number", f"p {words.probability(row['p_max_auc'])}"),
        Cell(words.whole(row["n"]), "number", words.whole(row["carriers"])),
    ]


def masks_table(rows: pd.DataFrame, data: str) -> Table:
    """Tell how mapped units do beside whole layers and random masks."""
    return Table(
        caption=(
            "Trials that no map was made on. A random mask has as many units in the same layers; "
            "no two are alike, and where few exist all of them are taken. p is the share of masks, "
            "the mapped one among them, that do as well; it can be no less than the number beneath "
            "it. A whole layer that does better holds more about the label than the map names; a "
            "random mask that does as well says that the label is spread over the layer."
        ),
        columns=[
            Column("Subject"),
            Column("Contrast"),
            Column("Map"),
            Column("Units", "layers", "number"),
            Column("Mapped", "95 % over carriers", "number"),
            Column("Whole layers", "mapped minus whole, 95 %", "number"),
            Column("Random masks", "mean, 95 %; how many", "number"),
            Column("p", "least possible", "number"),
            Column("Trials", kind="number"),
        ],
        rows=[
            [
                Cell(str(row["subject"])),
                Cell(words.readable(row["contrast"])),
                Cell(f"{row['kind']}.{row['method']}", "code"),
                Cell(words.whole(row["units"]), "number", words.whole(row["layers"])),
                Cell(
                    words.number(row["localised"]),
                    "number",
                    words.interval(row["low"], row["high"]),
                ),
                Cell(
                    words.number(row["whole"]),
                    "number",
                    words.interval(row["difference_low"], row["difference_high"]),
                ),
                Cell(
                    f"{words.number(row['random_mean'])}, {words.number(row['random_upper'])}",
                    "number",
                    words.whole(row["masks"]),
                ),
                Cell(
                    words.probability(row["p"]),
                    "number",
                    words.probability(1 / (1 + row["masks"])),
                ),
                Cell(words.whole(row["n"]), "number"),
            ]
            for row in rows.to_dict("records")
        ],
        source=SOURCE.format("masks"),
        data=data,
        layout="grid",
    )


def bags_table(rows: pd.DataFrame, data: str) -> Table:
    """Tell how bags of tokens are decoded, and what their conformal sets are worth."""
    first = rows.iloc[0]
    return Table(
        caption=(
            f"The last {words.whole(first['bag'])} tokens of a prompt, of which one is enough. A "
            "set holds every class that cannot be excluded; one with a single class is an answer, "
            "an empty one or one of several is neither. Coverage should lie in its range, or "
            f"above: at least {words.number(first['nominal'])} is what was asked for."
        ),
        columns=[
            Column("Subject"),
            Column("Label"),
            Column("Layer", kind="number"),
            Column("Accuracy", "AUC", "number"),
            Column("Coverage", "expected of carriers", "number"),
            Column("Worst class", kind="number"),
            Column("Answered", "accuracy then", "number"),
            Column("Neither", "empty, several", "number"),
            Column("Trials", "calibrated on carriers", "number"),
        ],
        rows=[_bags_row(row) for row in rows.to_dict("records")],
        source=SOURCE.format("bags"),
        data=data,
        layout="grid",
    )


def _bags_row(row: dict) -> list[Cell]:
    neither = f"{words.number(row['empty'])}, {words.number(row['several'])}"
    return [
        Cell(str(row["subject"])),
        Cell(words.readable(row["question"]), note=words.readable(row["task"])),
        Cell(words.whole(row["layer"]), "number"),
        Cell(words.number(row["balanced_accuracy"]), "number", words.number(row["auc"])),
        Cell(
            words.number(row["coverage"]),
            "number",
            words.interval(row["expected_low"], row["expected_high"]),
        ),
        Cell(words.number(row["coverage_worst_class"]), "number"),
        Cell(words.number(row["answered"]), "number", words.number(row["accuracy_answered"])),
        Cell(words.number(row["empty"] + row["several"]), "number", neither),
        Cell(words.whole(row["n"]), "number", words.whole(row["calibrated"])),
    ]


def regions_table(rows: pd.DataFrame, data: str) -> Table:
    """Tell what a decoder of all layers loses without a group of them."""
    return Table(
        caption=(
            "Balanced accuracy of a decoder of all layers at the primary phase. What other layers "
            "tell as well is not missed: a small loss does not mean that the group is silent, "
            "which its accuracy alone shows. p counts the groups of as many layers that lose as "
            "much; with few layers it cannot be small."
        ),
        columns=[
            Column("Subject"),
            Column("Label"),
            Column("Layers"),
            Column("All layers", kind="number"),
            Column("Without", kind="number"),
            Column("Loss", "95 % over carriers", "number"),
            Column("Others lose", "groups", "number"),
            Column("p", kind="number"),
            Column("Alone", kind="number"),
        ],
        rows=[
            [
                Cell(str(row["subject"])),
                Cell(words.readable(row["question"]), note=words.readable(row["task"])),
                Cell(str(row["region"])),
                Cell(words.number(row["all"]), "number"),
                Cell(words.number(row["without"]), "number"),
                Cell(words.signed(row["loss"]), "number", words.interval(row["low"], row["high"])),
                Cell(words.signed(row["random_mean"]), "number", words.whole(row["groups"])),
                Cell(words.probability(row["p"]), "number"),
                Cell(words.number(row["alone"]), "number"),
            ]
            for row in rows.to_dict("records")
        ],
        source=SOURCE.format("regions"),
        data=data,
        layout="grid",
    )
