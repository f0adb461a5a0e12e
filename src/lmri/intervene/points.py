"""Points of the forward pass where activity is read and replaced, by hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from lmri.anatomy import (
    added_by_attention,
    attention_outputs,
    blocks,
    dense_outputs,
    residual_multiplier,
    shared_outputs,
)

SITES = {"neuron": dense_outputs, "shared_neuron": shared_outputs, "head": attention_outputs}
"""Kinds whose units are the input of a module, by layer."""

Change = Callable[[torch.Tensor], torch.Tensor]
"""From what there is to what is gone on with."""

ChangeOutput = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From the residual before and after a block to what is passed on."""


@contextmanager
def changed_input(module: nn.Module, change: Change) -> Iterator[None]:
    """Change what a module is given.

    Parameters
    ----------
    module : torch.nn.Module
        A module with one input.
    change : callable
        From the input to what is given instead.
    """

    def hook(module: nn.Module, arguments: tuple, options: dict) -> tuple[tuple, dict]:
        if arguments:
            return (change(arguments[0]), *arguments[1:]), options
        name = next(iter(options))
        return arguments, {**options, name: change(options[name])}

    # First, so that whoever records the input sees what is run.
    handle = module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def changed_output(block: nn.Module, change: ChangeOutput) -> Iterator[None]:
    """Change the residual that a block passes on.

    Parameters
    ----------
    block : torch.nn.Module
        A transformer block.
    change : callable
        From the residual before and after the block to what is passed on.
    """

    def hook(block: nn.Module, arguments: tuple, options: dict, output: Any) -> Any:
        before = arguments[0] if arguments else next(iter(options.values()))
        if isinstance(output, tuple):
            return change(before, output[0]), *output[1:]
        return change(before, output)

    handle = block.register_forward_hook(hook, prepend=True, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def changed_state(model: nn.Module, layer: int, place: str, change: Change) -> Iterator[None]:
    """Change the residual before a block, between its attention and MLP, or after it.

    Parameters
    ----------
    model : torch.nn.Module
        Language model of transformers, a decoder.
    layer : int
        The block.
    place : str
        ``before``, ``mid`` or ``after``.
    change : callable
        From the residual (batch, tokens, hidden) to what is passed on.
    """
    block = blocks(model)[layer]
    with ExitStack() as stack:
        if place == "before":
            stack.enter_context(changed_input(block, change))
        elif place == "after":
            stack.enter_context(changed_output(block, lambda before, after: change(after)))
        else:
            stack.enter_context(_changed_mid(model, layer, change))
        yield


@contextmanager
def _changed_mid(model: nn.Module, layer: int, change: Change) -> Iterator[None]:
    """Change the residual amid a block by what attention adds: it has no tensor of its own."""
    held: list[torch.Tensor] = []
    scale = residual_multiplier(model)

    def hold(block: nn.Module, arguments: tuple, options: dict) -> None:
        held[:] = [arguments[0] if arguments else next(iter(options.values()))]

    def move(module: nn.Module, arguments: tuple, output: Any) -> Any:
        added = output[0] if isinstance(output, tuple) else output
        state = held.pop() + added * scale
        moved = added + (change(state) - state) / scale
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    handles = [
        # Last, so that it sees what other plans make of what the block is given.
        blocks(model)[layer].register_forward_pre_hook(hold, with_kwargs=True),
        added_by_attention(model)[layer].register_forward_hook(move, prepend=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
