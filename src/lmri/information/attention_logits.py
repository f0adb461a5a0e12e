"""How large the logits of a head can be, and how sharp that lets it be, from the weights alone.

What attention reads is normalised: ``x = g ⊙ n + b`` with ``||n|| <= √d``. So a query is at most
``√d ||W_Q diag(g)||₂ + ||W_Q b + b_Q||`` long, a key alike, and no logit is above their product
times the scale of the head, whatever the text: rotary positions turn queries and keys but do not
lengthen them. Where queries and keys are normalised themselves, their gains bound them instead.
Logits of T keys then have a norm of at most √T times as much, and
:func:`lmri.information.attention_entropy.entropy_bound` gives the least entropy.

The bound is far below the entropy that a head has on texts. What it is for is its course over
training: attention that collapses is preceded by logits that can grow (Zhai et al. 2023,
arXiv:2303.06296).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import nn

from lmri.anatomy import Subject, attention_norms, attentions, describe, gain
from lmri.errors import SubjectError
from lmri.information.attention_entropy import entropy_bound

KEYS = (8, 64, 512)
"""Numbers of keys that the least entropy is given for."""

KNOWN = "q_proj and k_proj, c_attn, query_key_value, qkv_proj"


def logit_ceilings(subject: Subject, keys: Sequence[int] = KEYS) -> xr.Dataset:
    """Bound the logits and the entropy of every head, for any text.

    Parameters
    ----------
    subject : Subject
        A decoder.
    keys : sequence of int
        Numbers of keys that a query sees.

    Returns
    -------
    Dataset
        ``largest_query`` and ``largest_key`` (layer, head), bounds of their norms;
        ``largest_logit`` (layer, head), their product times the head's scale, or the cap of the
        family if that is less; ``least_entropy`` (keys, layer, head) in nat.

    Raises
    ------
    SubjectError
        If queries and keys are not made by known modules (latent attention), a head has a learned
        sink besides the keys, or the subject is an encoder.
    """
    model = subject.model
    if subject.anatomy.encoder:
        raise SubjectError(
            f"Attention logits must be bounded in a decoder. '{subject.name}' is an encoder."
        )
    norms, every = attention_norms(model), attentions(model)
    sizes = [_sizes(every[layer], norms[layer], describe(model).head_size) for layer in every]
    queries, values, logits = (np.stack(own) for own in zip(*sizes, strict=True))
    counts = np.asarray(keys)[:, None, None]
    dims = ("layer", "head")
    return xr.Dataset(
        {
            "largest_query": (dims, queries),
            "largest_key": (dims, values),
            "largest_logit": (dims, logits),
            "least_entropy": (("keys", *dims), entropy_bound(np.sqrt(counts) * logits, counts)),
        },
        coords={"keys": list(keys), "layer": list(every)},
        attrs={"units": "nat"},
    )


def query_key_weights(
    module: nn.Module, size: int
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Matrices and biases that make the queries and keys of an attention module.

    Parameters
    ----------
    module : torch.nn.Module
        Attention of one layer.
    size : int
        Width of a head.

    Returns
    -------
    queries, keys : (Tensor of shape (heads, size, hidden), Tensor of shape (heads, size)), float64
        Keys may have fewer heads. A bias that is not there is 0.

    Raises
    ------
    SubjectError
        If they are made by other modules.
    """
    if hasattr(module, "q_proj") and hasattr(module, "k_proj"):
        return tuple(_by_head(*_linear(own), size) for own in (module.q_proj, module.k_proj))
    if hasattr(module, "c_attn"):  # all queries, then keys, then values
        weight, bias = _linear(module.c_attn)
        parts = zip(weight.chunk(3)[:2], bias.chunk(3)[:2], strict=True)
        return tuple(_by_head(*part, size) for part in parts)
    if hasattr(module, "query_key_value"):  # of each head: its query, key and value
        weight, bias = _linear(module.query_key_value)
        weight, bias = weight.unflatten(0, (-1, 3, size)), bias.unflatten(0, (-1, 3, size))
        return (weight[:, 0], bias[:, 0]), (weight[:, 1], bias[:, 1])
    if hasattr(module, "qkv_proj"):  # all queries, then keys, then values, fewer of these
        weight, bias = _linear(module.qkv_proj)
        rows = module.num_key_value_heads * size
        queries = slice(0, len(weight) - 2 * rows)
        keys = slice(queries.stop, queries.stop + rows)
        return tuple(_by_head(weight[own], bias[own], size) for own in (queries, keys))
    raise SubjectError(
        f"Queries and keys of '{type(module).__name__}' must be made by known modules ({KNOWN}). "
        "Found none: its logits cannot be bounded."
    )


def _sizes(
    module: nn.Module, norm: nn.Module, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Largest norm of queries and keys, and largest logit, of every head of a layer."""
    if getattr(module, "sinks", None) is not None or hasattr(module, "qk_norm"):
        raise SubjectError(
            f"Heads of '{type(module).__name__}' must have logits of keys alone, of queries and "
            "keys of a known length, to be bounded. They have learned sinks or another norm."
        )
    queries, keys = query_key_weights(module, size)
    longest = []
    for name, (weight, bias) in (("q_norm", queries), ("k_norm", keys)):
        own = getattr(module, name, None)
        heads = len(weight)
        longest.append(_normed(own, heads, size) if own else _longest(weight, bias, norm))
    query, key = longest
    key = key.repeat_interleave(len(query) // len(key))
    logit = query * key * abs(getattr(module, "scaling", size**-0.5))
    cap = getattr(module, "attn_logit_softcapping", None)
    logit = logit if cap is None else logit.clamp(max=cap)
    return query.numpy(), key.numpy(), logit.numpy()


def _longest(weight: torch.Tensor, bias: torch.Tensor, norm: nn.Module) -> torch.Tensor:
    """``√d ||W diag(g)||₂ + ||W b + b'||`` of every head."""
    own = weight * gain(norm)
    # The largest singular value by the small matrix of products: a head is narrow.
    spectral = torch.linalg.eigvalsh(own @ own.mT)[:, -1].clamp_min(0).sqrt()
    shift = getattr(norm, "bias", None)
    if shift is not None:
        bias = bias + weight @ shift.detach().double().cpu()
    return weight.shape[-1] ** 0.5 * spectral + bias.norm(dim=-1)


def _normed(norm: nn.Module, heads: int, size: int) -> torch.Tensor:
    """Bound by the gain of a normalisation, of each head by itself or of all heads together."""
    largest = gain(norm).abs()
    length = len(largest) ** 0.5
    if len(largest) == size:
        return torch.full((heads,), float(length * largest.max()), dtype=torch.float64)
    return length * largest.unflatten(0, (heads, size)).amax(dim=-1)


def _linear(projection: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrix (outputs, inputs) and bias of a projection, float64."""
    weight = projection.weight.detach().double().cpu()
    # GPT-2 keeps its matrices transposed (Conv1D).
    weight = weight.T if type(projection).__name__ == "Conv1D" else weight
    bias = getattr(projection, "bias", None)
    return weight, weight.new_zeros(len(weight)) if bias is None else bias.detach().double().cpu()


def _by_head(
    weight: torch.Tensor, bias: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    return weight.unflatten(0, (-1, size)), bias.unflatten(0, (-1, size))
