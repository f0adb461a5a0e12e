"""The pages of networks and of alignment say what their files say, and escape names."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from analysis_files import alignment, network

from lmri.config import StudyConfig
from lmri.report.align.page import align_leaf, geometry_table, identification_table
from lmri.report.align.tables import (
    SHARED,
    by_whom,
    geometry_frame,
    identification_frame,
    read_alignment,
    transfer_frame,
)
from lmri.report.connect.figures import by_layer
from lmri.report.connect.page import clearest_edges, connect_leaf, network_table
from lmri.report.connect.tables import edge_frame, network_frame, read_networks
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.leaves import leaf_links
from lmri.report.page import render_leaf
from lmri.report.reader import Reader
from lmri.report.view import Figure, Fold, Prose, Table
from lmri.store import write_map, write_text_atomic

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def config(repository):
    values = yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))
    values |= {
        "connect": {"kinds": ["expert"], "phases": ["content"]},
        "align": {"quantities": ["residual"], "phases": ["content"]},
        "sparse": {},
    }
    return StudyConfig.from_dict(values)


@pytest.fixture
def study(tmp_path):
    for subject, left_out in (
        ("localised", {}),
        ("distributed", {"events.content.expert": HOSTILE}),
    ):
        folder = tmp_path / f"analyses/connect/{subject}"
        folder.mkdir(parents=True)
        write_text_atomic(folder / "left_out.json", json.dumps(left_out))
    write_map(tmp_path / "analyses/connect/localised/events.content.expert.zarr", network())
    folder = tmp_path / "analyses/align"
    folder.mkdir()
    write_text_atomic(
        folder / "left_out.json", json.dumps({"events.content.residual.rsa": HOSTILE})
    )
    write_map(folder / "events.content.residual.zarr", alignment())
    return tmp_path


@pytest.fixture
def inputs(study, config):
    reader = Reader(study)
    found = read_networks(reader, config), read_alignment(reader, config)
    assert reader.problems == []
    return StudyInputs(config, [], None, networks=found[0], alignment=found[1])


def test_every_network_is_a_row(inputs):
    rows = network_frame(inputs.networks, 0.05)
    assert list(rows["network"]) == ["all", "within"]
    assert rows[["nodes", "edges", "rising", "falling"]].iloc[0].tolist() == [6, 15, 1, 0]
    edges = edge_frame(inputs.networks)
    assert edges[["node", "other"]].to_numpy().tolist() == [["0.0", "0.1"]] * 2
    cells = network_table(rows, "", 0.05).rows[0]
    assert cells[6].note == f"null {chr(0x2212)}0.10"


def test_the_clearest_edges_are_of_every_subject_and_network_in_turn():
    where = {"task": "events", "phase": "content", "kind": "expert", "network": "all"}
    counts = {"one": 90, "two": 3, "three": 5}
    edges = pd.DataFrame(
        [{**where, "subject": name, "rank": n} for name in counts for n in range(counts[name])]
    )
    found = clearest_edges(edges, 10)
    assert found.groupby("subject", sort=False)["rank"].apply(list).to_dict() == {
        "one": [0, 1, 2, 3],
        "two": [0, 1, 2],
        "three": [0, 1, 2],
    }
    assert list(clearest_edges(edges, 60)["subject"].unique()) == list(counts)


def test_matrices_are_parted_and_named_by_layer():
    z, rows, columns = by_layer(np.ones((5, 5)), np.array([0, 0, 2, 2, 2]), list("abcde"))
    assert rows == ["a", "b", "", "c", "d", "e"]
    assert columns == ["L0", "", "", "L2", "", ""]
    assert np.isnan(z[2]).all()
    assert np.isnan(z[:, 2]).all()
    assert np.isfinite(np.delete(np.delete(z, 2, 0), 2, 1)).all()
    z, rows, columns = by_layer(np.ones((3, 3)), np.arange(3), ["0", "1", "2"])
    assert (z.shape, rows, columns) == ((3, 3), ["0", "1", "2"], ["L0", "L1", "L2"])


def test_both_pages_are_linked_and_render(inputs):
    titles = [link.title for link in leaf_links(inputs)]
    assert {"Networks", "Alignment"} <= set(titles)
    files = Files()
    networks = connect_leaf(inputs, "pages/connectivity.html", files)
    compared = align_leaf(inputs, "pages/alignment.html", files)
    assert "localised, experts: 1 above and 0 below" in networks.answer
    assert "0.90 by distributed (layer 0, " in compared.answer
    assert "the best of 4, of which by chance one alone comes up to 0.60" in compared.answer
    for leaf in (networks, compared):
        page = str(render_leaf(leaf, []))
        assert HOSTILE not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert [block for block in leaf.blocks if isinstance(block, Figure)]
        assert isinstance(leaf.blocks[-1], Prose)


def test_every_figure_says_what_would_speak_against_it(inputs):
    files = Files()
    leaves = connect_leaf(inputs, "a.html", files), align_leaf(inputs, "b.html", files)
    figures = [own for leaf in leaves for own in leaf.blocks if isinstance(own, Figure)]
    assert all(own.look_for and own.falsify and own.alt and own.data for own in figures)
    titles = " ".join(own.title for own in figures)
    for words in ("go together", "Cycles of three", "Which of 90 stimuli", "few trials", "CKA"):
        assert words in titles


def test_scores_stand_beside_their_chance(inputs):
    rows = identification_frame(inputs.alignment)
    assert set(rows["by"]) == {"localised", "distributed", SHARED}
    cells = identification_table(rows, "").rows[0]
    assert [cells[4].text, cells[4].note] == ["0.90", "0.40 to 0.60"]
    few = transfer_frame(inputs.alignment).set_index("arm")
    assert few.loc["adapter", "accuracy"].tolist() == pytest.approx([0.8] * 4)
    cells = geometry_table(geometry_frame(inputs.alignment), "").rows[0]
    assert [cells[2].text, cells[2].note] == ["0.70", "0.00 to 0.20"]
    assert cells[4].text == "–"  # there is no RSA


def test_what_seeds_have_in_common_stands_beside_its_null(inputs):
    leaf = align_leaf(inputs, "b.html", Files())
    blocks = iter(leaf.blocks)
    while getattr(next(blocks), "title", "") != "What subjects have in common at most":
        pass
    table = next(blocks)
    first, second = ([cell.text for cell in row] for row in table.rows)
    assert first[1:] == ["0", "2", "90", "0.60", "0.010", "0.45"]
    assert table.rows[1][4].note == "\N{MINUS SIGN}0.10 to 0.20"
    assert second[4] == "0.10"


def test_of_two_subjects_all_others_are_one(inputs):
    found = inputs.alignment.found
    for own in found.values():
        own["shared_identification"][:] = 0.95
    answer = align_leaf(inputs, "b.html", Files()).answer
    assert "0.95 by the other in the shared space (" in answer
    assert by_whom(SHARED, 3) == "all others"
    assert by_whom("localised", 2) == "localised"


def test_only_subjects_of_their_own_bases_are_seeds(inputs, config):
    trained = {f"s{n}": {"source": "trained", "base_seed": n, "state": "localised"} for n in (1, 2)}
    own = StudyConfig.from_dict({**config.to_dict(), "subjects": trained})
    titles = [
        getattr(block, "title", "")
        for block in align_leaf(replace(inputs, config=own), "b.html", Files()).blocks
    ]
    assert "What seeds have in common at most" in titles


def test_a_missing_file_is_a_problem_and_no_failure(tmp_path, config):
    reader = Reader(tmp_path)
    assert not read_networks(reader, config)
    assert not read_alignment(reader, config)
    assert {own.path for own in reader.problems} >= {
        "analyses/align/left_out.json",
        "analyses/connect/localised/left_out.json",
    }


def test_a_file_of_another_shape_is_a_problem(study, config):
    path = study / "analyses/connect/localised/events.content.expert.zarr"
    write_map(study / "other.zarr", xr.Dataset({"edge_z": ("node", [1.0])}))
    for old in sorted(path.rglob("*"), reverse=True):
        old.rmdir() if old.is_dir() else old.unlink()
    path.rmdir()
    (study / "other.zarr").rename(path)
    reader = Reader(study)
    assert not read_networks(reader, config).found
    assert "Run the stage 'connect' again" in reader.problems[0].message


def test_without_either_section_nothing_is_read(tmp_path, repository):
    values = yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))
    config = StudyConfig.from_dict(values)
    reader = Reader(tmp_path)
    assert not read_networks(reader, config)
    assert not read_alignment(reader, config)
    assert reader.problems == []


def test_folded_tables_are_tables(inputs):
    leaf = align_leaf(inputs, "b.html", Files())
    folds = [own for own in leaf.blocks if isinstance(own, Fold)]
    assert all(isinstance(own.table, Table) for own in folds)
    assert len(folds) == 2
