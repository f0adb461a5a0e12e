"""InfoNCE: a lower bound from telling true pairs from others, and its ceiling.

With B pairs in a batch the bound cannot exceed log B, not even with the true density ratio: at
4.46 nats it is 3.6 with B = 128, and at 16.6 nats it is log B. Its value near log B says "at least
so much" and nothing else, see the flag ``ceiling``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import logsumexp
from torch import nn

from lmri.checks import check_range
from lmri.errors import EvidenceError
from lmri.information.estimate import Estimate
from lmri.information.samples import as_labels, as_pair, count_distinct

BATCH = 128
STEPS = 1000
WIDTH, EMBEDDING = 64, 16
RATE = 1e-3


def bound_of_scores(scores: np.ndarray) -> float:
    """InfoNCE bound ``log B + mean_i (s_ii - ln sum_j exp s_ij)`` of one batch.

    Parameters
    ----------
    scores : ndarray of shape (B, B)
        Critic of every x (row) with every y (column); true pairs on the diagonal.

    Returns
    -------
    float
        In nats, at most log B.

    Raises
    ------
    EvidenceError
        If the scores are not square.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise EvidenceError(f"The scores of InfoNCE must be square. Got {scores.shape}.")
    gains = np.diagonal(scores) - logsumexp(scores, axis=1)
    return math.log(len(scores)) + float(gains.mean())


def infonce(
    x: np.ndarray,
    y: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    batch: int = BATCH,
    steps: int = STEPS,
    seed: int = 0,
) -> Estimate:
    """Train a critic on half of the samples and bound the information on the other half.

    The critic is the inner product of an embedding of x and one of y, each a network with one
    hidden layer.

    Parameters
    ----------
    x, y : ndarray of shape (n,) or (n, d)
        Samples.
    groups : ndarray of shape (n,), optional
        Groups that are never on both sides.
    batch : int
        Pairs that are told apart, in training and on the held-out half: the ceiling is its log.
    steps : int
        Steps of training.
    seed : int
        Seed of the halves, the weights and the batches.

    Returns
    -------
    Estimate
        In nats, with ``ceiling`` log B.

    Raises
    ------
    EvidenceError
        If a half has fewer than ``batch`` samples, or they are not continuous.

    Notes
    -----
    van den Oord, Li and Vinyals 2018 (arXiv:1807.03748).
    """
    check_range(batch, "batch", "infonce", 2, error=EvidenceError)
    check_range(steps, "steps", "infonce", 1, error=EvidenceError)
    x, y = as_pair(x, y, "infonce", least=2 * batch)
    train, test = _halves(len(x), groups, seed)
    small = min(len(train), len(test))
    if small < batch:
        raise EvidenceError(
            f"Each half of infonce must have at least 'batch' = {batch} samples. One has {small}: "
            "choose a smaller batch, which lowers the ceiling."
        )
    generator = torch.Generator().manual_seed(seed)
    x_train, x_test = _standardised(x, train, test)
    y_train, y_test = _standardised(y, train, test)
    critic = _train(x_train, y_train, batch, steps, generator)
    with torch.no_grad():
        a, b = (
            net(own).double().numpy() for net, own in zip(critic, (x_test, y_test), strict=True)
        )
    bounds = [
        bound_of_scores(a[start : start + batch] @ b[start : start + batch].T)
        for start in range(0, len(a) - batch + 1, batch)
    ]
    return Estimate(
        value=float(np.mean(bounds)),
        quantity="I(X;Y)",
        estimator="infonce",
        family="neural",
        channel={"batch": batch, "steps": steps, "held_out": len(test), "seed": seed},
        n=len(x),
        n_distinct=count_distinct(np.concatenate([x, y], axis=1)),
        d=(x.shape[1], y.shape[1]),
        ceiling=math.log(batch),
    )


def _halves(n: int, groups: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two halves of the groups, shuffled."""
    own = np.arange(n) if groups is None else as_labels(groups, "groups of infonce", n)
    order = np.random.default_rng(seed).permutation(int(own.max()) + 1)
    first = np.isin(own, order[: len(order) // 2])
    rows = np.random.default_rng([seed, 1]).permutation(n)
    return rows[first[rows]], rows[~first[rows]]


def _standardised(
    samples: np.ndarray, train: np.ndarray, test: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    mean, sd = samples[train].mean(axis=0), samples[train].std(axis=0)
    scaled = (samples - mean) / np.where(sd > 0, sd, 1)
    return torch.from_numpy(scaled[train]).float(), torch.from_numpy(scaled[test]).float()


def _train(
    x: torch.Tensor, y: torch.Tensor, batch: int, steps: int, generator: torch.Generator
) -> tuple[nn.Sequential, nn.Sequential]:
    critic = tuple(_embedding(own.shape[1], generator) for own in (x, y))
    parameters = [own for net in critic for own in net.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=RATE)
    true = torch.arange(batch)
    for _ in range(steps):
        rows = torch.randperm(len(x), generator=generator)[:batch]
        optimiser.zero_grad()
        scores = critic[0](x[rows]) @ critic[1](y[rows]).T  # (batch of x, batch of y)
        nn.functional.cross_entropy(scores, true).backward()
        optimiser.step()
    return critic


def _embedding(width: int, generator: torch.Generator) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(width, WIDTH), nn.ReLU(), nn.Linear(WIDTH, EMBEDDING))
    for layer in (net[0], net[2]):
        nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    return net
