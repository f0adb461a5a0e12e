"""Courses over training: early warnings, massive activations, sparsity, unsettled units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from lmri.report import words
from lmri.report.figures.curves import Curve, draw_curves
from lmri.report.information.figures import WIDTH
from lmri.report.information.names import estimator_name, flag_names, target_name
from lmri.report.view import Cell, Column, Figure, Panel, Prose, Table

SOURCE = "analyses/dynamics/<series>/{}.zarr"

MOST = 12
"""Rows of a table, and units that are named; all are in the file."""

LAW_AHEAD = 2.0
"""A power law that is less ahead of a logarithm than this is not shown."""

INDICATORS = {"variance": "variance", "autocorrelation": "lag-1 autocorrelation"}


def number_name(row: dict) -> Cell:
    """Name a number that is followed: its measure, variable and detail."""
    detail = str(row["detail"])
    name = estimator_name(detail) if row["measure"] in ("residual", "expert") else detail
    return Cell(words.readable(f"{row['measure']} {row['variable']}"), note=words.readable(name))


def number_place(row: dict) -> Cell:
    """Say where a number that is followed is from; what is of no task or phase has none."""
    target = target_name(str(row["target"])) if row["target"] else ""
    phase = words.phase_name(str(row["phase"])) if row["phase"] else ""
    where = [target, phase, f"layer {row['layer']}" if str(row["layer"]) else ""]
    return Cell(", ".join(part for part in where if part), note=words.readable(str(row["task"])))


def warning_frame(own: xr.Dataset) -> pd.DataFrame:
    """One row per number and indicator for which early warnings could be computed."""
    needed = ("warning_tau", "warning_p", "warning_q", "warning_flags")
    if any(name not in own for name in needed):
        return pd.DataFrame(columns=["indicator"])
    labels = [str(name) for name in own.coords if own[name].dims == ("number",)]
    kept = own[[*needed, "after"]].to_dataframe().reset_index()
    kept = kept[np.isfinite(kept["warning_p"])]
    return kept[[*(name for name in labels if name in kept), "indicator", "after", *needed]]


def warning_blocks(rows: pd.DataFrame, data: str) -> list[Table | Prose]:
    """Tell whether fluctuations grew and slowed down ahead of changes.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`warning_frame`.
    data : str
        File with all rows.

    Returns
    -------
    list of Table or Prose
        That there were too few checkpoints where there are no rows.
    """
    if rows.empty:
        text = "12 checkpoints before the largest change are needed. No number has them."
        return [Prose([("Early warnings", text)])]
    shown = rows.sort_values(["warning_q", "warning_p"], kind="stable").head(MOST)
    clear = int((rows["warning_q"] <= 0.05).sum())
    table = Table(
        caption=(
            f"Early warnings: of {words.plural(len(rows), 'indicator')}, {clear or 'none'} with q "
            "at most .05. Good: a tau near 1 with a small q and no flag: fluctuations grow, or "
            "return more slowly, up to the change. Bad: grey. Few checkpoints make windows that "
            "overlap in almost all of their points, which only the surrogates account for."
        ),
        columns=[
            Column("Number"),
            Column("Where"),
            Column("Indicator"),
            Column("Up to step", kind="number"),
            Column("Kendall's tau", kind="number"),
            Column("p", "q", "number"),
            Column("Flagged"),
        ],
        rows=[_warning_row(row) for row in shown.to_dict("records")],
        source=SOURCE.format("numbers"),
        data=data,
        layout="grid",
    )
    return [table]


def _warning_row(row: dict) -> list[Cell]:
    flags = [own for own in str(row["warning_flags"]).split(",") if own]
    kind = "number flagged" if flags else "number"
    until = words.whole(row["after"]) if np.isfinite(row["after"]) else "the last"
    return [
        number_name(row),
        number_place(row),
        Cell(INDICATORS.get(str(row["indicator"]), words.readable(str(row["indicator"])))),
        Cell(until, "number"),
        Cell(words.signed(row["warning_tau"]), kind),
        Cell(words.probability(row["warning_p"]), kind, f"q {words.probability(row['warning_q'])}"),
        Cell(flag_names(flags)),
    ]


def massive_course(own: xr.Dataset, key: str, data: str) -> Figure | None:
    """Draw the largest over the median activation over training, with its fitted curve.

    Parameters
    ----------
    own : Dataset
        The store ``massive`` of a series.
    key : str
        Distinguishes the drawings from all others of the page.
    data : str
        File with the fits.

    Returns
    -------
    Figure or None
        None without a finite point. A panel for the place of each task and layer that has the
        largest ratio.
    """
    steps = own["step"].values.tolist()
    tasks, layers = own["task"].values.astype(str), own["layer"].values
    largest = own["ratio"].max("step").fillna(-1).values
    panels, told = [], []
    for pair in dict.fromkeys(zip(tasks.tolist(), layers.tolist(), strict=True)):
        at = [i for i, name in enumerate(tasks) if (name, layers[i]) == pair]
        best = own.isel(curve=max(at, key=largest.__getitem__))
        if not np.isfinite(best["ratio"]).any():
            continue
        fitted = best["fitted"].values
        line = Curve("fitted", steps, fitted.tolist()) if np.isfinite(fitted).all() else None
        place = words.place_name(str(best["place"].values))
        curve = Curve(place, steps, best["ratio"].values.tolist())
        drawing = draw_curves(
            [curve], f"{key}-{len(panels)}", names=("step", "ratio"), line=line, width=WIDTH
        )
        panels.append(Panel(drawing, title=f"layer {pair[1]} ({words.readable(pair[0])})"))
        told.append(f"layer {pair[1]}: {words.number(curve.y[0])} to {words.number(curve.y[-1])}")
    if not panels:
        return None
    return Figure(
        title="The largest activation over the median one, over training",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "Good: points on the dashed curve, A exp(−λx) ln x + K with x = γt + t₀: a massive "
            "activation grows as a logarithm, or peaks early and decays. A ratio below a hundred "
            "is none."
        ),
        falsify=(
            "Bad: points that scatter about the curve, or no curve. A parameter whose interval "
            "reaches beyond half of it is not determined: read the curve, not its parameters."
        ),
        source=SOURCE.format("massive"),
        data=data,
        layout="medium",
    )


def massive_table(own: xr.Dataset, data: str) -> Table | None:
    """Tell the fitted parameters of every layer and place, or why there are none."""
    frame = own.drop_dims("step").to_dataframe().reset_index(drop=True)
    if frame.empty:
        return None
    return Table(
        caption=(
            "Five parameters of the curve of massive activations, with 95 % intervals. Good: no "
            "flag. Bad: not determined, which is common with few checkpoints."
        ),
        columns=[
            Column("Where"),
            Column("A", kind="number"),
            Column("λ", kind="number"),
            Column("γ", "per step", "number"),
            Column("t₀", kind="number"),
            Column("K", kind="number"),
            Column("Peak", "step", "number"),
            Column("R²", kind="number"),
            Column("Flagged"),
        ],
        rows=[_massive_row(row) for row in frame.to_dict("records")],
        source=SOURCE.format("massive"),
        data=data,
        layout="grid",
    )


def _massive_row(row: dict) -> list[Cell]:
    flags = [own for own in str(row["flags"]).split(",") if own]
    kind = "number flagged" if flags else "number"
    where = f"layer {int(row['layer'])}, {words.place_name(str(row['place']))}"
    cells = [Cell(where, note=words.readable(str(row["task"])))]
    for name in ("A", "decay", "rate", "offset", "K"):
        ends = (row[f"{name}_low"], row[f"{name}_high"])
        note = words.interval(*ends, 3) if np.isfinite(ends).all() else ""
        cells.append(Cell(words.number(row[name], 3), kind, note))
    cells += [Cell(words.whole(row["peak"]), kind), Cell(words.number(row["r_squared"]), "number")]
    return [*cells, Cell(flag_names(flags), note=str(row["reason"]))]


def sparsity_table(own: xr.Dataset, data: str) -> Table | None:
    """Tell which law the share of active neurons follows in every layer, if any."""
    frame = own.to_dataframe().reset_index(drop=True)
    if frame.empty:
        return None
    keys = ["task", "kind", "layer", "variable"]
    best = [_law(group) for _, group in frame.groupby(keys, sort=False)]
    return Table(
        caption=(
            "The share of active neurons over training: exp(−c Dᵅ + b) + A₀ (falls, as of "
            "rectifiers), A₀ − c / Dᵅ (rises, as of SiLU), D counted in steps. A law is named only "
            f"where it is ahead of a logarithm of two parameters by {LAW_AHEAD:g} of the Akaike "
            "criterion. Good: a law, an interval of its limit within [0, 1], no flag. Bad: grey."
        ),
        columns=[
            Column("Neurons"),
            Column("Share", "first, last", "number"),
            Column("Law"),
            Column("Limit A₀", "95 % interval", "number"),
            Column("R²", kind="number"),
            Column("Flagged"),
        ],
        rows=[_law_row(row) for row in best],
        source=SOURCE.format("sparsity"),
        data=data,
        layout="grid",
    )


def _law(group: pd.DataFrame) -> dict:
    """The best law of one course, ``shown`` if it is ahead of the logarithm."""
    best = group.iloc[0].to_dict()
    plain = group[group["law"] == "logarithm"]["behind"]
    ahead = float(plain.iloc[0]) if len(plain) else np.inf
    power = best["law"] not in ("", "logarithm")
    return {**best, "shown": bool(power and ahead >= LAW_AHEAD)}


def _law_row(row: dict) -> list[Cell]:
    flags = [own for own in str(row["flags"]).split(",") if own]
    kind = "number" if row["shown"] and not flags else "number flagged"
    names = {"relu": "falls to a limit", "silu": "rises to a limit"}
    law = names.get(str(row["law"]), "") if row["shown"] else "not shown"
    where = f"{words.readable(str(row['kind']))}s, layer {int(row['layer'])}"
    what = "not exactly 0" if row["variable"] == "nonzero" else "active"
    ends = f"{words.number(row['first'], 3)}, {words.number(row['last'], 3)}"
    return [
        Cell(f"{where}: {what}", note=words.readable(str(row["task"]))),
        Cell(ends, "number"),
        Cell(law, "text" if row["shown"] else "flagged"),
        Cell(
            words.number(row["limit"], 3),
            kind,
            words.interval(row["limit_low"], row["limit_high"], 3),
        ),
        Cell(words.number(row["r_squared"]), kind),
        Cell(flag_names(flags), note=str(row["reason"])),
    ]


def sensitive_table(own: xr.Dataset, data: str) -> Table | None:
    """Tell which units do not settle over the last checkpoints, and how stable their ranking is."""
    rows = []
    for task in own["task"].values:
        for phase in own["phase"].values:
            for layer in own["layer"].values:
                cell = own.sel(task=task, phase=phase, layer=layer)
                if np.isfinite(cell["variability"]).any():
                    rows.append(_sensitive_row(str(task), str(phase), int(layer), cell))
    if not rows:
        return None
    return Table(
        caption=(
            f"Units of the {words.readable(str(own.attrs.get('kind', 'residual')))} that still "
            f"vary over the last checkpoints (steps {own.attrs.get('steps', '')}). Good: halves of "
            "the trials agree on the ranking, and few units hold most of the variability. Bad: "
            "grey: halves that disagree (a rank correlation below .5), or a fifth of the units "
            "with a fifth of it, as if none was special."
        ),
        columns=[
            Column("Where"),
            Column("Trials", kind="number"),
            Column("Halves", "rank correlation", "number"),
            Column("Share", "of the selected fifth", "number"),
            Column("Most variable", "first to last"),
            Column("Flagged"),
        ],
        rows=rows,
        source=SOURCE.format("sensitive"),
        data=data,
        layout="grid",
    )


def _sensitive_row(task: str, phase: str, layer: int, cell: xr.Dataset) -> list[Cell]:
    flags = [own for own in str(cell["flags"].values).split(",") if own]
    kind = "number flagged" if flags else "number"
    order = np.argsort(-cell["variability"].values, kind="stable")[:MOST]
    return [
        Cell(f"{words.phase_name(phase)}, layer {layer}", note=words.readable(task)),
        Cell(words.whole(float(cell["texts"])), "number"),
        Cell(words.number(float(cell["halves"])), kind),
        Cell(words.number(float(cell["share"])), kind),
        Cell(", ".join(str(int(own)) for own in order)),
        Cell(flag_names(flags)),
    ]


def sensitive_frame(series: str, own: xr.Dataset) -> pd.DataFrame:
    """Put units into rows: task, phase, layer, unit, variability, selected."""
    frame = own[["variability", "selected"]].to_dataframe().reset_index()
    return frame[np.isfinite(frame["variability"])].assign(series=series)
