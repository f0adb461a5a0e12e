"""Hooks: where a capture is told of what a forward pass does; they change nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn

from lmri.anatomy import (
    Subject,
    after_attention,
    attention_outputs,
    blocks,
    dense_activations,
    dense_outputs,
    output_of_router,
    routers,
    selection_scores,
    shared_outputs,
    variables,
)
from lmri.checks import quoted
from lmri.errors import SubjectError
from lmri.intervene import runs_grouped, skipping_experts, tapped_experts
from lmri.record.attention import OBSERVED, observed_attention
from lmri.record.capture import ALWAYS_FULL, EXPERT_NEURONS, EXTREMES, Capture
from lmri.record.extremes import extremes
from lmri.record.reductions import norms

RESIDUAL = ("layer/norm", "residual/residual", EXTREMES[0])
"""Arrays that are read off the residual stream; the first of the extremes stands for all."""


OBSERVING = ("head", "attention", "received")
"""Quantities for which attention is observed; of ``head`` it is the norms of the values."""


def check_observable(implementation: str | None, quantities: Collection[str], name: str) -> None:
    """Check that the attention of a subject can be observed where that is needed.

    Parameters
    ----------
    implementation : str or None
        Implementation of attention that is asked for; None for that of transformers' choice.
    quantities : collection of str
        What is recorded.
    name : str
        Name of the subject.

    Raises
    ------
    SubjectError
        If it cannot; the weights need not have been read to know.
    """
    asked = [quantity for quantity in OBSERVING if quantity in quantities]
    if asked and implementation not in (None, *OBSERVED):
        values = " ('head' has the norms of the values)" if "head" in asked else ""
        raise SubjectError(
            f"The 'attention' of subject '{name}' must be one of {quoted(OBSERVED)} where "
            f"{quoted(asked)} of 'record.quantities' are recorded{values}: others say otherwise "
            f"what a token sees. Got '{implementation}'."
        )


@contextmanager
def capturing(
    subject: Subject, quantities: set[str], full: set[str], stored: str = "float16"
) -> Iterator[Capture]:
    """Capture every forward pass inside the block; everything is restored afterwards.

    Parameters
    ----------
    subject : Subject
        The subject.
    quantities : set of str
        What is captured, see :data:`lmri.anatomy.QUANTITIES`.
    full : set of str
        Which of these are kept for every token.
    stored : str
        Type of full states and neurons.

    Yields
    ------
    Capture
        Call its ``begin`` before every forward pass.

    Raises
    ------
    SubjectError
        If attention must be observed and cannot be.
    """
    check_observable(subject.model.config._attn_implementation, quantities, subject.name)
    asked = {v.path: v for v in variables(subject.anatomy, stored) if v.quantity in quantities}
    kept = {path for path, v in asked.items() if v.quantity in full or path in ALWAYS_FULL}
    capture = Capture(subject.anatomy, asked, frozenset(kept))
    capture.experts_full = True if EXPERT_NEURONS in kept else None
    with ExitStack() as stack:
        if EXPERT_NEURONS in asked:
            stack.enter_context(tapped_experts(subject.model, capture.keep_experts))
        elif runs_grouped(subject.model):
            # The same bits for less time.
            stack.enter_context(skipping_experts(subject.model))
        if quantities & {*OBSERVING}:
            observe = capture.summarise_attention
            stack.enter_context(observed_attention(subject.model, observe))
        for hook in _hooks(subject, capture):
            stack.callback(hook.remove)
        yield capture


def _hooks(subject: Subject, capture: Capture) -> list:
    model, wanted = subject.model, capture.variables
    hooks = []
    # First: a model without such modules is refused, and must not be left with the other hooks.
    if (path := "preactivation/preactivation") in wanted:
        hooks += _inputs(dense_activations(model), partial(_keep_neurons, capture, path))
    if "router/expert_id" in wanted:
        for layer, module in routers(model).items():
            hooks.append(module.register_forward_hook(partial(_keep_router, capture, layer)))
    if any(path in wanted for path in RESIDUAL):
        hooks += _residual_hooks(model, capture)
    if "head/norm" in wanted or "head_output/output" in wanted:
        hooks += _inputs(attention_outputs(model), partial(_keep_heads, capture))
    if (path := "neuron/activation") in wanted:
        hooks += _inputs(dense_outputs(model), partial(_keep_neurons, capture, path))
    if (path := "shared_neuron/activation") in wanted:
        hooks += _inputs(shared_outputs(model), partial(_keep_neurons, capture, path))
    return hooks


def _inputs(modules: dict[int, nn.Module], keep: Callable[[int, torch.Tensor], None]) -> list:
    def hook(layer: int, module: nn.Module, arguments: tuple, options: dict) -> None:
        keep(layer, arguments[0] if arguments else next(iter(options.values())))

    return [
        module.register_forward_pre_hook(partial(hook, layer), with_kwargs=True)
        for layer, module in modules.items()
    ]


def _residual_hooks(model: nn.Module, capture: Capture) -> list:
    def keep_output(layer: int, module: nn.Module, arguments: tuple, output: object) -> None:
        after = len(capture.anatomy.places) - 1
        _keep_residual(capture, after, layer, output[0] if isinstance(output, tuple) else output)

    layers = dict(enumerate(blocks(model)))
    hooks = _inputs(layers, partial(_keep_residual, capture, 0))
    hooks += _inputs(after_attention(model), partial(_keep_residual, capture, 1))
    return hooks + [
        block.register_forward_hook(partial(keep_output, layer)) for layer, block in layers.items()
    ]


def _keep_residual(capture: Capture, place: int, layer: int, states: torch.Tensor) -> None:
    after = len(capture.anatomy.places) - 1
    for first in RESIDUAL:
        if first not in capture.variables:
            continue
        paths = EXTREMES if first in EXTREMES else (first,)
        # What a block is given is what the one before it gave.
        if place == 0 and layer > 0 and capture.collected is None:
            for path in paths:
                capture.repeat(path, (layer, 0), (layer - 1, after))
            continue
        for path, values in zip(paths, _of_states(first, states), strict=True):
            capture.keep(path, (layer, place), values)


def _of_states(first: str, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if first == "layer/norm":
        return (norms(states.unsqueeze(2)).squeeze(2),)
    return extremes(states) if first in EXTREMES else (states,)


def _keep_router(
    capture: Capture, layer: int, module: nn.Module, arguments: tuple, output: tuple
) -> None:
    anatomy, shape = capture.anatomy, capture.batch.ids.shape
    logits, weights, ids = output_of_router(anatomy.routing, output, anatomy.top_k)
    capture.keep("router/expert_id", (layer,), ids.unflatten(0, shape))
    capture.keep("router/weight", (layer,), weights.float().unflatten(0, shape))
    capture.keep("router/logits", (layer,), logits.float().unflatten(0, shape))
    if "router/selection" in capture.full:
        scores = selection_scores(module, anatomy.routing, logits)
        scores = torch.softmax(logits.float(), -1) if scores is None else scores
        capture.keep("router/selection", (layer,), scores.unflatten(0, shape))


def _keep_heads(capture: Capture, layer: int, joined: torch.Tensor) -> None:
    anatomy = capture.anatomy
    outputs = joined.unflatten(-1, (anatomy.heads, anatomy.head_size))
    if "head/norm" in capture.variables:
        capture.keep("head/norm", (layer,), norms(outputs))
    if "head_output/output" in capture.variables:
        capture.keep("head_output/output", (layer,), outputs)


def _keep_neurons(capture: Capture, path: str, layer: int, neurons: torch.Tensor) -> None:
    # Experts are given tokens in one row after another.
    rows = neurons if neurons.ndim == 3 else neurons.unflatten(0, capture.batch.ids.shape)
    capture.keep(path, (layer,), rows)
