"""Gaussian noise in the forward pass: what makes the information of a layer the network's own.

Noise that is added to recorded activity belongs to the analyst. Noise in the residual stream after
each block changes what the subject says: its information is that of the noisy subject, and what
the noise costs is told by its predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
from torch import nn

from lmri.anatomy import Subject, blocks, equal_length_batches, trunk
from lmri.checks import check_range
from lmri.errors import EvidenceError
from lmri.intervene.setting import changed_output

ROWS = 32
"""Prompts of one forward pass."""

PREDICTED_ROWS = 4
"""Prompts of one forward pass whose logits over the vocabulary are held."""


@torch.inference_mode()
def residual_scales(subject: Subject, prompts: Sequence[Sequence[int]]) -> dict[int, float]:
    """Root mean square of the residual stream after each block, about its mean over tokens.

    Parameters
    ----------
    subject : Subject
        The subject, intact.
    prompts : sequence of sequence of int
        Token ids.

    Returns
    -------
    dict of int to float
        Scale of every layer, as :func:`lmri.information.samples.root_mean_square` of all tokens.

    Raises
    ------
    EvidenceError
        If there are fewer than two tokens.
    """
    count, layers = 0, blocks(subject.model)
    sums = [torch.zeros(subject.anatomy.hidden, dtype=torch.float64) for _ in layers]
    squares = [torch.zeros((), dtype=torch.float64) for _ in layers]

    def keep(layer: int, states: torch.Tensor) -> None:
        own = states.double().cpu().reshape(-1, states.shape[-1])
        sums[layer] += own.sum(dim=0)
        squares[layer] += own.square().sum()

    with _read_after_blocks(subject, keep):
        for _, ids in _batches(subject, prompts):
            count += ids.numel()
            trunk(subject.model)(input_ids=ids, use_cache=False)
    if count < 2:
        raise EvidenceError(f"The scale of noise must come from at least 2 tokens. Got {count}.")
    return {
        layer: math.sqrt(
            max(float(squares[layer] / count - (sums[layer] / count).square().sum()), 0.0)
            / subject.anatomy.hidden
        )
        for layer in range(len(layers))
    }


@contextmanager
def injected_noise(
    subject: Subject, scales: Mapping[int, float], noise: float, seed: int
) -> Iterator[None]:
    """Add Gaussian noise to the residual stream after blocks while the context lasts.

    ``h <- h + noise scale_l N(0, I)``: of fixed size for a layer, whatever the state, so that it is
    the channel of the theory. It acts in every forward pass, of prompts and of generation.

    Parameters
    ----------
    subject : Subject
        The subject; as before when the context ends.
    scales : mapping of int to float
        Layers that get noise and their scales, from :func:`residual_scales`.
    noise : float
        Standard deviation in units of the scale.
    seed : int
        Seed of the noise. The draws follow the forward passes in their order.

    Yields
    ------
    None

    Raises
    ------
    EvidenceError
        If a layer is unknown or the noise is negative.

    Notes
    -----
    Goldfeld et al. 2019 (arXiv:1810.05728); Butakov et al. 2024 (arXiv:2305.08013), whose later
    library multiplies the noise by the activity, which is another channel.
    """
    check_range(noise, "noise", "injected_noise", 0, error=EvidenceError)
    unknown = sorted(set(scales) - set(range(subject.anatomy.layers)))
    if unknown:
        raise EvidenceError(
            f"Layers that get noise must be in [0, {subject.anatomy.layers - 1}]. Got {unknown[0]}."
        )
    # Drawn on the CPU, in double precision: the same numbers on every device.
    generator = torch.Generator().manual_seed(seed)

    def add(scale: float, _before: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        drawn = torch.randn(states.shape, generator=generator, dtype=torch.float64)
        return states + (noise * scale * drawn).to(states)

    with ExitStack() as stack:
        for layer, block in enumerate(blocks(subject.model)):
            if layer in scales and noise > 0:
                stack.enter_context(changed_output(block, partial(add, scales[layer])))
        yield


@torch.inference_mode()
def last_states(subject: Subject, prompts: Sequence[Sequence[int]]) -> dict[int, np.ndarray]:
    """Residual stream after each block at the last token of every prompt.

    Parameters
    ----------
    subject : Subject
        The subject, as it is: with noise inside :func:`injected_noise`.
    prompts : sequence of sequence of int
        Token ids.

    Returns
    -------
    dict of int to ndarray of shape (n_prompts, hidden), float64
        States by layer.
    """
    states = {
        layer: np.empty((len(prompts), subject.anatomy.hidden))
        for layer in range(subject.anatomy.layers)
    }
    found: dict[int, torch.Tensor] = {}

    def keep(layer: int, own: torch.Tensor) -> None:
        found[layer] = own[:, -1].double().cpu()

    with _read_after_blocks(subject, keep):
        for rows, ids in _batches(subject, prompts):
            trunk(subject.model)(input_ids=ids, use_cache=False)
            for layer, own in found.items():
                states[layer][rows] = own.numpy()
    return states


@torch.inference_mode()
def cross_entropy(subject: Subject, prompts: Sequence[Sequence[int]]) -> float:
    """Mean surprise of the next token of prompts: what noise costs is its rise.

    Parameters
    ----------
    subject : Subject
        The subject, as it is.
    prompts : sequence of sequence of int
        Token ids.

    Returns
    -------
    float
        In nats for each token that has one before it.

    Raises
    ------
    EvidenceError
        If the subject predicts no next token, or no prompt has two tokens.
    """
    if subject.anatomy.encoder:
        raise EvidenceError(
            f"The cost of noise must be read from predictions. The subject '{subject.name}' is an "
            "encoder: it predicts no next token."
        )
    total, count = 0.0, 0
    for _, ids in _batches(subject, prompts, PREDICTED_ROWS):
        logits = subject.model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        said = nn.functional.cross_entropy(logits.mT, ids[:, 1:], reduction="none")
        total += float(said.double().sum())
        count += said.numel()
    if not count:
        raise EvidenceError("The cost of noise must come from a prompt of two tokens. Got none.")
    return total / count


def _batches(
    subject: Subject, prompts: Sequence[Sequence[int]], most: int = ROWS
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    for rows in equal_length_batches([len(prompt) for prompt in prompts], most):
        yield rows, torch.tensor([prompts[row] for row in rows], device=subject.device)


@contextmanager
def _read_after_blocks(
    subject: Subject, keep: Callable[[int, torch.Tensor], None]
) -> Iterator[None]:
    """Read what every block hands on, noise included: after all hooks that change it."""

    def hook(layer: int, _module: nn.Module, _arguments: tuple, output: object) -> None:
        keep(layer, output[0] if isinstance(output, tuple) else output)

    with ExitStack() as stack:
        for layer, block in enumerate(blocks(subject.model)):
            stack.callback(block.register_forward_hook(partial(hook, layer)).remove)
        yield
