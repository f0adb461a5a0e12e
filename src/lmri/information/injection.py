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

import torch

from lmri.anatomy import Subject, blocks, equal_length_batches, trunk
from lmri.checks import check_range
from lmri.errors import EvidenceError
from lmri.intervene.setting import changed_output

ROWS = 32
"""Prompts of one forward pass."""


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

    def keep(layer: int, states: torch.Tensor) -> torch.Tensor:
        own = states.detach().double().cpu().reshape(-1, states.shape[-1])
        sums[layer] += own.sum(dim=0)
        squares[layer] += own.square().sum()
        return states

    with _after_blocks(subject, keep):
        for batch in equal_length_batches([len(prompt) for prompt in prompts], ROWS):
            ids = torch.tensor([prompts[row] for row in batch], device=subject.device)
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

    def add(layer: int, states: torch.Tensor) -> torch.Tensor:
        if layer not in scales or noise == 0:
            return states
        drawn = torch.randn(states.shape, generator=generator, dtype=torch.float64)
        return states + (noise * scales[layer] * drawn).to(states)

    with _after_blocks(subject, add):
        yield


@contextmanager
def _after_blocks(
    subject: Subject, change: Callable[[int, torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """Replace what every block hands on by a function of its number and its states."""
    with ExitStack() as stack:
        for layer, block in enumerate(blocks(subject.model)):
            own = partial(change, layer)
            stack.enter_context(changed_output(block, lambda _, states, own=own: own(states)))
        yield
