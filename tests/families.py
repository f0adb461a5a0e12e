"""A tiny random model of every architecture in the table."""

from functools import cache

import torch
import transformers

SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {"num_key_value_heads": 2}
DENSE = {"intermediate_size": 48}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2}
LOCAL_EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2}
DEEPSEEK = {
    **DENSE,
    "moe_intermediate_size": 16,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
LATENT = {  # low-rank attention with heads of another width than the keys
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "num_key_value_heads": 4,
}
FAMILIES = {
    "bert": ("BertConfig", DENSE),
    "deepseek_v2": (
        "DeepseekV2Config",
        {**DEEPSEEK, **LATENT, "topk_method": "group_limited_greedy"},
    ),
    "deepseek_v3": ("DeepseekV3Config", {**DEEPSEEK, **LATENT}),
    "ernie4_5_moe": (
        "Ernie4_5_MoeConfig",
        {
            **GROUPED,
            **DENSE,
            "moe_intermediate_size": 16,
            "moe_num_experts": 8,
            "moe_k": 2,
            "moe_layer_start_index": 1,
            "moe_num_shared_experts": 1,
        },
    ),
    "gemma2": ("Gemma2Config", {**GROUPED, **DENSE, "head_dim": 16}),
    "gemma3_text": ("Gemma3TextConfig", {**GROUPED, **DENSE, "head_dim": 16}),
    "glm4_moe": ("Glm4MoeConfig", {**GROUPED, **DEEPSEEK, "head_dim": 8}),
    "gpt2": ("GPT2Config", {}),
    "gpt_neox": ("GPTNeoXConfig", DENSE),
    "gpt_oss": (
        "GptOssConfig",
        {
            **GROUPED,
            **LOCAL_EXPERTS,
            "intermediate_size": 16,
            "head_dim": 8,
            "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 8,
        },
    ),
    "granitemoe": (
        "GraniteMoeConfig",
        {**GROUPED, **LOCAL_EXPERTS, "intermediate_size": 16, "residual_multiplier": 0.5},
    ),
    "llama": ("LlamaConfig", {**GROUPED, **DENSE}),
    "llama4_text": (
        "Llama4TextConfig",
        {
            **GROUPED,
            **LOCAL_EXPERTS,
            "intermediate_size": 16,
            "intermediate_size_mlp": 48,
            "head_dim": 8,
            "interleave_moe_layer_step": 2,
        },
    ),
    "mistral": ("MistralConfig", {**GROUPED, **DENSE, "sliding_window": 8}),
    "mixtral": ("MixtralConfig", {**GROUPED, **LOCAL_EXPERTS, "intermediate_size": 16}),
    "olmoe": ("OlmoeConfig", {**GROUPED, **EXPERTS, "intermediate_size": 16}),
    "phi": ("PhiConfig", DENSE),
    "phi3": ("Phi3Config", {**GROUPED, **DENSE}),
    "qwen2_moe": (
        "Qwen2MoeConfig",
        {
            **GROUPED,
            **DENSE,
            **EXPERTS,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 24,
            "mlp_only_layers": [0],
        },
    ),
    "qwen3": ("Qwen3Config", {**GROUPED, **DENSE, "head_dim": 16}),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        {
            **GROUPED,
            **DENSE,
            **EXPERTS,
            "moe_intermediate_size": 16,
            "head_dim": 16,
            "mlp_only_layers": [0],
            "norm_topk_prob": True,
        },
    ),
}
MIXTURES = tuple(
    kind for kind, (_, entries) in FAMILIES.items() if any("expert" in key for key in entries)
)


def configuration(kind: str, **changes) -> transformers.PretrainedConfig:
    """Configuration of the tiny model of an architecture."""
    name, entries = FAMILIES[kind]
    return getattr(transformers, name)(**{**SIZES, **entries, **changes})


@cache
def tiny_model(kind: str) -> torch.nn.Module:
    """The tiny model of an architecture; a test must leave it as it was."""
    # Whoever asks first may be without gradients, and others need them.
    with torch.inference_mode(False):
        return random_model(configuration(kind))


def random_model(config: transformers.PretrainedConfig) -> torch.nn.Module:
    """A model whose every part shows in its output, with choices of experts far from ties."""
    masked = config.model_type == "bert"
    loader = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = loader.from_config(config)
        for name, values in [*model.named_parameters(), *model.named_buffers()]:
            if values.ndim >= 2 and values.is_floating_point() and "inv_freq" not in name:
                values.normal_(0, 0.2)
            if name.endswith(("gate.weight", "router.weight")):
                values.normal_(0, 1.0)
            if name.endswith(("bias", "sinks")) and "correction" not in name:
                values.normal_(0, 0.1)
            if "correction_bias" in name:
                values.normal_(0, 0.3)
    return model.eval().requires_grad_(False)


def tokens(kind: str, rows: int = 3, length: int = 14) -> torch.Tensor:
    """Token ids with some repeats: (rows, length)."""
    generator = torch.Generator().manual_seed(len(kind))
    return torch.randint(3, 20, (rows, length), generator=generator)
