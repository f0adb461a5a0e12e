"""Noise and few dimensions: scale, what is kept, and what components can miss."""

import math

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.compression import (
    compress,
    compressed_information,
    compressed_pair,
    with_noise,
)


def embedded(n, seed=0):
    """Two latent dimensions in 40, labels by the first."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 2))
    return z, z @ rng.normal(size=(2, 40)), (z[:, 0] > 0).astype(np.int64)


def test_noise_is_in_units_of_the_layer():
    t = np.random.default_rng(0).normal(2, 3, size=(4_000, 10))
    added = with_noise(t, 0.1, seed=1) - t
    assert added.std() == pytest.approx(0.3, rel=0.02)
    assert np.array_equal(with_noise(t, 0.1, seed=1), with_noise(t, 0.1, seed=1))
    t[:, 0] = 0  # units at 0 get noise as all others do
    assert (with_noise(t, 0.1, seed=1) - t)[:, 0].std() > 0.2
    assert np.array_equal(with_noise(t, 0, seed=1), t)


def test_components_keep_a_plane():
    z, t, _ = embedded(500)
    found = compress(t, 2)
    assert found.kept == pytest.approx(1)
    residual = z - found.values @ np.linalg.lstsq(found.values, z - z.mean(0), rcond=None)[0]
    assert residual.std(axis=0).max() < 1e-9
    assert compress(t, 1).kept < 0.95
    assert compress(z, 4).method == "none"


def test_autoencoder_keeps_a_curve_that_components_do_not():
    rng = np.random.default_rng(0)
    angle = rng.uniform(-2.5, 2.5, 800)
    t = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    curve = compress(t, 1, method="autoencoder")
    assert curve.kept > compress(t, 1).kept + 0.1
    again = compress(t, 1, method="autoencoder")
    assert np.array_equal(curve.values, again.values)


def test_information_of_labels_through_noise():
    _, t, y = embedded(2_000)
    clear = compressed_information(t, y, noise=0.01, dimensions=2)
    blurred = compressed_information(t, y, noise=3.0, dimensions=2)
    assert clear.value == pytest.approx(math.log(2), abs=0.06)
    assert blurred.value < 0.6 * clear.value
    assert clear.channel["compression"] == "pca"
    assert clear.channel["kept"] > 0.99


def test_variance_is_no_certificate():
    """All that tells the labels is in the smallest component."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 1_000)
    t = np.concatenate([2 * rng.normal(size=(1_000, 2)), y[:, None] - 0.5], axis=1)
    t += 0.01 * rng.normal(size=t.shape)
    lost = compressed_information(t, y, noise=0, dimensions=2)
    assert lost.channel["kept"] > 0.96
    assert abs(lost.value) < 0.1
    assert compressed_information(t, y, noise=0, dimensions=3).value > 0.4


def test_information_of_inputs():
    z, t, _ = embedded(1_500)
    found = compressed_pair(z, t, noise=0.5, dimensions=2)
    assert found.quantity == "I(X;T)"
    assert found.value > compressed_pair(z, t, noise=3.0, dimensions=2).value > 0
    shuffled = np.random.default_rng(2).permutation(z)
    assert abs(compressed_pair(shuffled, t, noise=0.5, dimensions=2).value) < 0.1


def test_what_is_refused():
    _, t, _ = embedded(50)
    with pytest.raises(EvidenceError, match="'method' of compress"):
        compress(t, 2, method="tsne")
    with pytest.raises(EvidenceError, match="must vary"):
        compress(np.ones((10, 5)), 2)
    with pytest.raises(EvidenceError, match="must vary"):
        with_noise(np.ones((10, 5)), 0.1, 0)
    with pytest.raises(EvidenceError, match="'noise' of with_noise"):
        with_noise(t, -1, 0)
    with pytest.raises(EvidenceError, match="at least 6 samples"):
        compressed_information(t, np.arange(50) < 3, noise=0.1)
