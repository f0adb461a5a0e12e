"""Compression scores of planted trajectories."""

import numpy as np
import pandas as pd
import pytest

from lmri.errors import EvidenceError
from lmri.information.bottleneck.measure import measure_layer, measure_snapshot
from lmri.information.bottleneck.network import LAYERS, Training, train_networks
from lmri.information.bottleneck.scores import Trajectories, compression
from lmri.information.bottleneck.task import make_task


@pytest.mark.parametrize(
    ("trajectory", "score"),
    [
        ([1, 2, 4, 4, 4, 2, 1, 1, 1], 0.75),
        ([1, 2, 3, 4, 4, 4], 0),
        ([5, 5, 5], 0),
        ([4, 4, 4, 0, 0, 0], 1),
        ([0, 9, 0, 0, 0, 0], 1),
        ([0, 0, 0], np.nan),
    ],
)
def test_scores_of_planted_trajectories(trajectory, score):
    assert compression(np.array(trajectory, float)) == pytest.approx(score, nan_ok=True)


def test_a_single_wobble_weighs_a_third():
    """max of the moving mean is (3 + 3 + 6) / 3 = 4, the end is 3."""
    assert compression(np.array([3.0, 3, 6, 3, 3, 3])) == pytest.approx(1 / 4)


def test_untrained_networks_do_not_compress():
    task = make_task(0)
    training = Training("relu", initialisations=2, epochs=4, measured=4, rate=0.0)
    rows = np.arange(0, 4096, 16)
    found = [
        row
        for snapshot in train_networks(task, training)
        for row in measure_snapshot(snapshot, task.labels, rows, (0.01,))
    ]
    table = pd.DataFrame(found)
    assert set(table["channel"]) == {"ebab", "akde_0.01", "bins"}
    for _, own in table.groupby(["channel", "layer", "initialisation"]):
        assert own["i_xt"].max() > 0
        assert compression(own.sort_values("epoch")["i_xt"].to_numpy()) == 0


def test_information_of_layers_that_can_be_worked_out():
    """Two values that are the label tell ln 2 of it; a dead layer tells nothing."""
    labels = np.arange(4096) % 2
    rows = np.arange(1024)
    activity = labels[:, None] * np.ones((1, 3), np.float32)
    for row in measure_layer(activity, labels, rows, (1e-4,)):
        assert row["i_xt"] == pytest.approx(np.log(2), abs=1e-6)
        assert row["i_ty"] == pytest.approx(np.log(2), abs=1e-6)
    for row in measure_layer(0 * activity, labels, rows, (1e-4, 0.1)):
        assert (row["i_xt"], row["i_ty"]) == (0, 0)


def test_a_layer_that_tells_every_input_is_flagged():
    activity = np.random.default_rng(0).normal(size=(4096, 10)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 2, size=4096)
    found = {
        row["channel"]: row for row in measure_layer(activity, labels, np.arange(512), (1e-4,))
    }
    assert all(row["saturated"] for row in found.values())
    assert found["ebab"]["i_ty"] > 0.69  # of random labels: what the flag is for


def tables(initialisations=3, epochs=(0, 1, 2)):
    grid = pd.MultiIndex.from_product(
        [["relu", "tanh"], range(initialisations), LAYERS, epochs, ["ebab"]],
        names=["setting", "initialisation", "layer", "epoch", "channel"],
    )
    information = grid.to_frame(index=False).assign(i_xt=lambda own: 1.0 + own["initialisation"])
    training = information[["setting", "initialisation", "epoch"]].drop_duplicates()
    right = 0.5 + 0.2 * (training["initialisation"] > 0)
    return information, training.assign(
        accuracy_training=right, accuracy_test=right - 0.01, majority=0.51
    )


SETTINGS = {"relu": ("relu", 0.0), "tanh": ("tanh", 0.0)}


def test_tables_are_arranged_whatever_the_order_of_their_rows():
    information, training = tables()
    shuffled = information.sample(frac=1, random_state=0)
    study = Trajectories.from_tables(SETTINGS, shuffled, training.sample(frac=1, random_state=1))
    assert study.information["ebab"].shape == (2, 3, len(LAYERS), 3)
    assert (study.information["ebab"][:, 2] == 3).all()
    assert study.learned.tolist() == [[False, True, True]] * 2
    assert np.isnan(study.scores["ebab"][:, 0]).all()
    assert (study.scores["ebab"][:, 1:] == 0).all()
    assert (study.place("tanh"), study.place("tanh", True), study.place("elu")) == (1, None, None)


def test_settings_that_were_trained_differently_are_refused():
    information, training = tables()
    with pytest.raises(EvidenceError, match="same initialisations and epochs"):
        Trajectories.from_tables(SETTINGS, information[:-1], training)
    with pytest.raises(EvidenceError, match="at least 3 measured epochs"):
        Trajectories.from_tables(SETTINGS, *tables(epochs=(0, 1)))
