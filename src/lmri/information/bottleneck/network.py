"""Small networks, all initialisations of a setting trained as one batch.

Weights have a leading axis of initialisations, so that one product of matrices is that of all
networks; the loss is the sum of theirs, and no gradient crosses from one to another. All of them
see the same inputs in the same order and differ in their first weights alone. These are drawn for
each initialisation on its own, from the same numbers for every activation and penalty: networks of
one initialisation are pairs across settings.

After Chelombiev et al. 2019 (``ivansche/adaptive_estimators``): 12-10-7-5-4-3-2 units, truncated
normal weights of sd 1 / sqrt(fan-in) (twice that except for tanh), Adam, softmax cross-entropy,
batches of 256, penalty ``l2 Σ w² / 2`` on all weights but those of the last layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

from lmri.checks import check_choice, check_range
from lmri.errors import EvidenceError
from lmri.information.bottleneck.task import Task

WIDTHS = (10, 7, 5, 4, 3)
CLASSES = 2
LAYERS = (*(f"hidden_{number}" for number in range(1, len(WIDTHS) + 1)), "output")
"""Names of the layers whose activity is recorded; ``output`` is after the softmax."""

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": torch.tanh,
    "relu": functional.relu,
    "elu": functional.elu,
    "swish": functional.silu,
    "softplus": functional.softplus,
    "centred_softplus": lambda z: functional.softplus(z) - math.log(2),
}
"""Activation functions; the centred softplus is 0 at 0."""

OTHER_GAIN = 2.0
"""Factor on the sd of the first weights, for all activations but tanh."""


@dataclass(frozen=True)
class Training:
    """How networks are trained.

    Attributes
    ----------
    activation : str
        One of :data:`ACTIVATIONS`.
    l2 : float
        Strength of the penalty; 0 for none.
    initialisations : int
        Networks.
    epochs : int
        Passes over the training inputs.
    measured : int
        Epochs at which activity is recorded, about; see :func:`measured_epochs`.
    batch : int
        Inputs of a step.
    rate : float
        Learning rate of Adam.
    seed : int
        Seed of the first weights and of the order of inputs.
    """

    activation: str
    l2: float = 0.0
    initialisations: int = 20
    epochs: int = 2000
    measured: int = 20
    batch: int = 256
    rate: float = 1.6e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice(self.activation, ACTIVATIONS, "activation", "bottleneck", EvidenceError)
        for name, low in (
            *(("l2", 0), ("rate", 0), ("seed", 0)),
            *(("initialisations", 1), ("epochs", 1), ("measured", 2), ("batch", 1)),
        ):
            check_range(getattr(self, name), name, "bottleneck", low, error=EvidenceError)


@dataclass(frozen=True)
class Snapshot:
    """The networks after an epoch.

    Attributes
    ----------
    epoch : int
        Passes over the training inputs so far; 0 is untrained.
    activity : tuple of ndarray of shape (n_initialisations, n_inputs, width), float32
        Of each of :data:`LAYERS`, on all inputs.
    loss : dict of str to ndarray of shape (n_initialisations,)
        Cross-entropy in nats, without the penalty, by ``training`` and ``test``.
    accuracy : dict of str to ndarray of shape (n_initialisations,)
        Share of right labels, likewise.
    """

    epoch: int
    activity: tuple[np.ndarray, ...]
    loss: dict[str, np.ndarray]
    accuracy: dict[str, np.ndarray]


def measured_epochs(epochs: int, measured: int) -> list[int]:
    """Spread epochs evenly over the logarithm of training.

    Parameters
    ----------
    epochs : int
        Length of the training.
    measured : int
        Epochs wanted, with the first and the last; early ones that fall together are one.

    Returns
    -------
    list of int
        Increasing, from 0 (untrained) to ``epochs``.
    """
    spread = np.geomspace(1, epochs, measured - 1)
    return sorted({0, *(round(float(epoch)) for epoch in spread), epochs})


def train_networks(task: Task, training: Training) -> Iterator[Snapshot]:
    """Train all initialisations together.

    Parameters
    ----------
    task : Task
        The task.
    training : Training
        How.

    Yields
    ------
    Snapshot
        At each of :func:`measured_epochs`; the activity of one epoch at a time is held.

    Raises
    ------
    EvidenceError
        If a network's activity is not finite.
    """
    inputs, labels = torch.from_numpy(task.inputs), torch.from_numpy(task.labels)
    weights, biases = first_weights(training)
    optimiser = torch.optim.Adam([*weights, *biases], lr=training.rate, fused=True)
    act = ACTIVATIONS[training.activation]
    rng = np.random.default_rng([training.seed, 1])
    wanted = set(measured_epochs(training.epochs, training.measured))
    for epoch in range(training.epochs + 1):
        if epoch:
            order = torch.from_numpy(rng.permutation(task.training))
            for rows in order.split(training.batch):
                logits = _forward(inputs[rows], weights, biases, act)[-1]
                loss = _losses(logits, labels[rows]).sum()
                if training.l2:
                    squares = sum(own.square().sum() for own in weights[:-1])
                    loss = loss + training.l2 / 2 * squares
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
        if epoch in wanted:
            yield _snapshot(epoch, task, _forward(inputs, weights, biases, act), labels)


def first_weights(training: Training) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Draw the first weights.

    Parameters
    ----------
    training : Training
        Activation, number and seed. An initialisation has the same weights whatever the number of
        others.

    Returns
    -------
    weights : list of Tensor of shape (n_initialisations, n_in, n_out), float32
        One for each layer, which learn.
    biases : list of Tensor of shape (n_initialisations, 1, n_out), float32
        Zeros, which learn.
    """
    generators = [
        torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        for key in ([training.seed, 2, number] for number in range(training.initialisations))
    ]
    gain = 1.0 if training.activation == "tanh" else OTHER_GAIN
    sizes = (12, *WIDTHS, CLASSES)
    weights, biases = [], []
    for fan_in, width in pairwise(sizes):
        drawn = torch.empty(training.initialisations, fan_in, width)
        for own, generator in zip(drawn, generators, strict=True):
            torch.nn.init.trunc_normal_(own, generator=generator)
        weights.append((drawn * (gain / math.sqrt(fan_in))).requires_grad_())
        biases.append(torch.zeros(training.initialisations, 1, width, requires_grad=True))
    return weights, biases


