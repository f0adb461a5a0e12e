"""The page of networks: which units work together, beyond what routing makes of it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmri.report import words
from lmri.report.connect.figures import cycle_figure, edge_figure
from lmri.report.connect.tables import (
    SOURCE,
    Networks,
    difference_frame,
    edge_frame,
    network_frame,
    node_frame,
)
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.view import Cell, Column, Figure, Fold, Heading, Leaf, Prose, Table

TITLE = "Networks"
MOST_EDGES = 60
"""Edges in the table of the page; all are in the file."""

DRAWN = "within"
"""The network that is drawn, where there are several conditions."""

NETWORKS = {"all": "all trials", "within": "within conditions"}

NETWORK = ["subject", "task", "phase", "kind", "network"]
"""Columns that name a network."""

Block = Figure | Fold | Heading | Prose | Table


def connect_leaf(inputs: StudyInputs, path: str, files: Files) -> Leaf:
    """Make the page of networks.

    Parameters
    ----------
    inputs : StudyInputs
        A study with networks, or with reasons why there are none.
    path : str
        Of the page, relative to the report.
    files : Files
        Takes the numbers.

    Returns
    -------
    Leaf
        Networks in a table, edges, cycles, differences between conditions, what was left out.
    """
    networks, alpha = inputs.networks, inputs.config.evidence.alpha
    rows = network_frame(networks, alpha)
    blocks: list[Block | None] = []
    if len(rows):
        blocks += [
            Heading("What there is", _remark(rows)),
            network_table(rows, files.add("connect-networks", rows), alpha),
            *_drawn(networks, alpha, files),
            *_differences(networks, alpha, files),
        ]
    blocks += _left_out(networks)
    return Leaf(
        path=path,
        study=inputs.config.study,
        eyebrow="functional connectivity of all subjects",
        title=TITLE,
        question=(
            "Which experts, heads and layers are active together, trial by trial, and is it more "
            "than the router and the shared words of trials make of it?"
        ),
        answer=_answer(rows),
        role="",
        blocks=[block for block in blocks if block is not None],
    )


def network_table(rows: pd.DataFrame, data: str, alpha: float) -> Table:
    """Tell every network with its edges beyond the null, cycles and communities."""
    return Table(
        caption=(
            "Rising and falling: edges above and below the null, by the maximum over all edges at "
            f"{alpha:g}. A large p of cycles or communities says that any graph of these degrees "
            "has as many."
        ),
        columns=[
            Column("Subject"),
            Column("Nodes", "trials"),
            Column("Network", "what was exchanged"),
            Column("Edges", kind="number"),
            Column("Rising", kind="number"),
            Column("Falling", kind="number"),
            Column("Mean in a layer", "null", "number"),
            Column("Cycles", "p", "number"),
            Column("Communities", "modularity, p", "number"),
        ],
        rows=[_network_row(row) for row in rows.to_dict("records")],
        source=SOURCE,
        data=data,
        layout="grid",
    )


def _network_row(row: dict) -> list[Cell]:
    where = f"{words.readable(row['task'])}, {words.phase_name(row['phase'])}"
    nodes = words.plural(row["nodes"], row["kind"])
    cycles = f"p {words.probability(row['triangles_total_p'])}"
    found = f"{words.number(row['modularity'])}, p {words.probability(row['modularity_p'])}"
    graph = np.isfinite(row["triangles_total"])
    return [
        Cell(str(row["subject"]), note=where),
        Cell(nodes, note=f"{row['trials']} trials"),
        Cell(NETWORKS.get(row["network"], row["network"]), note=row["exchanged"]),
        Cell(words.whole(row["edges"]), "number"),
        Cell(words.whole(row["rising"]), "number"),
        Cell(words.whole(row["falling"]), "number"),
        Cell(
            words.number(row["mean_in_layer"]),
            "number",
            f"null {words.number(row['null_in_layer'])}",
        ),
        Cell(words.whole(row["triangles_total"]), "number", cycles if graph else ""),
        Cell(words.whole(row["communities"]), "number", found if graph else ""),
    ]


def _drawn(networks: Networks, alpha: float, files: Files) -> list[Block | None]:
    edges, nodes = edge_frame(networks), node_frame(networks)
    edge_data, node_data = files.add("connect-edges", edges), files.add("connect-nodes", nodes)
    blocks: list[Block | None] = [Heading("Edges")]
    kinds = list(dict.fromkeys(place.kind for place in networks.found))
    for kind in kinds:
        network = _network_of(networks, kind)
        blocks.append(edge_figure(networks, kind, network, alpha, edge_data))
    clear = edges[edges["p_max"] <= alpha] if len(edges) else edges
    if len(clear):
        blocks.append(Fold("Edges beyond the null", _edge_table(clear, edge_data)))
    cycles = [
        cycle_figure(networks, kind, _network_of(networks, kind), node_data) for kind in kinds
    ]
    if any(cycles):
        blocks += [Heading("Cycles"), *cycles]
    return blocks


def _network_of(networks: Networks, kind: str) -> str:
    own = [found for place, found in networks.found.items() if place.kind == kind]
    return DRAWN if any(DRAWN in found["network"].values for found in own) else "all"


def clearest_edges(edges: pd.DataFrame, most: int) -> pd.DataFrame:
    """Take the clearest edge of every network, then the second of each, and so on.

    Parameters
    ----------
    edges : DataFrame
        From :func:`lmri.report.connect.tables.edge_frame`, or some of its rows.
    most : int
        Rows that are kept.

    Returns
    -------
    DataFrame
        In the order of the rows: network by network, the clearest edge of each first.
    """
    turn = edges.groupby(NETWORK, sort=False).cumcount()
    return edges.loc[turn.sort_values(kind="stable").index[:most].sort_values()]


def _edge_table(edges: pd.DataFrame, data: str) -> Table:
    shown = clearest_edges(edges, MOST_EDGES)
    counts = edges.groupby(["subject", "network"], sort=False).size()
    told = "; ".join(
        f"{subject}, {NETWORKS.get(network, network)}: {count}"
        for (subject, network), count in counts.items()
    )
    more = (
        f" The {MOST_EDGES} clearest of {len(edges)}, taken of each subject and network in turn."
        if len(edges) > MOST_EDGES
        else ""
    )
    return Table(
        caption=f"Nodes are named by layer and unit. Edges beyond the null: {told}.{more}",
        columns=[
            Column("Subject"),
            Column("Network"),
            Column("Between"),
            Column("Correlation", "null", "number"),
            Column("z", kind="number"),
            Column("p", "of the maximum", "number"),
        ],
        rows=[
            [
                Cell(
                    str(row["subject"]),
                    note=f"{words.readable(row['task'])}, {words.phase_name(row['phase'])}",
                ),
                Cell(NETWORKS.get(row["network"], row["network"])),
                Cell(f"{row['kind']} {row['node']} and {row['other']}"),
                Cell(
                    words.number(row["correlation"]),
                    "number",
                    f"null {words.number(row['null_mean'])}",
                ),
                Cell(words.signed(row["z"], 1), "number"),
                Cell(words.probability(row["p"]), "number", words.probability(row["p_max"])),
            ]
            for row in shown.to_dict("records")
        ],
        source=SOURCE,
        data=data,
        layout="grid",
    )


def _differences(networks: Networks, alpha: float, files: Files) -> list[Block]:
    rows = difference_frame(networks, alpha)
    if rows.empty:
        return []
    text = (
        "Edges of the target less those of the controls, with condition means taken out, against "
        "exchanged labels of what carries the condition."
    )
    table = Table(
        caption="Distance: root of the sum of squared differences of Fisher's z.",
        columns=[
            Column("Subject"),
            Column("Nodes"),
            Column("Contrast", "exchanged"),
            Column("Trials", "target, controls", "number"),
            Column("Distance", kind="number"),
            Column("p", kind="number"),
            Column("Edges", f"beyond the null at {alpha:g}", "number"),
        ],
        rows=[
            [
                Cell(
                    str(row["subject"]),
                    note=f"{words.readable(row['task'])}, {words.phase_name(row['phase'])}",
                ),
                Cell(words.plural_of(row["kind"])),
                Cell(words.readable(row["contrast"]), note=row["exchanged"]),
                Cell(f"{row['n_target']}, {row['n_control']}", "number"),
                Cell(words.number(row["distance"]), "number"),
                Cell(words.probability(row["p"]), "number"),
                Cell(words.whole(row["edges"]), "number"),
            ]
            for row in rows.to_dict("records")
        ],
        source=SOURCE,
        data=files.add("connect-differences", rows),
        layout="grid",
    )
    return [Heading("Do conditions differ?", text), table]


def _left_out(networks: Networks) -> list[Block]:
    by_reason: dict[str, list[str]] = {}
    for subject, reasons in networks.left_out.items():
        for name, reason in reasons.items():
            by_reason.setdefault(f"{name}: {reason}", []).append(subject)
    if not by_reason:
        return []
    lines = [(words.listing(subjects), text) for text, subjects in by_reason.items()]
    return [Heading("What is not there"), Prose(lines)]


def _remark(rows: pd.DataFrame) -> str:
    text = (
        "A network over all trials holds what conditions do to units alike; within conditions "
        "their means are taken out. Entities are exchanged, since trials of one place are alike in "
        "every unit. "
    )
    if (rows["kind"] == "expert").any():
        text += (
            "Of experts, entities exchange which expert is meant, and every token keeps its number "
            "of experts and every expert its load."
        )
    return text


def _answer(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "No network could be estimated; the reasons are below."
    own = rows[rows["network"] == DRAWN]
    own = rows if own.empty else own
    told = []
    for (subject, kind), part in own.groupby(["subject", "kind"], sort=False):
        rising, falling, edges = (int(part[own].sum()) for own in ("rising", "falling", "edges"))
        count = f"{rising} above and {falling} below of {edges}"
        told.append(f"{subject}, {words.plural_of(str(kind))}: {count}")
    return (
        "Edges beyond the null in all tasks and phases together, within conditions where there are "
        f"several: {'; '.join(told)}."
    )
