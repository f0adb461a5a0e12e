"""Interventions on the residual stream: ablating a direction at the last prompt token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lmri.anatomy import Subject, blocks


@contextmanager
def ablated_direction(
    subject: Subject, layer: int, direction: torch.Tensor, origin: torch.Tensor
) -> Iterator[None]:
    """Ablate a direction of the residual after a block, at the last token of the prompt.

    ``h <- h - ((h - c) . v) v / (v . v)``: along v the state becomes that of the origin c. The
    residual stream has no natural zero, so removing the whole projection (c = 0) may leave a state
    as far from the origin as it was. Passes over a single token are steps of decoding and are left
    alone.

    Parameters
    ----------
    subject : Subject
        The subject.
    layer : int
        Block whose output is changed.
    direction : Tensor of shape (hidden,)
        The direction v; its length does not matter.
    origin : Tensor of shape (hidden,)
        The state c.
    """
    unit = direction / direction.norm()

    def remove(module: torch.nn.Module, arguments: tuple, output: torch.Tensor) -> torch.Tensor:
        if output.shape[1] == 1:
            return output
        changed = output.clone()  # (batch, tokens, hidden)
        last = changed[:, -1].to(unit.dtype)
        own, start = unit.to(last.device), origin.to(last.device)
        changed[:, -1] = last - ((last - start) @ own).unsqueeze(-1) * own
        return changed

    hook = blocks(subject.model)[layer].register_forward_hook(remove)
    try:
        yield
    finally:
        hook.remove()
