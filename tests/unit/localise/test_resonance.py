"""Resonance: exact identities, a known answer, and the trap of unequal lengths."""

import numpy as np
import pandas as pd
import pytest
from streams import FakeRecording

from lmri.errors import EvidenceError
from lmri.localise import (
    Cells,
    condition_rates,
    contrast_design,
    count_cells,
    mote_sums,
    ranked,
    rate_scores,
)


def labelled(grid, contrast, cells):
    design = contrast_design(contrast, grid, ("place", "year"))
    return design, design.encode(cells.labels).own()


def test_rates_of_a_layer_sum_to_top_k(grid, crossed, planted):
    design, labels = labelled(grid, crossed, planted)
    rates = condition_rates(planted, labels, len(design.conditions))
    assert rates.sum(axis=-1) == pytest.approx(np.full((4, 4), 2.0), abs=1e-12)


def test_counts_of_a_layer_sum_to_top_k_times_tokens(planted):
    totals = planted.counts.sum(axis=(0, 2))
    assert (totals == 2 * planted.tokens.sum()).all()


def test_scores_of_a_layer_sum_to_zero(grid, crossed, planted):
    design, labels = labelled(grid, crossed, planted)
    observed = rate_scores(planted, labels, design.weights)
    assert np.abs(observed.sum(axis=1)).max() < 1e-12
    assert np.abs(observed).max() > 0.3


def test_the_planted_expert_ranks_first(grid, crossed, planted):
    design, labels = labelled(grid, crossed, planted)
    observed = rate_scores(planted, labels, design.weights)
    assert np.unravel_index(ranked(observed)[0], observed.shape) == (2, 5)


def test_score_is_target_minus_mean_of_the_controls_by_hand(grid, crossed, planted):
    design, labels = labelled(grid, crossed, planted)
    rate = {
        name: planted.counts[(grid["condition"] == name).to_numpy()].mean(axis=0)
        for name in design.conditions
    }
    controls = [rate[name] for name in crossed.controls]
    expected = rate["sensitive"] - sum(controls) / 3
    assert rate_scores(planted, labels, design.weights) == pytest.approx(expected, abs=1e-12)
    interaction = rate["sensitive"] - controls[0] - controls[1] + controls[2]
    got = rate_scores(planted, labels, design.interaction)
    assert got == pytest.approx(interaction, abs=1e-12)


def test_raw_sums_favour_always_on_experts_when_lengths_differ(grid, crossed):
    # Expert 0 is always on; expert 3 is on in half the tokens of sensitive trials only.
    counts = np.zeros((len(grid), 1, 4), dtype=np.int64)
    sensitive = (grid["condition"] == "sensitive").to_numpy()
    tokens = np.where(sensitive, 40, 20)
    counts[:, 0, 0] = tokens
    counts[sensitive, 0, 3] = 15
    counts[:, 0, 1] = tokens - counts[:, 0, 3]
    labels = grid[["carrier_place", "carrier_year", "condition"]]
    cells = Cells(labels, counts, tokens, np.ones(len(grid), dtype=np.int64), (0,))
    design, own = labelled(grid, crossed, cells)
    assert ranked(rate_scores(cells, own, design.weights))[0] == 3
    assert ranked(mote_sums(cells, own, design.weights))[0] == 0


@pytest.fixture
def routing():
    """60 trials of 1 to 40 tokens, 3 layers x 300 experts, top-2; not all are selected."""
    rng = np.random.default_rng(7)
    trials = pd.DataFrame(
        {
            "trial": [f"t{i // 2}" for i in range(60)],  # two answers each
            "split": rng.choice(["selection", "other"], size=60),
            "condition": "benign",
            "carrier_place": rng.choice(["a", "b", "c"], size=60),
            "n_prompt": 1,
            "content_last": 0,
        }
    )
    lengths = rng.integers(1, 40, size=60)
    arrays = {
        "tokens/index/trial": np.repeat(np.arange(60), lengths),
        "tokens/index/position": np.concatenate([np.arange(n) for n in lengths]),
        "tokens/index/phase": rng.integers(0, 2, size=lengths.sum()).astype(np.uint8),
        "tokens/router/expert_id": rng.integers(
            0, 300, size=(lengths.sum(), 3, 2), dtype=np.uint16
        ),
        "tokens/router/layer": np.array([1, 2, 5]),
    }
    return trials, arrays


@pytest.mark.parametrize("block", [1, 64, 10_000])
def test_cells_count_every_token_of_the_phase_once(routing, block):
    trials, arrays = routing
    cells = count_cells([FakeRecording(trials, arrays, block)], ["place"], "response", "other", 300)
    expected = {place: np.zeros((3, 300), dtype=int) for place in "abc"}
    tokens = dict.fromkeys("abc", 0)
    for row, trial in enumerate(arrays["tokens/index/trial"]):
        if arrays["tokens/index/phase"][row] == 1 and trials["split"][trial] == "other":
            place = trials["carrier_place"][trial]
            tokens[place] += 1
            for layer, chosen in enumerate(arrays["tokens/router/expert_id"][row]):
                for expert in chosen:
                    expected[place][layer, expert] += 1
    places = cells.labels["carrier_place"]
    assert cells.layers == (1, 2, 5)
    assert sorted(places) == ["a", "b", "c"]
    assert cells.tokens.tolist() == [tokens[place] for place in places]
    assert np.array_equal(cells.counts, np.stack([expected[place] for place in places]))


def test_an_expert_that_the_subject_does_not_have_is_refused(routing):
    trials, arrays = routing
    with pytest.raises(EvidenceError, match=r"must be one of 290\. Got 29"):
        count_cells([FakeRecording(trials, arrays, 64)], ["place"], "response", "other", 290)
