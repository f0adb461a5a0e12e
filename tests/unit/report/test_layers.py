"""The page of layers says what its maps say: known numbers, empty maps, the rule of agreement."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from causal_files import layer_maps, massive_map, write_layers

from lmri.config import load_study
from lmri.localise.heads_and_layers import PROBES
from lmri.localise.layers import active_layers
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs, SubjectInputs
from lmri.report.layers.figures import (
    Drawn,
    curve_figure,
    depth_name,
    drain_curve,
    growth_curve,
    peak_curve,
    received_curve,
    void_figure,
)
from lmri.report.layers.page import has_layers, layers_leaf
from lmri.report.layers.probes import FOLDER, VARIABLES, Probes, read_probes
from lmri.report.layers.replication import replication_table, shared
from lmri.report.layers.tables import found_frame, found_table, massive_of, massive_table
from lmri.report.reader import Reader
from lmri.report.view import Heading


def subject(**changes) -> Probes:
    return Probes({kind: {"events": own} for kind, own in layer_maps(**changes).items()})


def test_the_folder_is_that_of_the_stage():
    assert FOLDER == PROBES


@pytest.mark.parametrize(
    ("largest", "ratio", "scale"),
    [
        (2500.0, 2500, "from 0.04 times this scale on"),
        (99.0, 99, "none at any scale"),
        # Large in a large model: the absolute criterion alone would call it massive.
        (900.0, 900, "none at any scale"),
    ],
)
def test_the_scale_test_is_that_of_the_relative_criterion(largest, ratio, scale):
    found = massive_of(massive_map(largest, hits=0))
    assert (found.largest, found.ratio, found.scale) == (largest, ratio, scale)
    assert found.where == "layer 1, after the block"


def test_without_an_absolute_limit_the_relative_one_holds_at_any_scale():
    own = massive_map(2500.0).assign_attrs(absolute=0.0)
    assert massive_of(own).scale == "at any scale"


def test_a_subject_has_one_row_with_its_strongest_task():
    probes = Probes({"layer.massive": {"a": massive_map(40.0, 0), "b": massive_map(2500.0, 3)}})
    short = massive_table([("x", probes)], "")
    assert [row[1].text for row in short.rows] == ["b"]
    assert short.rows[0][4].text == "3 of 900"
    assert len(massive_table([("x", probes)], "", every=True).rows) == 2
    assert massive_table([("x", Probes())], "") is None


def test_massive_dimensions_are_listed_with_their_sign():
    found = found_frame([("x", subject())])
    assert found.iloc[0].to_dict() == {
        "subject": "x",
        "task": "events",
        "layer": 1,
        "place": "after",
        "dimension": 5,
        "states": 7,
        "tokens": 900,
        "mean": -2500.0,
    }
    assert found_table(found, "").rows[0][5].text == "−2500.00"
    assert found_frame([("x", subject(hits=0))]).empty


def test_the_peak_is_read_along_the_depth():
    depth, values = peak_curve(layer_maps(peak=40.0)["layer.peak"])
    assert depth.tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert values.tolist() == [1, 1, 1, 1, 40, 1, 1]
    assert [depth_name(at) for at in (0, 0.5, 2, 2.5)] == [
        "before the first layer",
        "after attention of layer 0",
        "after layer 1",
        "after attention of layer 2",
    ]


def test_curves_are_means_over_heads_and_sums_over_layers():
    maps = layer_maps()
    assert growth_curve(maps["layer.void"], "prompt")[1].tolist() == [0, 2, 2.5, 5.5]
    assert received_curve(maps["head.sinks"])[1].tolist() == [0, 0.8, 0]
    assert drain_curve(maps["head.drain"])[1].tolist() == pytest.approx([1, 0.2, 1])


def test_void_is_what_is_not_active():
    """Norms of the published example: the layers that are not active are drawn as void."""
    active = active_layers(np.array([1, 2, 2.1, 4.1, 4.2, 4.3, 8.3]))
    own = layer_maps()["layer.void"]
    layers = np.arange(len(active))
    shares = np.stack([active, np.full(len(active), np.nan)]).astype(float)
    drawn = xr.Dataset(
        {"active": (("phase", "layer"), shares), "tokens": own["tokens"]},
        {"phase": own["phase"], "layer": layers},
        own.attrs,
    )
    figure = void_figure([("x", Probes({"layer.void": {"events": drawn}}))], "")
    assert [panel.title for panel in figure.panels] == ["Events, while it reads (n = 700 tokens)"]
    assert "layer 3 is void most, in 100% of the tokens" in figure.alt


def test_a_line_per_subject_the_largest_named():
    entries = [("x", subject(peak=3.0)), ("y", subject(peak=40.0))]
    figure = curve_figure(
        entries,
        [Drawn("layer.peak", peak_curve, level=1.0)],
        title="Peak",
        axis="depth in layers",
        look_for="",
        falsify="",
        key="peak",
        data="",
    )
    assert figure.panels[0].title == "Events (orange: y)"
    assert "the largest value is 40.00, in y at depth in layers 2" in figure.alt


def test_nothing_is_drawn_of_nothing():
    assert void_figure([("x", Probes())], "") is None
    assert replication_table([("x", Probes()), ("y", Probes())], "") is None
    assert replication_table([("x", subject())], "") is None


@pytest.mark.parametrize(
    ("counts", "standing"),
    [((5, 0), "replicates"), ((4, 1), "replicates"), ((3, 2), "replicates in part")],
)
def test_the_rule_of_agreement(counts, standing):
    found = {str(at): "a" if at < counts[0] else f"b{at}" for at in range(sum(counts))}
    row = shared("what", "task", found, [1.0, 2.0])
    assert (row.most, row.count, row.standing, row.spread) == (
        "a",
        counts[0],
        standing,
        "1.00 to 2.00",
    )


def test_subjects_that_all_differ_do_not_replicate():
    row = shared("what", "task", {"x": "a", "y": "b", "z": "c"}, [np.nan])
    assert (row.standing, row.spread) == ("does not replicate", "")


def test_what_was_left_out_is_no_problem_and_what_is_lost_is_one(tmp_path):
    reasons = {"head.drain.events": "results/x/0.zarr: the recording must hold it."}
    write_layers(tmp_path, "x", ("events",), reasons)
    reader = Reader(tmp_path)
    found = read_probes(reader, "x", ["events"])
    assert set(found.maps) == set(VARIABLES) - {"head.drain"}
    assert found.left_out == {"head.drain.events": "the recording must hold it."}
    assert reader.problems == []
    read_probes(reader, "x", ["events", "lost"])
    assert {problem.path.rpartition("/")[2] for problem in reader.problems} == {
        f"{kind}.lost.zarr" for kind in VARIABLES
    }


@pytest.mark.parametrize("content", ["[", '["a"]'])
def test_unreadable_reasons_are_a_problem(tmp_path, content):
    write_layers(tmp_path, "x", ())
    (tmp_path / "maps/x/probes/left_out.json").write_text(content)
    reader = Reader(tmp_path)
    assert read_probes(reader, "x", []).left_out == {}
    assert "not readable JSON" in reader.problems[0].message


def test_a_map_of_another_shape_is_a_problem(tmp_path):
    write_layers(tmp_path, "x", ("events",))
    folder, reader = tmp_path / "maps/x/probes", Reader(tmp_path)
    (folder / "layer.peak.events.zarr").rename(folder / "layer.massive.other.zarr")
    found = read_probes(reader, "x", ["other"])
    assert "other" not in found.of("layer.massive")
    assert "has no 'hits' by layer, place" in reader.problems[0].message


def study(repository, **probes: Probes) -> StudyInputs:
    """Make the study of five bases and a series of checkpoints, of which some have maps."""
    config = load_study(repository / "config/studies/localisers.yaml")
    empty = pd.DataFrame()
    subjects = [
        SubjectInputs(name, empty, empty, empty, {}, {}, {}, {}, probes.get(name, Probes()))
        for name in config.subjects
    ]
    return StudyInputs(config, subjects, empty)


def test_checkpoints_of_a_series_count_only_where_there_is_nothing_else(repository):
    inputs = study(repository)
    assert inputs.independent(inputs.config.subjects) == [f"localised_{n}" for n in range(11, 16)]
    members = [own.name for own in inputs.config.series["growth"]]
    assert inputs.independent(members) == members[-1:]
    assert inputs.independent(members[:2]) == members[1:2]
    assert inputs.independent([]) == []


def test_a_series_is_followed_over_training(repository):
    members = [own.name for own in study(repository).config.series["growth"]]
    probes = {name: subject(largest=10.0 * at, hits=0) for at, name in enumerate(members)}
    inputs = study(repository, **probes)
    assert has_layers(inputs)
    assert not has_layers(study(repository))
    leaf = layers_leaf(inputs, "layers.html", Files())
    titles = [block.title for block in leaf.blocks if isinstance(block, Heading)]
    assert titles[-1] == "Over training"
    assert "Largest activation on events: 3.00 at step 0, 50.00 at step 600" in leaf.blocks[-1].alt
    assert leaf.blocks[-1].panels[0].title == "Largest activation; orange: events"
    # The checkpoints are one model: they do not replicate each other.
    place = titles.index("What replicates and what does not")
    told = leaf.blocks[leaf.blocks.index(Heading(titles[place])) + 1]
    assert told.lines == [("", "One subject only, so nothing to compare.")]
