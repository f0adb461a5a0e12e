"""Matrices of single heads: what a head reads into its values and writes into the residual.

Gains of normalisations are given apart. What is left out is what depends on the token: the scale
that a normalisation divides by.
"""

from __future__ import annotations

import torch
from torch import nn

from lmri.anatomy.sites import (
    added_by_attention,
    attention_outputs,
    attentions,
    blocks,
    describe,
    trunk,
)
from lmri.errors import SubjectError

BEFORE_ATTENTION = ("input_layernorm", "ln_1")
BEFORE_VOCABULARY = ("norm", "ln_f", "final_layer_norm", "final_layernorm")


def value_weights(model: nn.Module) -> dict[int, torch.Tensor]:
    """Matrices from what attention reads to the values, without biases.

    Parameters
    ----------
    model : torch.nn.Module
        Language model.

    Returns
    -------
    dict of int to Tensor of shape (value_heads, head_size, hidden)
        By layer. Head h of H reads the values of ``h // (H / value_heads)``. Of latent attention
        (DeepSeek) the product of its two matrices, with the gain of the normalisation between.

    Raises
    ------
    SubjectError
        If the values are not made by any known module.
    """
    size = describe(model).head_size
    return {layer: _values(module, size) for layer, module in attentions(model).items()}


def output_weights(model: nn.Module) -> dict[int, torch.Tensor]:
    """Matrices from a head's output to the residual, without biases.

    Parameters
    ----------
    model : torch.nn.Module
        Language model.

    Returns
    -------
    dict of int to Tensor of shape (heads, hidden, head_size)
        By layer. Where what attention adds is normalised first (Gemma), with the gain of that.
    """
    anatomy, added = describe(model), added_by_attention(model)
    found = {}
    for layer, module in attention_outputs(model).items():
        joined = _weight(module)  # (hidden, heads * head_size)
        if _is_norm(added[layer]):
            joined = gain(added[layer])[:, None] * joined
        heads = joined.unflatten(1, (anatomy.heads, anatomy.head_size))
        found[layer] = heads.transpose(0, 1)
    return found


def attention_norms(model: nn.Module) -> dict[int, nn.Module]:
    """Normalisations of what attention reads, by layer.

    Parameters
    ----------
    model : torch.nn.Module
        Language model, a decoder.

    Returns
    -------
    dict of int to torch.nn.Module
        The modules.

    Raises
    ------
    SubjectError
        If a block has none by a known name.
    """
    return {
        layer: _child(block, BEFORE_ATTENTION, f"block {layer}")
        for layer, block in enumerate(blocks(model))
    }


def final_norm(model: nn.Module) -> nn.Module:
    """Normalisation before the projection to the vocabulary, see :func:`attention_norms`."""
    return _child(trunk(model), BEFORE_VOCABULARY, "the trunk")


def vocabulary_logits(model: nn.Module, products: torch.Tensor) -> torch.Tensor:
    """Apply what some families do to the output of their last projection.

    Parameters
    ----------
    model : torch.nn.Module
        Causal language model of transformers.
    products : Tensor of shape (n_tokens, vocabulary)
        Output of its projection to the vocabulary.

    Returns
    -------
    Tensor of shape (n_tokens, vocabulary)
        Logits: capped in Gemma, scaled in Granite.
    """
    cap = getattr(model.config, "final_logit_softcapping", None)
    if cap is not None:
        products = cap * torch.tanh(products / cap)
    scaling = getattr(model.config, "logits_scaling", 1.0)
    return products if scaling == 1.0 else products / scaling  # a copy of all logits otherwise


def gain(norm: nn.Module) -> torch.Tensor:
    """Gain of a normalisation: ``g`` in ``g x / ||x|| sqrt(n) + b``, float64.

    Found by its answer to a state of ones and minus ones, so that it does not matter whether the
    gain is the module's weight, or 1 more than it (Gemma).

    Parameters
    ----------
    norm : torch.nn.Module
        Layer or root-mean-square normalisation.

    Returns
    -------
    Tensor of shape (hidden,), float64
        The gain, up to the factor ``1 / sqrt(1 + eps)``.
    """
    weight = next(norm.parameters())
    signs = torch.ones_like(weight)
    signs[1::2] = -1.0
    # The mean of the signs is 0, and half the difference of the answers has no bias.
    return ((norm(signs) - norm(-signs)) / 2 * signs).double().cpu()


def subtracts_mean(norm: nn.Module) -> bool:
    """Tell whether a normalisation subtracts the mean of a state first."""
    return isinstance(norm, nn.LayerNorm)


def _values(module: nn.Module, size: int) -> torch.Tensor:
    if hasattr(module, "kv_b_proj"):
        return _latent_values(module, size)
    if hasattr(module, "v_proj") or hasattr(module, "value"):
        own = module.v_proj if hasattr(module, "v_proj") else module.value
        return _weight(own).unflatten(0, (-1, size))
    if hasattr(module, "c_attn"):  # queries, keys, values
        return _weight(module.c_attn).chunk(3)[2].unflatten(0, (-1, size))
    if hasattr(module, "query_key_value"):  # of each head: its query, key and value
        return _weight(module.query_key_value).unflatten(0, (-1, 3, size))[:, 2]
    if hasattr(module, "qkv_proj"):  # all queries, then keys, then values, fewer of these
        keys = module.num_key_value_heads * size
        return _weight(module.qkv_proj)[-keys:].unflatten(0, (-1, size))
    raise SubjectError(
        f"The values of '{type(module).__name__}' must be made by a known module (v_proj, value, "
        "c_attn, query_key_value, qkv_proj, kv_b_proj). Found none: add it to "
        "lmri.anatomy.projections."
    )


def _latent_values(module: nn.Module, size: int) -> torch.Tensor:
    rank = module.kv_a_layernorm.weight.shape[0]
    down = gain(module.kv_a_layernorm)[:, None] * _weight(module.kv_a_proj_with_mqa)[:rank]
    up = _weight(module.kv_b_proj).unflatten(0, (module.num_heads, -1))[:, -size:]
    return up @ down


def _weight(projection: nn.Module) -> torch.Tensor:
    """Matrix of a projection as (outputs, inputs), float64 on the processor."""
    weight = projection.weight.detach().double().cpu()
    # GPT-2 keeps its matrices transposed (Conv1D).
    return weight.T if type(projection).__name__ == "Conv1D" else weight


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__


def _child(module: nn.Module, names: tuple[str, ...], where: str) -> nn.Module:
    for name, child in module.named_children():
        if name in names:
            return child
    raise SubjectError(
        f"The normalisation of {where} must be named one of {', '.join(names)}. Found none: add "
        "its name to lmri.anatomy.projections."
    )
