"""Capture: what one forward pass leaves behind, gathered by hooks that change nothing.

Attention weights are reduced to summaries as soon as a layer has produced them, so that no
token x token matrix outlives its layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from lmri.anatomy import Subject, after_attention, attention_outputs, attentions, blocks, routers
from lmri.intervene import skipping_experts, tapped_experts

PLACES = ("before", "mid", "after")
"""Where the residual stream is read: before a block, between attention and MLP, after it."""

HEAD_SUMMARIES = ("norm", "entropy", "sink", "previous")


@dataclass
class Capture:
    """Activity of one forward pass over a batch.

    Attributes
    ----------
    logits, weights, experts : dict of int to Tensor
        By layer: router logits (n_tokens, experts), weights and ids (n_tokens, top_k), the rows
        of the batch one after another.
    neurons : dict of int to Tensor
        By layer: (n_tokens, top_k, expert_size).
    residual : dict of (int, str) to Tensor
        By layer and place: (batch, tokens, hidden).
    heads : dict of (int, str) to Tensor
        By layer and summary: (batch, tokens, heads).
    """

    logits: dict[int, torch.Tensor] = field(default_factory=dict)
    weights: dict[int, torch.Tensor] = field(default_factory=dict)
    experts: dict[int, torch.Tensor] = field(default_factory=dict)
    neurons: dict[int, torch.Tensor] = field(default_factory=dict)
    residual: dict[tuple[int, str], torch.Tensor] = field(default_factory=dict)
    heads: dict[tuple[int, str], torch.Tensor] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget the last pass."""
        for part in vars(self).values():
            part.clear()


@contextmanager
def capturing(subject: Subject, *, head: bool, neuron: bool) -> Iterator[Capture]:
    """Capture every forward pass inside the block; hooks are removed afterwards.

    Parameters
    ----------
    subject : Subject
        The subject.
    head : bool
        Whether to summarise attention; runs attention in its eager form.
    neuron : bool
        Whether to keep the neurons of chosen experts.

    Yields
    ------
    Capture
        Filled by each forward pass; clear it before the next.
    """
    capture = Capture()
    model = subject.model
    with ExitStack() as stack:
        if neuron:
            tap = partial(_keep_neurons, capture)
            stack.enter_context(tapped_experts(model, tap))
        else:
            stack.enter_context(skipping_experts(model))
        hooks = [*_router_hooks(model, capture), *_residual_hooks(model, capture)]
        if head:
            stack.enter_context(_eager_attention(model))
            hooks += _head_hooks(subject, capture)
        for hook in hooks:
            stack.callback(hook.remove)
        yield capture


def attention_summaries(weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Summarise attention weights per query.

    ``entropy = -sum_j a_j log a_j`` (nats), ``sink = a_0``, ``previous = a_{q-1}``.

    Parameters
    ----------
    weights : Tensor of shape (batch, heads, tokens, tokens)
        Rows sum to 1.

    Returns
    -------
    dict of str to Tensor
        ``entropy``, ``sink``, ``previous``: (batch, tokens, heads), float32. The first token has
        no previous one: 0.
    """
    weights = weights.float()
    entropy = -torch.special.xlogy(weights, weights).sum(-1)  # (batch, heads, tokens)
    previous = torch.zeros_like(entropy)
    previous[..., 1:] = weights.diagonal(offset=-1, dim1=-2, dim2=-1)
    summaries = {"entropy": entropy, "sink": weights[..., 0], "previous": previous}
    return {name: values.transpose(1, 2) for name, values in summaries.items()}


def _router_hooks(model: nn.Module, capture: Capture) -> list:
    def keep(layer: int, module: nn.Module, arguments: tuple, output: tuple) -> None:
        capture.logits[layer], capture.weights[layer], capture.experts[layer] = output

    return [m.register_forward_hook(partial(keep, i)) for i, m in routers(model).items()]


def _residual_hooks(model: nn.Module, capture: Capture) -> list:
    def keep_input(key: tuple[int, str], module: nn.Module, arguments: tuple) -> None:
        capture.residual[key] = arguments[0]

    def keep_output(
        key: tuple[int, str], module: nn.Module, arguments: tuple, output: torch.Tensor
    ) -> None:
        capture.residual[key] = output

    hooks = []
    for layer, block in enumerate(blocks(model)):
        hooks.append(block.register_forward_pre_hook(partial(keep_input, (layer, "before"))))
        hooks.append(block.register_forward_hook(partial(keep_output, (layer, "after"))))
    for layer, norm in after_attention(model).items():
        hooks.append(norm.register_forward_pre_hook(partial(keep_input, (layer, "mid"))))
    return hooks


def _head_hooks(subject: Subject, capture: Capture) -> list:
    heads, size = subject.anatomy.heads, subject.anatomy.head_size

    def keep_norm(layer: int, module: nn.Module, arguments: tuple) -> None:
        vectors = arguments[0].unflatten(-1, (heads, size))  # (batch, tokens, heads, size)
        capture.heads[layer, "norm"] = vectors.norm(dim=-1)

    def keep_pattern(layer: int, module: nn.Module, arguments: tuple, output: tuple) -> None:
        for name, values in attention_summaries(output[1]).items():
            capture.heads[layer, name] = values

    hooks = [
        m.register_forward_pre_hook(partial(keep_norm, i))
        for i, m in attention_outputs(subject.model).items()
    ]
    return hooks + [
        m.register_forward_hook(partial(keep_pattern, i))
        for i, m in attentions(subject.model).items()
    ]


def _keep_neurons(
    capture: Capture, layer: int, neurons: torch.Tensor, experts: torch.Tensor
) -> None:
    capture.neurons[layer] = neurons


@contextmanager
def _eager_attention(model: nn.Module) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
