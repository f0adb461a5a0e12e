"""Noise and few dimensions: what makes the information of a layer finite, and estimable.

Noise. A deterministic layer tells everything of its inputs. With Gaussian noise of standard
deviation ``noise x RMS`` in the network itself (:mod:`lmri.information.injection`) the information
is finite and a property of that noisy network. Noise added afterwards (:func:`with_noise`) gives a
finite number too, of the activity seen through a channel of the analyst's.

Few dimensions. For any map f of the activity, ``I(f(T); Y) <= I(T; Y)``: what is estimated after
compression is, in the population, a lower bound. Nothing is lost in these cases (after Butakov et
al. 2024, arXiv:2305.08013, whose wording was not compared):

- f is injective and smooth with a Jacobian of full rank almost everywhere, as an autoencoder that
  reconstructs without error: ``I(f(T); Y) = I(T; Y)``.
- What is thrown away, Z, can be told apart from what is kept (``T = g(X, Z)``, X a function of T)
  and is independent of (X, Y): equality again. Otherwise the loss is at most
  ``h(Z) - h(Z | X, Y)``.
- For principal components the loss is bounded by the information in the components that are
  dropped. The share of variance that is kept is **no** certificate: all information may be in the
  smallest component. Compare with more components, or with an autoencoder, and with a probe on all
  dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from lmri.checks import check_choice, check_range
from lmri.errors import EvidenceError
from lmri.information.entropy import label_information
from lmri.information.estimate import Estimate
from lmri.information.neighbours import ksg
from lmri.information.samples import (
    as_continuous,
    as_samples,
    root_mean_square,
    same_length,
)

DIMENSIONS = 4
"""Dimensions that the paper compresses to."""

METHODS = ("pca", "autoencoder")
STEPS, WIDTH, RATE, BATCH = 1500, 64, 3e-3, 256


@dataclass(frozen=True)
class Compressed:
    """Samples in few dimensions.

    Attributes
    ----------
    values : ndarray of shape (n, d), float64
        The samples.
    method : str
        ``pca`` or ``autoencoder``.
    kept : float
        Share of the variance that can be reconstructed from them. No certificate, see the module.
    """

    values: np.ndarray
    method: str
    kept: float


def with_noise(t: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Add Gaussian noise in units of a layer's root mean square.

    The same noise for every unit, whatever its activity: noise in proportion to the activity would
    spare exact zeros, and is not the channel of the theory.

    Parameters
    ----------
    t : ndarray of shape (n, d)
        Activity.
    noise : float
        Standard deviation in units of :func:`lmri.information.samples.root_mean_square`.
    seed : int
        Seed of the noise.

    Returns
    -------
    ndarray of shape (n, d), float64
        ``t + noise RMS N(0, I)``.

    Raises
    ------
    EvidenceError
        If the activity is constant or the noise is negative.
    """
    check_range(noise, "noise", "with_noise", 0, error=EvidenceError)
    t = as_samples(t, "T of with_noise")
    scale = root_mean_square(t)
    if scale == 0:
        raise EvidenceError(
            f"Activity must vary for noise in units of its rms. All {len(t)} samples are equal."
        )
    return t + noise * scale * np.random.default_rng(seed).normal(size=t.shape)


def compress(
    t: np.ndarray, dimensions: int = DIMENSIONS, *, method: str = "pca", seed: int = 0
) -> Compressed:
    """Reduce samples to few dimensions.

    Parameters
    ----------
    t : ndarray of shape (n, d)
        Samples; returned as they are where d is not above ``dimensions``.
    dimensions : int
        Dimensions that are kept.
    method : str
        ``pca``, principal components; ``autoencoder``, two layers each way with softplus, trained
        on these samples to reconstruct them.
    seed : int
        Seed of the autoencoder.

    Returns
    -------
    Compressed
        The samples and what they keep.

    Raises
    ------
    EvidenceError
        If the method is unknown, or the samples are constant or not finite.
    """
    check_choice(method, METHODS, "method", "compress", EvidenceError)
    check_range(dimensions, "dimensions", "compress", 1, error=EvidenceError)
    t = as_samples(t, "T of compress")
    if not np.ptp(t, axis=0).any():
        raise EvidenceError(f"Samples to compress must vary. All {len(t)} are equal.")
    if t.shape[1] <= dimensions:
        return Compressed(t, "none", 1.0)
    if method == "pca":
        return _principal(t, min(dimensions, len(t) - 1))
    return _encoded(t, dimensions, seed)


