"""Plans with every rule, for every architecture, and ways to run them."""

from collections.abc import Callable

import torch
from families import FAMILIES, tiny_model

from lmri.anatomy import describe
from lmri.anatomy.linears import linears, mlps
from lmri.sparse.plan import SparsePlan
from lmri.sparse.rules import (
    AttentionTopK,
    CacheHeads,
    ExpertRatio,
    GateCutoff,
    InputThreshold,
    InputTopK,
    KeptHeads,
    KeptNeurons,
    NeuronThreshold,
    Rule,
    SkippedExperts,
)

DECODERS = tuple(kind for kind in FAMILIES if kind != "bert")
LATENT = ("deepseek_v2", "deepseek_v3")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
"""Of float32 kernels and masked products: sums in another order, through two layers."""
LOOSER = {"granitemoe": {"atol": 1e-4}}
"""Architectures that amplify a last place: it multiplies what a layer adds."""


def plan_of(*rules: Rule, **settings) -> SparsePlan:
    """A plan of a test."""
    return SparsePlan("test", "", tuple(rules), **settings)


def _input_threshold(model) -> list[Rule]:
    return [
        InputThreshold(layer, name, _level(part.inputs, part.experts, 0.1))
        for layer, found in linears(model).items()
        for name, part in found.items()
    ]


def _level(size: int, experts: int, scale: float) -> torch.Tensor:
    """Thresholds of every form: one, one a channel, one a channel of every expert."""
    if size % 3 == 0 and not experts:
        return torch.tensor(scale)
    shape = (experts, size) if experts else (size,)
    return scale * (0.5 + torch.arange(size) / size).expand(shape).contiguous()


def _input_top_k(model) -> list[Rule]:
    rules = []
    for layer, found in linears(model).items():
        for name, part in found.items():
            scale = None
            if name.endswith(("query", "gate", "up")):
                scale = part.weight.float().norm(dim=-2)
            rules.append(InputTopK(layer, name, part.inputs // 2, scale))
    return rules


def _neuron_threshold(model) -> list[Rule]:
    return [
        NeuronThreshold(layer, group, _level(mlp.neurons, mlp.down.experts, 0.15))
        for layer, groups in mlps(model).items()
        for group, mlp in groups.items()
    ]


def _cutoff(cutoff: str, value: float) -> Callable[[torch.nn.Module], list[Rule]]:
    def rules(model) -> list[Rule]:
        return [
            GateCutoff(layer, group, cutoff, value)
            for layer, groups in mlps(model).items()
            for group in groups
        ]

    return rules


def _kept_neurons(model) -> list[Rule]:
    rules = []
    for layer, groups in mlps(model).items():
        for group, mlp in groups.items():
            for expert in range(mlp.down.experts) or [None]:
                first = 0 if expert is None else expert % 3
                kept = tuple(range(first, mlp.neurons, 3))
                rules.append(KeptNeurons(layer, group, kept, expert))
    return rules


def _kept_heads(model) -> list[Rule]:
    return [KeptHeads(0, (1,)), KeptHeads(1, (0, 3))]


def _skipped(model) -> list[Rule]:
    layers = describe(model).moe_layers
    return [
        SkippedExperts(layer, (1, 2, 5), ("mask", "zero", "zero_renormalise")[layer % 3])
        for layer in layers
    ]


def _ratio(model) -> list[Rule]:
    return [ExpertRatio(layer, 0.97, layer % 2 == 1) for layer in describe(model).moe_layers]


def _attention_top_k(model) -> list[Rule]:
    return [AttentionTopK(layer, 2 + layer) for layer in (0, 1)]


def _cache_heads(model) -> list[Rule]:
    return [CacheHeads(0, (), 1, 3), CacheHeads(1, (1,), 0, 2, compensation=False)]


def _mixed(model) -> list[Rule]:
    """Rules that meet in the same modules."""
    rules = [*_input_threshold(model), *_neuron_threshold(model), *_kept_heads(model)]
    return [*rules, *_kept_neurons(model), *_cutoff("statistical", -0.5)(model)]


RULES: dict[str, Callable[[torch.nn.Module], list[Rule]]] = {
    "input_threshold": _input_threshold,
    "input_top_k": _input_top_k,
    "neuron_threshold": _neuron_threshold,
    "relu": _cutoff("relu", 0.0),
    "shifted_relu": _cutoff("shifted_relu", 0.1),
    "statistical": _cutoff("statistical", 0.2),
    "kept_neurons": _kept_neurons,
    "kept_heads": _kept_heads,
    "skipped_experts": _skipped,
    "expert_ratio": _ratio,
    "attention_top_k": _attention_top_k,
    "cache_heads": _cache_heads,
    "mixed": _mixed,
}


def fits(kind: str, name: str) -> bool:
    """Whether an architecture has the sites of a rule."""
    if name in ("skipped_experts", "expert_ratio"):
        return bool(describe(tiny_model(kind)).moe_layers) and kind != "llama4_text"
    return name != "cache_heads" or kind not in (*LATENT, "bert")


CASES = [(kind, name) for kind in FAMILIES for name in RULES if fits(kind, name)]
DECODED = [(kind, name) for kind, name in CASES if kind != "bert"]


def plan_for(kind: str, name: str, **settings) -> SparsePlan:
    """The plan of a rule on every site of an architecture."""
    return plan_of(*RULES[name](tiny_model(kind)), **settings)


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all weights."""
    return {name: value.clone() for name, value in model.state_dict().items()}
