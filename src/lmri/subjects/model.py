"""The network of an embedded subject and the losses it is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    PreTrainedModel,
)

from lmri.subjects.corpus import Batch
from lmri.subjects.recipe import Recipe

__all__ = ["Losses", "build_model", "forward", "load_balance", "router_z", "weighted_cross_entropy"]


@dataclass(frozen=True)
class Losses:
    """The terms of one step, each a scalar tensor; `total` is what is minimised."""

    total: torch.Tensor
    text: torch.Tensor
    balance: torch.Tensor
    z: torch.Tensor


def build_model(recipe: Recipe, vocabulary_size: int, seed: int) -> PreTrainedModel:
    """Initialise a subject; the global random state is left as it was.

    Parameters
    ----------
    recipe : Recipe
        Sizes and initialisation.
    vocabulary_size : int
        Number of tokens.
    seed : int
        Seed of the weights.

    Returns
    -------
    transformers.OlmoeForCausalLM or transformers.LlamaForCausalLM
        In float32, on the CPU; a Llama where the recipe has no experts.
    """
    common = {
        "vocab_size": vocabulary_size,
        "hidden_size": recipe.hidden,
        "intermediate_size": recipe.intermediate,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.heads,
        "tie_word_embeddings": True,
        "initializer_range": recipe.initializer_range,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not recipe.experts:
            return LlamaForCausalLM(LlamaConfig(**common))
        configuration = OlmoeConfig(
            **common,
            num_experts=recipe.experts,
            num_experts_per_tok=recipe.experts_per_token,
            norm_topk_prob=False,
            router_aux_loss_coef=0.0,  # the balance loss is ours, per layer
        )
        return OlmoeForCausalLM(configuration)


def forward(model: PreTrainedModel, batch: Batch, balance: float, z: float) -> Losses:
    """Losses of one batch: ``total = text + balance * load_balance + z * router_z``.

    A model without experts has no router losses.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The subject, from :func:`build_model`.
    batch : Batch
        Packed documents.
    balance, z : float
        Weights of the two router losses.

    Returns
    -------
    Losses
    """
    routed = hasattr(model.config, "num_experts")
    outputs = model.model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        use_cache=False,
        **({"output_router_logits": True} if routed else {}),
    )
    logits = model.lm_head(outputs.last_hidden_state)  # (rows, length, vocabulary)
    text = weighted_cross_entropy(logits, batch.input_ids, batch.weights)
    if not routed:
        nothing = torch.zeros(())
        return Losses(text, text, nothing, nothing)
    load = load_balance(outputs.router_logits, model.config.num_experts_per_tok)
    size = router_z(outputs.router_logits)
    return Losses(text + balance * load + z * size, text, load, size)


def weighted_cross_entropy(
    logits: torch.Tensor, input_ids: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """``sum_t w[t] * -log p(x[t] | x[<t]) / sum_t w[t]``, in nats.

    Parameters
    ----------
    logits : torch.Tensor of shape (rows, length, vocabulary)
        At each token, of the next one.
    input_ids : torch.Tensor of int64, shape (rows, length)
    weights : torch.Tensor of shape (rows, length)
        Weight of predicting each token; those of the first column are not used.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    targets, wanted = input_ids[:, 1:].flatten(), weights[:, 1:].flatten()
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1), targets, reduction="none")
    return (losses * wanted).sum() / wanted.sum()


def load_balance(router_logits: tuple[torch.Tensor, ...], top_k: int) -> torch.Tensor:
    """``mean over layers of n_experts * sum_e f[e] * P[e]``; 1 when the load is even.

    f[e] is the share of routed slots given to expert e, P[e] its mean probability. The model
    library's own loss pools the layers before the product, so that one layer may be uneven.

    Parameters
    ----------
    router_logits : tuple of torch.Tensor, each of shape (n_tokens, n_experts)
        One per layer.
    top_k : int
        Experts a token is routed to.

    Returns
    -------
    torch.Tensor
        Scalar.

    References
    ----------
    Fedus et al. 2021, Switch Transformers, equations 4 to 6.
    """
    terms = []
    for logits in router_logits:
        probabilities = logits.softmax(-1)
        chosen = probabilities.topk(top_k, dim=-1).indices
        counts = torch.bincount(chosen.flatten(), minlength=logits.shape[-1])
        shares = counts / counts.sum()
        terms.append(logits.shape[-1] * (shares * probabilities.mean(0)).sum())
    return torch.stack(terms).mean()


def router_z(router_logits: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """``mean over layers and tokens of logsumexp(logits)^2``: keeps router logits small.

    Parameters
    ----------
    router_logits : tuple of torch.Tensor, each of shape (n_tokens, n_experts)
        One per layer.

    Returns
    -------
    torch.Tensor
        Scalar.

    References
    ----------
    Zoph et al. 2022, ST-MoE, equation 5.
    """
    return torch.stack([logits.logsumexp(-1).square().mean() for logits in router_logits]).mean()
