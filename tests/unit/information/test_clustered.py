"""Means over tokens with errors over texts."""

import numpy as np

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
