"""The page of small networks: which claims on compression hold in this study."""

from __future__ import annotations

import pandas as pd

from lmri.report import words
from lmri.report.bottleneck.figures import compression_figure, plane_figure
from lmri.report.bottleneck.names import channel_name, layer_name, setting_name
from lmri.report.bottleneck.tables import COLUMNS, SOURCE
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.view import Cell, Column, Fold, Heading, Leaf, Table

TITLE = "Information bottleneck"
ALL = "all"
"""Channel of the verdict over channels."""

VERDICTS = {
    "holds": ("holds here", "hold here"),
    "does not hold": ("does not", "do not"),
    "not decided": ("is not decided", "are not decided"),
}
"""Verdicts, and how one claim or several have them."""


def bottleneck_leaf(inputs: StudyInputs, path: str, files: Files) -> Leaf:
    """Make the page of small networks.

    Parameters
    ----------
    inputs : StudyInputs
        A study with such networks.
    path : str
        Of the page, relative to the report.
    files : Files
        Takes the tables.

    Returns
    -------
    Leaf
        Claims, compression by layer, information planes, and how well the networks learned.
    """
    found = inputs.bottleneck
    data = {name: files.add(f"bottleneck-{name}", getattr(found, name)) for name in COLUMNS}
    blocks = [
        Heading("Which claims hold here?", _remark(inputs)),
        claims_table(found.claims, data["claims"]),
        Heading("Compression by layer"),
        compression_figure(found.compression, data["compression"], with_l2=False),
        compression_figure(found.compression, data["compression"], with_l2=True),
        _fold("Every setting, channel and layer", found.compression, data["compression"]),
        Heading("Information planes"),
        plane_figure(found.planes, data["planes"]),
        Heading("Did the networks learn?"),
        networks_table(found.networks, data["networks"]),
    ]
    return Leaf(
        path=path,
        study=inputs.config.study,
        eyebrow="small networks on a generated task",
        title=TITLE,
        question="Do layers of small networks lose information about their input as they learn?",
        answer=answer(found.claims),
        role="",
        blocks=[block for block in blocks if block is not None],
    )


def claims_table(claims: pd.DataFrame, data: str) -> Table | None:
    """List every claim with the verdict over channels, and the numbers of each channel.

    Parameters
    ----------
    claims : DataFrame
        One row per claim and channel.
    data : str
        File with all rows.

    Returns
    -------
    Table or None
        None without rows.
    """
    if claims.empty:
        return None
    channels = [name for name in dict.fromkeys(claims["channel"]) if name != ALL]
    rows = []
    for _, own in claims.groupby("claim", sort=False):
        by_channel = {row["channel"]: row for row in own.to_dict("records")}
        first = by_channel[ALL]
        rows.append(
            [
                Cell(first["text"], note=_rule(first)),
                Cell(first["verdict"], note=f"n = {words.whole(first['n'])}"),
                *(_claim_cell(by_channel[name]) for name in channels),
            ]
        )
    return Table(
        caption=(
            "Claims of Chelombiev et al. (2019), as notes on the paper tell them, with the rule "
            "that was fixed before the run. A claim is decided only where adaptive bins and "
            "adaptive noise of every strength agree; fixed bins are shown beside and decide "
            "nothing. Value, 95 % interval over initialisations, and what it says on its own."
        ),
        columns=[
            Column("Claim"),
            Column("Here", "over channels"),
            *(Column(channel_name(name), kind="number") for name in channels),
        ],
        rows=rows,
        source=SOURCE.format("claims"),
        data=data,
        layout="grid",
    )


def networks_table(networks: pd.DataFrame, data: str) -> Table | None:
    """Tell how many networks of every setting learned, and their accuracy.

    Parameters
    ----------
    networks : DataFrame
        One row per setting.
    data : str
        File with all rows.

    Returns
    -------
    Table or None
        None without rows.
    """
    if networks.empty:
        return None
    return Table(
        caption=(
            "Networks whose training accuracy exceeds that of the more frequent label by .1 have "
            "learned; only those are scored. Accuracy is theirs, at the end."
        ),
        columns=[
            Column("Setting"),
            Column("Learned", "of all", "number"),
            Column("Training", "accuracy", "number"),
            Column("Test", "accuracy", "number"),
        ],
        rows=[
            [
                Cell(setting_name(row)),
                Cell(f"{words.whole(row['learned'])} of {words.whole(row['n'])}", "number"),
                Cell(words.number(row["accuracy_training"], 3), "number"),
                Cell(
                    words.number(row["accuracy_test"], 3),
                    "number",
                    words.interval(row["low"], row["high"], 3),
                ),
            ]
            for row in networks.to_dict("records")
        ],
        source=SOURCE.format("networks"),
        data=data,
    )


def answer(claims: pd.DataFrame) -> str:
    """Say in one sentence how many claims hold.

    Parameters
    ----------
    claims : DataFrame
        One row per claim and channel.

    Returns
    -------
    str
        Empty without claims.
    """
    verdicts = claims.loc[claims["channel"] == ALL, "verdict"]
    if verdicts.empty:
        return ""
    told = []
    for name, (one, several) in VERDICTS.items():
        count = int((verdicts == name).sum())
        told.append(f"{count} {one if count == 1 else several}")
    return f"Of {words.plural(len(verdicts), 'claim')}, {words.listing(told)}."


def _rule(row: dict) -> str:
    rule = {
        "above": f"holds above {row['bound']:g}",
        "below": f"holds below {row['bound']:g}",
        "none": f"holds where 0 is in an interval within {row['bound']:g} of it",
    }[row["rule"]]
    return f"{row['meaning']}; {rule}"


def _claim_cell(row: dict) -> Cell:
    note = words.interval(row["low"], row["high"])
    return Cell(words.number(row["value"]), "number", f"{note}; {row['verdict']}".lstrip("; "))


def _fold(title: str, compression: pd.DataFrame, data: str) -> Fold | None:
    if compression.empty:
        return None
    table = Table(
        caption=(
            "Compression with its interval over initialisations; the last column is the share of "
            "the estimates of that layer that told nearly every input from every other, in which "
            "no compression can be seen."
        ),
        columns=[
            Column("Setting"),
            Column("Channel"),
            Column("Layer"),
            Column("Compression", kind="number"),
            Column("Networks", kind="number"),
            Column("Saturated", kind="number"),
        ],
        rows=[
            [
                Cell(setting_name(row)),
                Cell(channel_name(row["channel"])),
                Cell(layer_name(row["layer"])),
                Cell(
                    words.number(row["compression"]),
                    "number",
                    words.interval(row["low"], row["high"]),
                ),
                Cell(words.whole(row["n"]), "number"),
                Cell(words.number(row["saturated"]), "number"),
            ]
            for row in compression.to_dict("records")
        ],
        source=SOURCE.format("compression"),
        data=data,
        layout="grid",
    )
    return Fold(title, table)


def _remark(inputs: StudyInputs) -> str:
    own = inputs.config.bottleneck
    return (
        f"{words.plural(own.initialisations, 'initialisation')} of every setting, "
        f"{own.epochs} epochs, networks of 10-7-5-4-3 units on twelve bits. A network without "
        "noise tells everything of its input: numbers belong to the bins or the noise they were "
        "seen through, and compression to both or to neither."
    )