def _forward(
    inputs: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    act: Callable[[torch.Tensor], torch.Tensor],
) -> list[torch.Tensor]:
    """Activity of every layer, (n_initialisations, n, width); the last one before the softmax."""
    activity = [inputs.expand(len(weights[0]), -1, -1)]
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        z = torch.baddbmm(bias, activity[-1], weight)
        activity.append(act(z) if number < len(WIDTHS) else z)
    return activity[1:]


def _losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each network, (n_initialisations,), from (n_initialisations, n, 2)."""
    targets = labels.expand(len(logits), -1)
    return functional.cross_entropy(logits.mT, targets, reduction="none").mean(dim=1)


@torch.no_grad()
def _snapshot(
    epoch: int, task: Task, activity: list[torch.Tensor], labels: torch.Tensor
) -> Snapshot:
    logits = activity[-1].detach()
    layers = [own.detach() for own in activity[:-1]] + [logits.softmax(dim=-1)]
    for name, layer in zip(LAYERS, layers, strict=True):
        if not bool(torch.isfinite(layer).all()):
            raise EvidenceError(
                f"Activity of '{name}' after epoch {epoch} is not finite: lower 'bottleneck.rate'."
            )
    right = (logits.argmax(dim=-1) == labels).float()
    loss, accuracy = {}, {}
    for name, rows in (("training", task.training), ("test", task.test)):
        loss[name] = _losses(logits[:, rows], labels[rows]).numpy()
        accuracy[name] = right[:, rows].mean(dim=1).numpy()
    return Snapshot(epoch, tuple(own.numpy() for own in layers), loss, accuracy)
