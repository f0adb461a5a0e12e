"""The table of architectures: where the sites of each one are, by ``model_type``.

One row per architecture. The paths are checked against the model when it is loaded (see
:mod:`lmri.anatomy.sites`), so that a new version of the library with other names fails loudly
instead of recording nothing. ``docs/architectures.md`` tells how to add a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Residual = Literal["sequential", "parallel", "post_norm"]


@dataclass(frozen=True)
class Architecture:
    """Where the modules of one architecture are, below the language model.

    Every path but ``blocks`` is below a block; None where an architecture has no such site.

    Attributes
    ----------
    blocks : str
        List of transformer blocks.
    attention : str
        Module that calls the attention function of transformers.
    attention_output : str
        Output projection of attention; its input are the heads' outputs, one after another.
    mid : str or None
        Module whose input is the residual between attention and MLP; None if they are parallel.
    attention_added, mlp_added : str
        Modules whose output is what attention and MLP add to the residual (in ``post_norm``
        blocks: before the normalisation).
    dense : str or None
        Output projection of a dense MLP; its input are the neurons.
    router, experts : str or None
        In layers with experts.
    shared : str or None
        Output projection of the experts that every token passes; its input are their neurons.
    shared_gate : str or None
        Projection to one logit per token whose sigmoid scales the shared experts' output.
    routing : str or None
        Rule that turns router logits into a choice, see :mod:`lmri.anatomy.routing`.
    residual : {'sequential', 'parallel', 'post_norm'}
        ``sequential``: mid = before + attention(before), after = mid + mlp(mid). ``parallel``:
        after = before + attention(before) + mlp(before). ``post_norm``: each sum is normalised
        before it is passed on.
    multiplier : str or None
        Entry of the configuration that scales what is added to the residual.
    encoder : bool
        Whether attention sees both sides: no next token is predicted.
    """

    blocks: str = "model.layers"
    attention: str = "self_attn"
    attention_output: str = "self_attn.o_proj"
    mid: str | None = "post_attention_layernorm"
    attention_added: str = "self_attn"
    mlp_added: str = "mlp"
    dense: str | None = "mlp.down_proj"
    router: str | None = None
    experts: str | None = None
    shared: str | None = None
    shared_gate: str | None = None
    routing: str | None = None
    residual: Residual = "sequential"
    multiplier: str | None = None
    encoder: bool = False


_DENSE = Architecture()
_EXPERTS = Architecture(router="mlp.gate", experts="mlp.experts", routing="softmax_top_k")
_SHARED = replace(_EXPERTS, shared="mlp.shared_experts.down_proj")
_GEMMA = Architecture(
    mid="pre_feedforward_layernorm",
    attention_added="post_attention_layernorm",
    mlp_added="post_feedforward_layernorm",
)

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture(
        blocks="bert.encoder.layer",
        attention="attention.self",
        attention_output="attention.output.dense",
        mid="intermediate",
        attention_added="attention.output.dense",
        mlp_added="output.dense",
        dense="output.dense",
        residual="post_norm",
        encoder=True,
    ),
    "deepseek_v2": replace(_SHARED, routing="grouped_softmax"),
    "deepseek_v3": replace(_SHARED, routing="grouped_sigmoid"),
    "ernie4_5_moe": replace(_SHARED, routing="biased_softmax"),
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "glm4_moe": replace(_SHARED, routing="grouped_sigmoid"),
    "gpt2": Architecture(
        blocks="transformer.h",
        attention="attn",
        attention_output="attn.c_proj",
        mid="ln_2",
        attention_added="attn",
        dense="mlp.c_proj",
    ),
    "gpt_neox": Architecture(
        blocks="gpt_neox.layers",
        attention="attention",
        attention_output="attention.dense",
        mid=None,
        attention_added="attention",
        dense="mlp.dense_4h_to_h",
        residual="parallel",
    ),
    "gpt_oss": Architecture(
        dense=None, router="mlp.router", experts="mlp.experts", routing="top_k_softmax"
    ),
    "granitemoe": Architecture(
        mlp_added="block_sparse_moe",
        dense=None,
        router="block_sparse_moe.router",
        experts="block_sparse_moe.experts",
        routing="top_k_softmax",
        multiplier="residual_multiplier",
    ),
    "llama": _DENSE,
    "llama4_text": Architecture(
        mlp_added="feed_forward",
        dense="feed_forward.down_proj",
        router="feed_forward.router",
        experts="feed_forward.experts",
        shared="feed_forward.shared_expert.down_proj",
        routing="sigmoid_input",
    ),
    "mistral": _DENSE,
    "mixtral": replace(_EXPERTS, dense=None),
    "olmoe": replace(_EXPERTS, dense=None),
    "phi": Architecture(
        attention_output="self_attn.dense", mid=None, dense="mlp.fc2", residual="parallel"
    ),
    "phi3": _DENSE,
    "qwen2_moe": replace(
        _EXPERTS, shared="mlp.shared_expert.down_proj", shared_gate="mlp.shared_expert_gate"
    ),
    "qwen3": _DENSE,
    "qwen3_moe": _EXPERTS,
}
"""Rows by ``model_type`` of the configuration."""

SEQUENTIAL_GPT_NEOX = replace(
    ARCHITECTURES["gpt_neox"], mid="post_attention_layernorm", residual="sequential"
)
"""GPT-NeoX with ``use_parallel_residual: false``."""