def compressed_information(
    t: np.ndarray,
    labels: np.ndarray,
    *,
    noise: float,
    dimensions: int = DIMENSIONS,
    method: str = "pca",
    k: int = 5,
    weighted: bool = False,
    seed: int = 0,
) -> Estimate:
    """I(T;Y) about labels from activity with noise, in few dimensions, by entropies of neighbours.

    Parameters
    ----------
    t : ndarray of shape (n, d)
        Activity: with ``noise`` 0 where noise was injected in the network.
    labels : ndarray of shape (n,)
        Classes.
    noise : float
        See :func:`with_noise`.
    dimensions, method, seed
        See :func:`compress`.
    k, weighted
        See :func:`lmri.information.entropy.label_information`.

    Returns
    -------
    Estimate
        In nats; its channel has the noise, the dimensions and the share of variance that is kept.

    Raises
    ------
    EvidenceError
        As the functions named above.
    """
    kept = compress(with_noise(t, noise, seed), dimensions, method=method, seed=seed)
    found = label_information(kept.values, labels, k=k, weighted=weighted)
    return named(found, kept, noise)


def compressed_pair(
    x: np.ndarray,
    t: np.ndarray,
    *,
    noise: float,
    dimensions: int = DIMENSIONS,
    method: str = "pca",
    k: int = 5,
    seed: int = 0,
) -> Estimate:
    """I(X;T) of inputs and of activity with noise, both in few dimensions, by KSG.

    Parameters
    ----------
    x : ndarray of shape (n, d)
        Inputs, for example their embeddings; no noise is added to them.
    t, noise, dimensions, method, seed
        As for :func:`compressed_information`.
    k : int
        Neighbours.

    Returns
    -------
    Estimate
        In nats.

    Raises
    ------
    EvidenceError
        As :func:`compress` and :func:`lmri.information.neighbours.ksg`.
    """
    own = compressed_samples(x, t, noise, dimensions, method=method, seed=seed)
    return pair_information(own, noise, k=k)


def compressed_samples(
    x: np.ndarray, t: np.ndarray, noise: float, dimensions: int, *, method: str = "pca", seed: int
) -> tuple[Compressed, Compressed]:
    """Inputs, and activity with noise, both in few dimensions and at one scale.

    Parameters
    ----------
    x, t, noise, dimensions, method, seed
        As for :func:`compressed_pair`.

    Returns
    -------
    tuple of Compressed
        Both; their root mean square is 1, since one norm compares them.

    Raises
    ------
    EvidenceError
        As :func:`compress`.
    """
    inputs = compress(x, dimensions, method=method, seed=seed)
    kept = compress(with_noise(t, noise, seed), dimensions, method=method, seed=seed)
    same_length(len(inputs.values), len(kept.values), "a compressed pair")
    return tuple(replace(own, values=_scaled(own.values)) for own in (inputs, kept))


def pair_information(pair: tuple[Compressed, Compressed], noise: float, *, k: int = 5) -> Estimate:
    """I(X;T) of compressed samples by KSG.

    Parameters
    ----------
    pair : tuple of Compressed
        From :func:`compressed_samples`.
    noise : float
        Noise that the activity has, for the channel.
    k : int
        Neighbours.

    Returns
    -------
    Estimate
        In nats.

    Raises
    ------
    EvidenceError
        As :func:`lmri.information.neighbours.ksg`.
    """
    found = ksg(pair[0].values, pair[1].values, k=k)
    return replace(named(found, pair[1], noise), quantity="I(X;T)")


def named(found: Estimate, kept: Compressed, noise: float) -> Estimate:
    """Add to the channel of an estimate what was compressed, and with how much noise."""
    channel = {
        **found.channel,
        "noise": noise,
        "reference": "rms",
        "compression": kept.method,
        "dimensions": kept.values.shape[1],
        "kept": kept.kept,
    }
    return replace(found, channel=channel)


def _scaled(values: np.ndarray) -> np.ndarray:
    return values / root_mean_square(as_continuous(values, "compressed samples"))


def _principal(t: np.ndarray, dimensions: int) -> Compressed:
    centred = t - t.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    # The sign of a component is chosen, so that it does not depend on the library.
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    values = (left * sizes * signs)[:, :dimensions]
    kept = float((sizes[:dimensions] ** 2).sum() / (sizes**2).sum())
    return Compressed(values, "pca", kept)


def _encoded(t: np.ndarray, dimensions: int, seed: int) -> Compressed:
    scale = t.std(axis=0)
    samples = torch.from_numpy((t - t.mean(axis=0)) / np.where(scale > 0, scale, 1)).float()
    generator = torch.Generator().manual_seed(seed)
    encoder, decoder = (
        nn.Sequential(nn.Linear(a, WIDTH), nn.Softplus(), nn.Linear(WIDTH, b))
        for a, b in ((t.shape[1], dimensions), (dimensions, t.shape[1]))
    )
    _initialise(encoder, generator)
    _initialise(decoder, generator)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(samples), (min(BATCH, len(samples)),), generator=generator)
        optimiser.zero_grad()
        (decoder(encoder(samples[rows])) - samples[rows]).square().mean().backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        codes = encoder(samples)
        left = float((decoder(codes) - samples).square().sum() / samples.square().sum())
    return Compressed(codes.double().numpy(), "autoencoder", 1 - left)


def _initialise(network: nn.Sequential, generator: torch.Generator) -> None:
    """Draw weights from a generator of their own: the global one is left as it is."""
    for layer in network:
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.zeros_(layer.bias)
