"""Information over a series of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from lmri.report import words
from lmri.report.figures.curves import Curve, draw_curves
from lmri.report.files import Files
from lmri.report.information.changes import change_blocks
from lmri.report.information.courses import (
    massive_course,
    massive_table,
    number_name,
    number_place,
    sensitive_frame,
    sensitive_table,
    sparsity_table,
    warning_blocks,
    warning_frame,
)
from lmri.report.information.figures import WIDTH
from lmri.report.information.names import flag_names, target_name
from lmri.report.information.planes import plane_frame, training_planes
from lmri.report.view import Cell, Column, Figure, Fold, Heading, Panel, Prose, Table

SOURCE = "analyses/dynamics/<series>/numbers.zarr"
MOST = 20
"""Changes in the table; all are in the file."""

LABELS = ("task", "measure", "variable", "target", "phase", "layer", "detail")
FOUND = ("first", "last", "changes", "after", "until", "jump", "p", "q", "flags")
CLAIMS = (
    *("task", "target", "phase", "layer", "quantity", "word", "p", "q"),
    *("channels", "left_out"),
)

Block = Figure | Fold | Heading | Prose | Table


def dynamics_blocks(
    found: Mapping[str, Mapping[str, xr.Dataset]], files: Files
) -> list[Block | None]:
    """Show what changes over training, and what may be said of it.

    Parameters
    ----------
    found : mapping of str to mapping of str to Dataset
        By series and store.
    files : Files
        Takes the numbers.

    Returns
    -------
    list
        Nothing without a series.
    """
    blocks: list[Block | None] = []
    for number, (series, stores) in enumerate(found.items()):
        if (own := stores.get("numbers")) is None:
            continue
        numbers = followed_frame(series, own)
        data = files.add(f"information-dynamics-{number}", numbers)
        claims = claimed_frame(series, own)
        claimed = files.add(f"information-claims-{number}", claims)
        warned = warning_frame(own)
        warnings = files.add(f"information-warnings-{number}", warned)
        blocks += [
            Heading(f"Over training: {words.readable(series)}", _text(own)),
            training_figure(series, own, f"training-{number}", data),
            *_curves(series, number, stores, files),
            _change_points(numbers, data),
            *warning_blocks(warned, warnings),
            *change_blocks(claims, "The last checkpoint against the first.", SOURCE, claimed),
        ]
    return blocks


def _curves(
    series: str, number: int, stores: Mapping[str, xr.Dataset], files: Files
) -> list[Block | None]:
    blocks: list[Block | None] = []
    if (own := stores.get("plane")) is not None:
        data = files.add(f"information-plane-{number}", plane_frame(series, own))
        blocks.append(training_planes(own, f"plane-{number}", data))
    if (own := stores.get("massive")) is not None:
        frame = own.drop_dims("step").to_dataframe().reset_index(drop=True)
        data = files.add(f"information-massive-fit-{number}", frame.assign(series=series))
        blocks.append(massive_course(own, f"massive-course-{number}", data))
        table = massive_table(own, data)
        blocks.append(Fold("Parameters of the curves", table) if table else None)
    if (own := stores.get("sparsity")) is not None:
        frame = own.to_dataframe().reset_index(drop=True)
        data = files.add(f"information-sparsity-{number}", frame.assign(series=series))
        blocks.append(sparsity_table(own, data))
    if (own := stores.get("sensitive")) is not None:
        data = files.add(f"information-sensitive-{number}", sensitive_frame(series, own))
        blocks.append(sensitive_table(own, data))
    return blocks


def followed_frame(series: str, own: xr.Dataset) -> pd.DataFrame:
    """One row per number: its labels, and what was found of it where it could be followed."""
    kept = [name for name in (*LABELS, *FOUND) if name in own and own[name].dims == ("number",)]
    frame = pd.DataFrame({name: own[name].values for name in kept})
    last = own["flagged"].values.any(axis=0)
    return frame.assign(series=series, ever_flagged=last)


def claimed_frame(series: str, own: xr.Dataset) -> pd.DataFrame:
    """One row per comparison of the last checkpoint with the first."""
    if any(f"claim_{name}" not in own for name in CLAIMS):
        return pd.DataFrame(columns=["series", *CLAIMS])
    frame = pd.DataFrame({name: own[f"claim_{name}"].values for name in CLAIMS})
    return frame.assign(series=series)


def training_figure(series: str, own: xr.Dataset, key: str, data: str) -> Figure | None:
    """Draw what held-out probes read of every attribute over training, a curve per layer."""
    if any(name not in own for name in LABELS):
        return None
    chosen = np.char.startswith(own["detail"].values.astype(str), "probe ")
    probes = own.isel(number=np.flatnonzero(chosen))
    labels = (probes[name].values.astype(str) for name in ("task", "target", "phase"))
    keys = list(zip(*labels, strict=True))
    panels, told = [], []
    for task, target, phase in dict.fromkeys(keys):
        curves = []
        for place in [i for i, k in enumerate(keys) if k == (task, target, phase)]:
            cell = probes.isel(number=place)
            known = np.isfinite(cell["value"].values)
            x, y = own["step"].values[known].tolist(), cell["value"].values[known].tolist()
            name = f"layer {cell['layer'].values}"
            curves.append(Curve(name, x, y, faint=cell["flagged"].values[known].tolist()))
        curves = [curve for curve in curves if len(curve.x)]
        if not curves:
            continue
        names = ("step", "nats")
        drawing = draw_curves(curves, f"{key}-{len(panels)}", names=names, level=0.0, width=WIDTH)
        panels.append(
            Panel(
                drawing,
                title=f"{target_name(target)} ({words.readable(task)}), {words.phase_name(phase)}",
            )
        )
        ends = [f"{curve.name} {words.number(curve.y[-1])}" for curve in curves]
        told.append(f"{target_name(target)}, {words.phase_name(phase)}: {', '.join(ends)}")
    if not panels:
        return None
    return Figure(
        title=f"What a held-out probe reads over the training of {words.readable(series)}",
        panels=panels,
        alt=f"At the last step: {'; '.join(told)}.",
        look_for="Good: a rise in colour that stays, in the same layers for related attributes.",
        falsify=(
            "Bad: hollow grey points, which carry a flag, or a curve that rises and falls within "
            "the spread of its neighbours in time."
        ),
        source=SOURCE,
        data=data,
        layout="medium",
    )


def _text(own: xr.Dataset) -> str:
    if "not_followed" in own.attrs:
        return str(own.attrs["not_followed"])
    steps = own["step"].values
    return (
        f"{len(steps)} checkpoints, steps {int(steps[0])} to {int(steps[-1])}; "
        f"{own.sizes['number']} numbers are followed, and q is over all of them."
    )


def _change_points(numbers: pd.DataFrame, data: str) -> Table | None:
    if "jump" not in numbers or not numbers["jump"].notna().any():
        return None
    ordered = numbers[numbers["jump"].notna()].sort_values(["q", "p"], kind="stable").head(MOST)
    return Table(
        caption=(
            f"The {len(ordered)} clearest changes of level. Good: q below .05 and no flag. With "
            "few checkpoints a change point is where a line bends as well; grey ones carry a flag."
        ),
        columns=[
            Column("Number"),
            Column("Where"),
            Column("From", "first checkpoint", "number"),
            Column("To", "last checkpoint", "number"),
            Column("Jump", "between steps", "number"),
            Column("p", "q", "number"),
            Column("Flagged"),
        ],
        rows=[_number_row(row) for row in ordered.to_dict("records")],
        source=SOURCE,
        data=data,
        layout="grid",
    )


def _number_row(row: dict) -> list[Cell]:
    flags = [own for own in str(row["flags"]).split(",") if own]
    flags += ["flagged at a checkpoint"] if row["ever_flagged"] else []
    number = "number flagged" if flags else "number"
    return [
        number_name(row),
        number_place(row),
        Cell(words.number(row["first"]), "number"),
        Cell(words.number(row["last"]), "number"),
        Cell(
            words.signed(row["jump"]),
            number,
            f"{words.whole(row['after'])} to {words.whole(row['until'])}",
        ),
        Cell(words.probability(row["p"]), "number", f"q {words.probability(row['q'])}"),
        Cell(flag_names(flags)),
    ]
