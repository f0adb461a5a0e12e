"""The stage that writes the networks of a subject."""

import json

import networkx as nx
import numpy as np
import pytest
from network_recordings import random_subject, record_events, write_events

from lmri.config import ConnectOptions
from lmri.connect import connect_subject, read_activity, strongest_edges
from lmri.connect.measures import KINDS
from lmri.errors import EvidenceError, StoreError
from lmri.store import open_recordings, read_map

OPTIONS = ConnectOptions(
    kinds=("expert", "head", "layer"),
    phases=("content",),
    draws=19,
    rewirings=19,
    runs=3,
    density=0.2,
)
CONTRASTS = [
    {"name": "refusal", "task": "events", "target": ["sensitive"], "controls": ["benign"]},
    {"name": "places", "task": "events", "target": ["near_miss_place"], "controls": ["benign"]},
]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A random subject without norms of layers, in two shards."""
    folder = tmp_path_factory.mktemp("connect")
    model, stimuli = random_subject(folder / "tiny"), write_events(folder / "events.parquet")
    record_events(stimuli, model, folder / "recordings", "tiny", ("router", "head"), shards=2)
    return folder / "recordings"


def connect(recordings, out, options=OPTIONS):
    connect_subject(
        subject="tiny",
        recordings=recordings,
        out=out,
        tasks={"events": ()},
        contrasts=CONTRASTS,
        options=options,
        seed=0,
        provenance={"stage": "connect"},
    )
    return out, json.loads((out / "left_out.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def connected(recordings, tmp_path_factory):
    return connect(recordings, tmp_path_factory.mktemp("out") / "tiny")


def test_activity_is_read_over_shards(recordings):
    tree = open_recordings(recordings / "events")
    activity = read_activity(tree, "expert", "content", split=None)
    np.testing.assert_allclose(activity.values.sum(axis=2), 2)
    router, index = tree["tokens/router"].dataset, tree["tokens/index"].dataset
    third = (index["trial"].values == 3) & (index["phase"].values == 1)
    assert list(index["phase"].attrs["phases"])[1] == "content"
    chosen = router["expert_id"].values[third]
    expected = np.bincount(chosen[:, 1].ravel(), minlength=8) / third.sum()
    np.testing.assert_allclose(activity.values[3, 1], expected)
    few = read_activity(tree, "expert", "content", nodes=4)
    assert len(few.nodes) == 4
    assert few.left_out["beyond the largest number of nodes"] > 0


def test_networks_are_written_with_their_origin(connected):
    out, _ = connected
    assert {path.name for path in out.glob("*.zarr")} == {
        "events.content.expert.zarr",
        "events.content.head.zarr",
    }
    found = read_map(out / "events.content.expert.zarr")
    assert list(found["kind"].values) == list(KINDS)
    assert list(found["network"].values) == ["all", "within"]
    assert {"all", "within", "benign"} <= set(found["session"].values)
    assert found.attrs["exchanged"] == "place, year: the larger p"
    assert json.loads(found.attrs["carriers"]).keys() == {"place", "year"}
    assert "'stage': 'connect'" in found.attrs["provenance"]
    names = [
        f"{n}.{u}"
        for n, u in zip(found["node_layer"].values, found["node_unit"].values, strict=True)
    ]
    assert list(found["node"].values) == names


def test_cycles_are_those_of_the_graph_that_is_told(connected):
    found = read_map(connected[0] / "events.content.expert.zarr").sel(network="all")
    weights = np.nan_to_num(found["edge_z"].values)
    graph = strongest_edges(weights, 0.2)
    expected = nx.triangles(nx.from_numpy_array(graph))
    assert found["triangles"].values.tolist() == [expected[n] for n in range(len(graph))]
    np.testing.assert_array_equal(found["degree"], graph.sum(axis=0))


def test_what_cannot_be_told_is_left_out_and_said(connected):
    _, left_out = connected
    assert "'layer', which was not recorded" in left_out["events.content.layer"]
    small = [name for name in left_out if name.startswith("events.content.head.")]
    assert all("20 trials or more" in left_out[name] for name in small if "graph" not in name)


def test_the_same_seed_writes_the_same_bits(recordings, connected, tmp_path):
    out, _ = connect(recordings, tmp_path / "again")
    first, second = (read_map(path / "events.content.head.zarr") for path in (connected[0], out))
    assert first.identical(second)


def test_too_few_trials_and_unknown_names_are_refused(recordings, tmp_path):
    tree = open_recordings(recordings / "events")
    with pytest.raises(EvidenceError, match=r"20 trials or more. \d+ of the split 'evaluation'"):
        read_activity(tree, "expert", "content", split="evaluation")
    with pytest.raises(EvidenceError, match=r"'phase' of the recording.*Got 'thought'"):
        read_activity(tree, "head", "thought")
    with pytest.raises(EvidenceError, match=r"'kind' of a network.*Got 'neuron'"):
        read_activity(tree, "neuron", "content")
    with pytest.raises(StoreError, match="Record the task first"):
        connect(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
