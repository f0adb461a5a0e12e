"""Interventions on the residual stream at the last prompt token: a direction, or a subspace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lmri.anatomy import Subject, blocks
from lmri.intervene.points import changed_state


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


@contextmanager
def ablated_subspace(
    subject: Subject, layer: int, basis: torch.Tensor, origin: torch.Tensor, place: int = -1
) -> Iterator[None]:
    """Ablate a subspace of the residual after a block, at the last token of the prompt.

    ``h <- h - B B' (h - c)``: within the subspace the state becomes that of the origin c, see
    :func:`ablated_direction`. Passes over a single token are steps of decoding and are left alone.
    Where a response follows in the same pass, the token is counted from the end.

    Parameters
    ----------
    subject : Subject
        The subject.
    layer : int
        Block whose output is changed.
    basis : Tensor of shape (hidden, rank)
        Orthonormal columns that span the subspace.
    origin : Tensor of shape (hidden,)
        The state c.
    place : int
        The token, from the end: -1 if the prompt ends the pass, ``-1 - n`` if n tokens follow.
    """

    def remove(state: torch.Tensor) -> torch.Tensor:
        if state.shape[1] == 1:
            return state
        changed = state.clone()  # (batch, tokens, hidden)
        own, start = basis.to(state.device), origin.to(state.device)
        last = changed[:, place].to(own.dtype)
        changed[:, place] = (last - (last - start) @ own @ own.T).to(changed.dtype)
        return changed

    with changed_state(subject.model, layer, "after", remove):
        yield
