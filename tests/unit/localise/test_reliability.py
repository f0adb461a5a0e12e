"""Split halves agree where something is, and by chance where nothing is."""

import numpy as np
import pytest

from lmri.localise import CountedRates, contrast_design, split_half
from lmri.localise.reliability import _correlation, _sums


def test_halves_find_the_planted_expert_again(grid, crossed, planted):
    design = contrast_design(crossed, grid, ("place", "year"))
    found = split_half(CountedRates(planted), design, best=1, seed=0)
    assert found.dice == 1.0
    assert found.chance < 0.2
    assert found.correlation > 0.3
    assert found.splits == 20


def test_halves_of_noise_agree_by_chance(grid, crossed, routed):
    design = contrast_design(crossed, grid, ("place", "year"))
    found = [
        split_half(CountedRates(routed(grid, 0.0, seed)), design, best=8, seed=0)
        for seed in range(20)
    ]
    assert np.mean([part.dice for part in found]) == pytest.approx(8 / 64, abs=0.06)
    assert np.mean([part.chance for part in found]) == pytest.approx(8 / 64, abs=0.06)
    assert abs(np.mean([part.correlation for part in found])) < 0.1


def test_units_that_vary_most_are_no_agreement(grid, crossed, routed):
    # Of 64 experts 16 are ever chosen: the best 8 of noise are among them in every half.
    design = contrast_design(crossed, grid, ("place", "year"))
    found = []
    for seed in range(20):
        cells = routed(grid, 0.0, seed)
        cells.counts.reshape(len(cells.labels), -1)[:, 16:] = 0
        found.append(split_half(CountedRates(cells), design, best=8, seed=0))
    chance, dice = (
        np.array([getattr(part, name) for part in found]) for name in ("chance", "dice")
    )
    assert chance.mean() > 0.3  # random sets of all experts have 8 / 64
    assert dice.mean() == pytest.approx(chance.mean(), abs=0.06)


def test_halves_share_no_carrier(grid, crossed, planted):
    # One place answers: only the half that has it can see it, so the halves do not agree.
    counts = planted.counts.copy()
    counts[:] = 0
    counts[:, :, 0] = 1
    own = ((grid["carrier_place"] == "p00") & (grid["condition"] == "sensitive")).to_numpy()
    counts[own, 2, 5] = 1
    cells = planted.__class__(planted.labels, counts, planted.tokens, planted.trials, (0, 1, 2, 3))
    design = contrast_design(crossed, grid, ("place", "year"))
    assert split_half(CountedRates(cells), design, best=1, seed=0).dice == 0.0


def test_a_class_with_one_carrier_cannot_be_halved(grid, crossed, planted):
    few = grid[(grid["class_place"] == "null") | (grid["carrier_place"] == "p00")]
    design = contrast_design(crossed, few.reset_index(drop=True), ("place", "year"))
    assert split_half(CountedRates(planted), design, best=1, seed=0) is None


def test_scores_that_are_cut_do_not_make_the_correlation():
    first = np.array([[1.0, 2.0, 3.0, 1e6, np.nan]])
    second = np.array([[3.0, 1.0, 2.0, 1e6, 1.0]])
    (found,) = _correlation(_sums(first, second))
    assert found == pytest.approx(np.corrcoef([1, 2, 3], [3, 1, 2])[0, 1])
