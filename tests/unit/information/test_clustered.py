"""Means over tokens with errors over texts and their carriers."""

from itertools import product

import numpy as np
import pytest

from lmri.information.clustered import ClusteredMeans


def test_means_weigh_tokens_alike_and_errors_are_over_texts():
    generator = np.random.default_rng(0)
    means, draws = [], []
    for _ in range(300):
        clustered = ClusteredMeans((1,))
        for _ in range(40):
            count = generator.integers(1, 10)
            values = generator.standard_normal() + 0.1 * generator.standard_normal(count)
            clustered.add(np.array([values.sum()]), np.array([count]))
        means.append(clustered.mean()[0])
        draws.append(clustered.error()[0])
    # As if tokens were independent the error would be less than half of this.
    np.testing.assert_allclose(np.mean(draws), np.std(means), rtol=0.1)


def test_cells_without_elements():
    clustered = ClusteredMeans((3,))
    clustered.add(np.array([2.0, 4.0, 0.0]), np.array([1, 2, 0]))
    clustered.add(np.array([4.0, 0.0, 0.0]), np.array([1, 0, 0]))
    np.testing.assert_array_equal(clustered.mean(), [3, 2, np.nan])
    np.testing.assert_array_equal(clustered.error(), [1, np.nan, np.nan])


@pytest.mark.parametrize("crossed", [True, False])
def test_texts_of_one_place_or_year_are_not_independent(crossed):
    generator = np.random.default_rng(0)
    means, errors, alone = [], [], []
    for _ in range(300):
        clustered, texts = ClusteredMeans((1,)), ClusteredMeans((1,))
        places, years = generator.standard_normal((2, 12))
        for place, year in product(range(12), range(12)):
            value = places[place] + crossed * years[year] + 0.3 * generator.standard_normal()
            own = np.array([3 * value]), np.array([3])
            clustered.add(*own, {"place": f"p{place}", "year": f"y{year}"})
            texts.add(*own)
        means.append(clustered.mean()[0])
        errors.append(clustered.error()[0])
        alone.append(texts.error()[0])
    np.testing.assert_allclose(np.mean(errors), np.std(means), rtol=0.12)
    assert np.mean(alone) < np.std(means) / 2


def test_carriers_that_are_the_texts_change_nothing():
    clustered, texts = ClusteredMeans((2,)), ClusteredMeans((2,))
    for number, value in enumerate(np.random.default_rng(0).standard_normal((9, 2))):
        clustered.add(value, np.ones(2), {"entity": str(number), "task": "same"})
        texts.add(value, np.ones(2))
    np.testing.assert_allclose(clustered.error(), texts.error())
