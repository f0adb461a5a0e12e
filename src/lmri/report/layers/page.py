"""The page of layers: what stands out in the residual stream, and where little happens."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from lmri.report import words
from lmri.report.figures.lines import draw_lines
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.layers.figures import (
    WIDTH,
    Drawn,
    Entries,
    curve_figure,
    drain_curve,
    growth_curve,
    maps_of,
    peak_curve,
    received_curve,
    sink_curve,
    tasks_of,
    void_figure,
)
from lmri.report.layers.replication import replication_table
from lmri.report.layers.tables import (
    found_frame,
    found_table,
    massive_frame,
    massive_of,
    massive_table,
)
from lmri.report.view import Figure, Fold, Heading, Leaf, Panel, Prose, Table

TITLE = "Layers and tokens"

Block = Figure | Table | Heading | Prose | Fold

NAMES = {
    "layer.massive": "massive activations",
    "layer.peak": "the peak of the residual stream",
    "layer.void": "void layers",
    "head.sinks": "sinks by position",
    "head.drain": "the drain of values",
}
"""What each kind of map shows."""


def has_layers(inputs: StudyInputs) -> bool:
    """Whether there is anything to say of layers: maps of them, or why there are none."""
    return any(subject.probes.maps or subject.probes.left_out for subject in inputs.subjects)


def layers_leaf(inputs: StudyInputs, path: str, files: Files) -> Leaf:
    """Make the page of layers.

    Parameters
    ----------
    inputs : StudyInputs
        A study with maps of layers, or with reasons why there are none.
    path : str
        Of the page, relative to the report.
    files : Files
        Takes the numbers.

    Returns
    -------
    Leaf
        Massive activations, the residual stream, void layers, sinks, and what replicates.
    """
    entries: Entries = [(s.name, s.probes) for s in inputs.subjects if s.probes.maps]
    chosen = inputs.independent(name for name, _ in entries)
    alone = [entry for entry in entries if entry[0] in chosen]
    data = files.add("layers", _frame(entries))
    blocks: list[Block | None] = [
        *_massive(entries, files),
        *_residual(alone, data),
        *_void(alone, data),
        *_sinks(alone, data),
        *_replication(alone, data),
        *_series(inputs, data),
        *_left_out(inputs),
    ]
    return Leaf(
        path=path,
        study=inputs.config.study,
        eyebrow="the residual stream of all subjects",
        title=TITLE,
        question=(
            "Which states and dimensions stand out in the residual stream, where does attention "
            "rest, and which layers hardly change anything?"
        ),
        answer=_answer(alone),
        role="",
        blocks=[block for block in blocks if block is not None],
    )


def _answer(entries: Entries) -> str:
    told = []
    massive = {
        subject
        for task in tasks_of(entries, "layer.massive")
        for subject, own in maps_of(entries, "layer.massive", task).items()
        if massive_of(own).states
    }
    asked = [subject for subject, probes in entries if probes.of("layer.massive")]
    if asked:
        named = f" ({words.listing(sorted(massive))})" if massive else ""
        told.append(
            f"Of {words.plural(len(asked), 'subject')}, {len(massive) or 'none'} "
            f"{'has' if len(massive) == 1 else 'have'} massive activations{named}."
        )
    peaks = [
        (float(np.nanmax(y)), subject, task)
        for task in tasks_of(entries, "layer.peak")
        for subject, own in maps_of(entries, "layer.peak", task).items()
        if np.isfinite(y := peak_curve(own)[1]).any()
    ]
    if peaks:
        most, subject, task = max(peaks)
        told.append(
            f"The state of the first token is at most {words.number(most)} times as long as the "
            f"others ({subject}, {words.readable(task)})."
        )
    shares = [
        (float(values[0]), subject, task)
        for task in tasks_of(entries, "head.sinks")
        for subject, own in maps_of(entries, "head.sinks", task).items()
        if np.isfinite((values := own["sink_share"].values)[0])
    ]
    if shares:
        most, subject, task = max(shares)
        told.append(
            f"The first token is a sink for at most {words.number(most, 0)} % of the heads "
            f"({subject}, {words.readable(task)})."
        )
    return " ".join(told) or "Nothing of this was mapped; below stands why."


def _massive(entries: Entries, files: Files) -> list[Block | None]:
    table = massive_table(entries, files.add("layers.massive", massive_frame(entries)))
    if table is None:
        return []
    found = found_frame(entries)
    data = files.add("layers.dimensions", found)
    dimensions: Block = (
        found_table(found, data)
        if len(found)
        else Prose([("", "No dimension is massive in any state of any subject.")])
    )
    text = "Few dimensions of few states that are far larger than all others."
    every = massive_table(entries, table.data, every=True)
    blocks: list[Block | None] = [Heading("Massive activations", text), table, dimensions]
    return [*blocks, Fold("Every task", every)] if len(every.rows) > len(table.rows) else blocks


def _residual(entries: Entries, data: str) -> list[Block | None]:
    texts = _counted(entries, "layer.peak", "texts")
    peak = curve_figure(
        entries,
        [Drawn("layer.peak", peak_curve, level=1.0)],
        title="Norm of the first token's state over that of the others",
        axis="depth in layers",
        look_for=(
            f"The dashed line is 1: no different from other tokens. n = {texts} texts. A sink "
            "that carries massive activations is a line that leaps up after an early layer, far "
            "above 10, and falls in the last one."
        ),
        falsify=(
            "A line that stays near 1, or drifts: the first token is long because of what it is, "
            "not because the model parks something there."
        ),
        key="peak",
        data=data,
    )
    growth = curve_figure(
        entries,
        [Drawn("layer.void", partial(growth_curve, phase="prompt"), level=0.0)],
        title="Norm that the residual stream gains while the prompt is read",
        axis="depth in layers",
        look_for=(
            "Mean over tokens of the norm after each layer less that before the first. A stream "
            "that only adds up grows steadily; the steepest piece is the layer that writes most. "
            f"n = {_tokens(entries)} tokens."
        ),
        falsify=("Nothing: a layer that writes much need not write what matters."),
        key="growth",
        data=data,
    )
    drawn = [figure for figure in (peak, growth) if figure is not None]
    return [Heading("The residual stream"), *drawn] if drawn else []


def _void(entries: Entries, data: str) -> list[Block | None]:
    figure = void_figure(entries, data)
    text = "Layers in which the norm of a token's state hardly rises, by L2 adaptive computation."
    return [Heading("Void layers", text), figure] if figure is not None else []


def _sinks(entries: Entries, data: str) -> list[Block | None]:
    texts = _counted(entries, "head.sinks", "texts")
    position = curve_figure(
        entries,
        [Drawn("head.sinks", sink_curve)],
        title="Sinks by position, % of heads and texts",
        axis="position, from 0",
        look_for=(
            f"How often a position receives more than {_epsilon(entries)} of the attention of all "
            f"later tokens, on average, from a head. n = {texts} texts. A sink is a line that is "
            "high at position 0 and flat at 0 after it."
        ),
        falsify=(
            "Other positions as high as the first: heads look at what stands there, and rest on "
            "nothing. Short texts raise all of them: an even head reaches .29 with 10 tokens."
        ),
        key="sinks",
        data=data,
    )
    layer = curve_figure(
        entries,
        [
            Drawn("head.sinks", received_curve, "attention received"),
            Drawn("head.drain", drain_curve, "size of the value", level=1.0),
        ],
        title="Attention to the first token, and the size of its value, by layer",
        axis="layer",
        look_for=(
            "Mean over the heads of a layer: the attention that the first token receives, and the "
            "norm of its value over that of the others (1 is no different). A sink whose value is "
            "drained has both: much attention, and a value far below 1, so that looking there "
            f"adds next to nothing. n = {texts} texts. The page of attention heads has each head."
        ),
        falsify=(
            "Much attention with values of 1 and above: what is looked at is read, and the first "
            "token is no resting place."
        ),
        key="drain",
        data=data,
    )
    drawn = [figure for figure in (position, layer) if figure is not None]
    return [Heading("Sinks"), *drawn] if drawn else []


def _replication(entries: Entries, data: str) -> list[Block | None]:
    heading = Heading("What replicates and what does not")
    table = replication_table(entries, data)
    if table is None and len(entries) == 1:
        return [heading, Prose([("", "One subject only, so nothing to compare.")])]
    return [heading, table] if table is not None else []


def _series(inputs: StudyInputs, data: str) -> list[Block | None]:
    """Follow the numbers of a series over training."""
    known = {subject.name: subject.probes for subject in inputs.subjects}
    figures = []
    for number, (name, members) in enumerate(inputs.config.series.items()):
        entries = [(own.name, known[own.name]) for own in members if known[own.name].maps]
        steps = [float(own.step) for own in members if known[own.name].maps]
        if len(entries) < 2:
            continue
        panels, told = [], []
        for title, kind, value in _FOLLOWED:
            lines = {
                words.readable(task): _followed(entries, kind, task, value)
                for task in tasks_of(entries, kind)
            }
            lines = {task: line for task, line in lines.items() if np.isfinite(line).any()}
            if not lines:
                continue
            marked = max(lines, key=lambda task, own=lines: float(np.nanmax(own[task])))
            key = f"training-{number}-{len(panels)}"
            drawing = draw_lines(steps, lines, marked, key, WIDTH, named=False)
            panels.append(Panel(drawing, title=f"{title}; orange: {marked}"))
            first, last = lines[marked][0], lines[marked][-1]
            told.append(
                f"{title} on {marked}: {words.number(first)} at step {steps[0]:g}, "
                f"{words.number(last)} at step {steps[-1]:g}"
            )
        if panels:
            figures.append(
                Figure(
                    title=f"{name}: over the checkpoints",
                    panels=panels,
                    alt=f"{name} over training. {'; '.join(told)}.",
                    look_for=(
                        "One line per task, that with the largest value in orange. A sink or a "
                        "massive activation that is learned appears at some step and stays."
                    ),
                    falsify="A line that is as high at the first step: it came with the weights.",
                    source="maps/<subject>/probes/",
                    data=data,
                    layout="medium",
                )
            )
    return [Heading("Over training"), *figures] if figures else []


_FOLLOWED = (
    ("Largest activation", "layer.massive", lambda own: massive_of(own).largest),
    ("Largest peak of the first token", "layer.peak", lambda own: _most(peak_curve(own)[1])),
    ("First token a sink, % of heads", "head.sinks", lambda own: float(own["sink_share"][0])),
)


def _followed(entries: Entries, kind: str, task: str, value) -> np.ndarray:
    maps = maps_of(entries, kind, task)
    return np.array([value(maps[s]) if s in maps else np.nan for s, _ in entries])


def _most(values: np.ndarray) -> float:
    return float(np.nanmax(values)) if np.isfinite(values).any() else np.nan


def _left_out(inputs: StudyInputs) -> list[Block | None]:
    """Say what was not mapped and why, each reason once."""
    reasons: dict[tuple[str, str], set[str]] = {}
    for subject in inputs.subjects:
        for name, reason in subject.probes.left_out.items():
            kind = next((kind for kind in NAMES if name.startswith(f"{kind}.")), None)
            if kind is not None:
                task = name.removeprefix(f"{kind}.")
                reasons.setdefault((kind, reason), set()).add(words.readable(task))
    if not reasons:
        return []
    order = {kind: place for place, kind in enumerate(NAMES)}
    lines = [
        (f"{words.sentence(NAMES[kind])} ({words.listing(sorted(tasks))}):", reason)
        for (kind, reason), tasks in sorted(reasons.items(), key=lambda item: order[item[0][0]])
    ]
    return [Heading("What was not mapped"), Prose(lines)]


def _counted(entries: Entries, kind: str, name: str) -> str:
    """How many there were, over subjects and tasks."""
    counts = [
        int(own[name].max()) if name in own else int(own.attrs.get(name, 0))
        for task in tasks_of(entries, kind)
        for own in maps_of(entries, kind, task).values()
    ]
    return words.spread(counts) if counts else words.NOTHING


def _tokens(entries: Entries) -> str:
    counts = [
        int(own["tokens"].sel(phase="prompt"))
        for task in tasks_of(entries, "layer.void")
        for own in maps_of(entries, "layer.void", task).values()
    ]
    return words.spread(counts) if counts else words.NOTHING


def _epsilon(entries: Entries) -> str:
    found = [
        float(own.attrs.get("epsilon", np.nan))
        for task in tasks_of(entries, "head.sinks")
        for own in maps_of(entries, "head.sinks", task).values()
    ]
    return words.number(found[0], 1) if found else words.NOTHING


def _frame(entries: Entries) -> pd.DataFrame:
    """Every number that is drawn, one a row."""
    curves = {
        "peak": ("layer.peak", peak_curve),
        "growth_prompt": ("layer.void", partial(growth_curve, phase="prompt")),
        "growth_response": ("layer.void", partial(growth_curve, phase="response")),
        "void_prompt": ("layer.void", partial(_void_curve, phase="prompt")),
        "void_response": ("layer.void", partial(_void_curve, phase="response")),
        "sink_share": ("head.sinks", sink_curve),
        "attention_received": ("head.sinks", received_curve),
        "value_drain": ("head.drain", drain_curve),
    }
    rows = [
        {"subject": subject, "task": task, "quantity": quantity, "at": at, "value": value}
        for quantity, (kind, curve) in curves.items()
        for task in tasks_of(entries, kind)
        for subject, own in maps_of(entries, kind, task).items()
        for at, value in zip(*curve(own), strict=True)
    ]
    return pd.DataFrame(rows)


def _void_curve(void, phase: str) -> tuple[np.ndarray, np.ndarray]:
    return void["layer"].values.astype(float), 1 - void["active"].sel(phase=phase).values
