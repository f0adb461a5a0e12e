"""The subspace of a band is the planted one; random ones hold as much variance."""

import numpy as np
import pandas as pd
import pytest
import torch
from streams import FakeRecording

from lmri.encode.moments import Trained
from lmri.encode.ridge import Chosen, fit, search_of
from lmri.encode.subspaces import (
    Text,
    band_subspace,
    matched_subspace,
    next_tokens,
    output_effect,
    recorded_texts,
    share_of,
)
from lmri.errors import EvidenceError


def test_the_planted_subspace_is_found(rng, grouped, sums):
    folds = grouped(100, 4)
    X = rng.normal(size=(400, 5))
    planted = np.linalg.qr(rng.normal(size=(12, 2)))[0]
    Y = 3 * X[:, :2] @ planted.T + 0.3 * rng.normal(size=(400, 12))
    trained = Trained.of(sums(X, Y, folds), np.arange(5))
    search = search_of(2, 1, 0)
    chosen = Chosen(np.zeros(12, dtype=int), np.full(12, 2))
    weights = fit(trained, chosen, search, [2, 3])
    covariance = np.cov(Y.T)
    found = band_subspace(trained, weights, slice(0, 2), covariance)
    assert found.basis.shape == (12, 2)
    assert np.linalg.svd(planted.T @ found.basis)[1] == pytest.approx([1, 1], abs=1e-3)
    assert found.share == pytest.approx(18 / (18 + 12 * 0.09), abs=0.02)
    assert found.predicted <= found.share
    other = band_subspace(trained, weights, slice(2, 5), covariance)
    assert other.predicted < 0.01
    assert band_subspace(trained, 0 * weights, slice(0, 2), covariance) is None


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25])
def test_random_subspaces_hold_as_much_variance(share, rng):
    mixing = rng.normal(size=(30, 30)) * np.linspace(3, 0.2, 30)
    covariance = mixing @ mixing.T
    drawn = [matched_subspace(covariance, 3, share, rng) for _ in range(5)]
    for basis in drawn:
        assert basis.T @ basis == pytest.approx(np.eye(3), abs=1e-9)
        assert share_of(covariance, basis) == pytest.approx(share, rel=0.01)
    overlap = np.linalg.svd(drawn[0].T @ drawn[1])[1]
    assert overlap.min() < 0.99


def test_nothing_ablated_changes_nothing(tiny_subject, small_world):
    texts = [
        Text(
            np.array(tiny_subject.tokenizer(item.prompt, add_special_tokens=False)["input_ids"]), 8
        )
        for item in (small_world.event(p, "1900") for p in small_world.places[:5])
    ]
    texts[2] = Text(texts[2].ids[:-1], 7)
    intact = next_tokens(tiny_subject, texts)
    assert [len(own) for own in intact] == [len(own.ids) - own.n_prompt + 1 for own in texts]
    assert intact[0].exp().sum(1).numpy() == pytest.approx(1, abs=1e-5)
    same = output_effect(
        intact, next_tokens(tiny_subject, texts, 0, np.zeros((32, 1)), np.zeros(32))
    )
    assert same == {"divergence": pytest.approx(0, abs=1e-6), "changed": 0}
    gone = next_tokens(tiny_subject, texts, 0, np.eye(32), np.zeros(32))
    assert output_effect(intact, gone)["divergence"] > 0.01
    # At the last layer only what is read at that token can change.
    last = next_tokens(tiny_subject, texts, 1, np.eye(32), np.ones(32))
    assert (last[0][0] - intact[0][0]).abs().max() > 0.01
    torch.testing.assert_close(last[0][1:], intact[0][1:], atol=1e-6, rtol=0)
    with pytest.raises(EvidenceError, match="at least one recorded trial"):
        next_tokens(tiny_subject, [])


def test_divergence_and_changes_by_hand():
    intact = [torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log(), torch.tensor([[0.8, 0.2]]).log()]
    other = [torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log(), torch.tensor([[0.8, 0.2]]).log()]
    found = output_effect(intact, other)
    assert found["divergence"] == pytest.approx(0.8 * np.log(9) / 2 / 2)
    assert found["changed"] == 0.5


def test_texts_are_those_of_the_split_whatever_the_blocks():
    trials = pd.DataFrame(
        {"split": ["selection", "calibration", "calibration"], "n_prompt": 2, "repeat": [0, 0, 1]}
    )
    index = {
        "trial": np.array([0, 0, 1, 1, 1, 2, 2]),
        "position": np.array([0, 1, 0, 1, 2, 0, 1]),
        "token_id": np.array([4, 5, 6, 7, 8, 6, 7]),
    }
    for block in (1, 2, 10):
        arrays = {f"tokens/index/{name}": values for name, values in index.items()}
        shards = [FakeRecording(trials, arrays, block) for _ in range(2)]
        found = recorded_texts(shards, "calibration", 10)
        assert [own.ids.tolist() for own in found] == [[6, 7, 8]] * 2
        assert [own.n_prompt for own in found] == [2, 2]
        assert len(recorded_texts(shards, "calibration", 1)) == 1
        assert recorded_texts(shards, "evaluation", 10) == []
