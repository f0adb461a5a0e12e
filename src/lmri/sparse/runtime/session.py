"""Running a model under a plan: modules are swapped for sparse ones, and restored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from lmri.anatomy import Subject, attentions, describe, routers, trunk
from lmri.anatomy.linears import Projection, linears, mlps
from lmri.errors import SparseError
from lmri.intervene import Plan, intervened
from lmri.sparse.kernels import backend as backend_of
from lmri.sparse.plan import SparsePlan
from lmri.sparse.rules import (
    AttentionTopK,
    CacheHeads,
    ExpertRatio,
    GateCutoff,
    KeptHeads,
    KeptNeurons,
    NeuronThreshold,
    Rule,
    SkippedExperts,
)
from lmri.sparse.runtime.attention import SparseAttention, attending
from lmri.sparse.runtime.between import attending_alone, attention_forwards, norm_forwards
from lmri.sparse.runtime.blocks import block_forwards
from lmri.sparse.runtime.checks import ATTRIBUTE, Sites, check_model, check_plan
from lmri.sparse.runtime.counts import Counts, real_rows
from lmri.sparse.runtime.experts import experts_forward
from lmri.sparse.runtime.neurons import MlpRules, SparseMlp, mlp_forwards
from lmri.sparse.runtime.passes import Pass, PassReader
from lmri.sparse.runtime.products import (
    AttentionLinear,
    HeldPart,
    InputRule,
    Product,
    Tools,
    UnruledLinear,
)
from lmri.sparse.runtime.weights import Weights, indices

Forwards = dict[nn.Module, Callable[..., Tensor]]


class Session:
    """A model under a plan, inside :func:`sparse`.

    Attributes
    ----------
    plan : SparsePlan
        The plan.
    backend : str
        The backend that runs; ``reference`` where the one asked for cannot be built.
    counts : Counts
        What was read and skipped.
    copied_bytes : int
        Memory that copies of weights take beside the model's own: packed weights, and parts of
        fused matrices. Whole matrices that are read by their inputs are turned in place.
    """

    def __init__(self, plan: SparsePlan, backend: str, counts: Counts) -> None:
        self.plan = plan
        self.backend = backend
        self.counts = counts
        self.copied_bytes = 0
        self._now: Pass | None = None


@contextmanager
def sparse(
    model: nn.Module | Subject,
    plan: SparsePlan,
    backend: str = "cpu",
    *,
    subject_hash: str = "",
    count: bool = True,
) -> Iterator[Session]:
    """Run a model under a plan; everything is restored afterwards, to the bit.

    Few rows (:data:`lmri.sparse.kernels.MOST_ROWS`, so decoding) run on kernels that skip; more
    rows, and the backend ``reference``, on masked dense products, which compute the same and save
    nothing. Static sets (neurons, heads, experts) are left out on every backend and at any number
    of rows.

    Parameters
    ----------
    model : torch.nn.Module or Subject
        Language model of an architecture in the table, in float32 or bfloat16.
    plan : SparsePlan
        The plan.
    backend : str
        One of :data:`lmri.sparse.kernels.BACKENDS`.
    subject_hash : str
        Hash of the model's weights, to compare with that of the plan. A plan without one (``""``)
        is for any model that has its sites.
    count : bool
        Whether ``counts`` are filled.

    Yields
    ------
    Session
        The session.

    Raises
    ------
    SparseError
        If the plan is of another subject or for sites the model lacks, if the model is under a
        plan already or being trained, or if its dtype or device does not fit the backend.
    """
    model = model.model if isinstance(model, Subject) else model
    kernel = backend_of(backend)
    _check_subject(plan, subject_hash)
    check_model(model, kernel)
    anatomy = describe(model)
    sites = Sites(model, anatomy, linears(model), mlps(model))
    check_plan(plan, sites)
    itemsize = model.get_input_embeddings().weight.itemsize
    session = Session(plan, kernel.name, Counts(_dense_parameters(sites), itemsize, count))
    tools = Tools(kernel, Weights(kernel), session.counts, lambda: session._now)
    with ExitStack() as stack:
        stack.callback(tools.weights.restore)
        setattr(model, ATTRIBUTE, session)
        stack.callback(delattr, model, ATTRIBUTE)
        for plan_of_mode in _skipping(plan):
            subject = Subject("", model, None, anatomy)
            stack.enter_context(intervened(subject, [plan_of_mode]))
        forwards = _forwards(plan, sites, tools)
        session.copied_bytes = tools.weights.copied
        for module, forward in forwards.items():
            stack.callback(_swap(module, forward))
        stack.enter_context(attending_alone(tools, model))
        stack.enter_context(attending(model, _attention(plan, tools)))
        stack.callback(_reading_passes(model, session, kernel.name != "reference").remove)
        yield session


def _swap(module: nn.Module, forward: Callable[..., Tensor]) -> Callable[[], None]:
    """Put a forward in the place of a module's; returns what puts the old one back."""
    if hasattr(module, "_hf_hook"):
        raise SparseError(
            f"A model whose modules are moved between devices by accelerate ('{module._hf_hook}') "
            "cannot run under a sparse plan: load it on one device, without 'device_map'."
        )
    own = vars(module).get("forward")  # found before the method of its class
    module.forward = forward
    if own is not None:
        return partial(setattr, module, "forward", own)
    return partial(vars(module).pop, "forward", None)  # unless somebody took it away


def _check_subject(plan: SparsePlan, subject_hash: str) -> None:
    if plan.subject != subject_hash:
        raise SparseError(
            f"A sparse plan must be run on the subject it was made for ('{plan.subject[:12]}'). "
            f"Got '{subject_hash[:12]}': calibrate a plan for this subject."
        )


def _reading_passes(
    model: nn.Module, session: Session, kernels: bool
) -> torch.utils.hooks.RemovableHandle:
    plan = session.plan
    matter = plan.dense_tokens > 0 or any(isinstance(rule, CacheHeads) for rule in plan.rules)
    reader = PassReader(trunk(model), plan.dense_tokens, plan.dense_prefill, kernels, matter)

    choosers = routers(model)
    skipping = {rule.layer for rule in plan.rules if isinstance(rule, SkippedExperts)}

    def read(module: nn.Module, arguments: tuple, options: dict) -> None:
        for layer in skipping:
            _check_one_choice(choosers[layer], layer)
        session._now = reader.read(arguments, options)
        session.counts.add_tokens(session._now)

    return trunk(model).register_forward_pre_hook(read, with_kwargs=True)


def _check_one_choice(router: nn.Module, layer: int) -> None:
    """Refuse a second intervention on experts: each chooses from the logits, and one is lost."""
    hooks = (getattr(hook, "func", hook) for hook in router._forward_hooks.values())
    if sum(getattr(hook, "__module__", "") == intervened.__module__ for hook in hooks) > 1:
        raise SparseError(
            f"Experts of layer {layer} must not be skipped by a sparse plan and switched by an "
            "intervention at once. Got both: name all of them in one of the two."
        )


def _skipping(plan: SparsePlan) -> list[Plan]:
    """Interventions that leave experts out, one for each mode."""
    units: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for rule in plan.rules:
        if isinstance(rule, SkippedExperts):
            units[rule.mode] += [(rule.layer, expert) for expert in rule.experts]
    return [Plan(mode, tuple(own)) for mode, own in sorted(units.items())]


def _attention(plan: SparsePlan, tools: Tools) -> dict[int, SparseAttention]:
    found: dict[int, dict[type[Rule], Rule]] = defaultdict(dict)
    for rule in plan.rules:
        if isinstance(rule, AttentionTopK | CacheHeads):
            found[rule.layer][type(rule)] = rule
    return {
        layer: SparseAttention(tools, layer, own.get(AttentionTopK), own.get(CacheHeads))
        for layer, own in found.items()
    }


def _forwards(plan: SparsePlan, sites: Sites, tools: Tools) -> Forwards:
    """Forwards of all modules that rules touch."""
    by_layer: dict[int, list[Rule]] = defaultdict(list)
    for rule in plan.rules:
        by_layer[rule.layer].append(rule)
    forwards: Forwards = {}
    for layer, rules in by_layer.items():
        forwards |= _mlp_forwards(layer, rules, sites, tools)
        forwards |= _attention_forwards(layer, rules, sites, tools)
    between = norm_forwards(tools, sites.model) | attention_forwards(tools, sites.model)
    forwards = between | _unruled(sites, tools, forwards) | forwards
    return forwards | block_forwards(tools, sites.model, forwards)


def _unruled(sites: Sites, tools: Tools, ruled: Forwards) -> Forwards:
    """Forwards of all other linear modules of blocks, and of the output."""
    if tools.kernel.name == "reference":
        return {}
    # An MLP that is swapped as a whole does not run the modules in it.
    inside = {
        part.module
        for groups in sites.mlps.values()
        for mlp in groups.values()
        for part in mlp.projections
        if mlp.module in ruled
    }
    found = {
        part.module: replace(part, rows=slice(None))
        for own in sites.projections.values()
        for part in own.values()
        if not part.experts and part.module not in inside
    }
    head = sites.model.get_output_embeddings()
    # A matrix that also embeds tokens is read by its rows there: it stays as it is.
    if head is not None and head.weight is not sites.model.get_input_embeddings().weight:
        found[head] = Projection("output", sites.anatomy.layers, head)
    return {m: UnruledLinear(tools, part) for m, part in found.items() if m not in ruled}


def _mlp_forwards(layer: int, rules: list[Rule], sites: Sites, tools: Tools) -> Forwards:
    forwards: Forwards = {}
    for group, mlp in sites.mlps[layer].items():
        own = MlpRules()
        names = {part.name for part in mlp.projections}
        for rule in rules:
            if isinstance(rule, InputRule) and rule.projection in names:
                own.inputs[rule.projection] = rule
            elif getattr(rule, "group", None) != group:
                continue
            elif isinstance(rule, NeuronThreshold):
                own = replace(own, threshold=rule)
            elif isinstance(rule, GateCutoff):
                own = replace(own, cutoff=rule)
            elif isinstance(rule, KeptNeurons):
                own.kept[rule.expert] = rule
        if group != "expert" and own:
            forwards |= mlp_forwards(SparseMlp(tools, mlp, own))
        if group == "expert":
            ratio, skipped = (_first(rules, kind) for kind in (ExpertRatio, SkippedExperts))
            if own or ratio or skipped:
                forwards |= experts_forward(tools, mlp, own, ratio, skipped)
    return forwards


def _attention_forwards(layer: int, rules: list[Rule], sites: Sites, tools: Tools) -> Forwards:
    names = ("query", "key", "value", "attention_output")
    parts = [p for name, p in sites.projections[layer].items() if name in names]
    inputs = {r.projection: r for r in rules if isinstance(r, InputRule)}
    heads = _first(rules, KeptHeads)
    by_module: dict[nn.Module, list[Projection]] = defaultdict(list)
    for part in parts:
        by_module[part.module].append(part)
    forwards: Forwards = {}
    for module, own in by_module.items():
        packed = {part.name: _packed(part, heads, sites) for part in own}
        if any(part.name in inputs or packed[part.name] != (None, None) for part in own):
            held = [_held(part, inputs.get(part.name), packed[part.name], tools) for part in own]
            matrix = own[0].matrix
            outputs = matrix.shape[1 if own[0].transposed else 0]
            forward = AttentionLinear(tools, held, outputs)
            if heads is not None and own[0].name == "attention_output":
                forward = _counting_heads(forward, heads, sites, tools)
            forwards[module] = forward
    return forwards


def _held(
    part: Projection,
    rule: InputRule | None,
    packed: tuple[Tensor | None, Tensor | None],
    tools: Tools,
) -> HeldPart:
    outputs, inputs = packed
    rows = part.rows
    if outputs is not None:
        every = torch.arange(part.matrix.shape[1 if part.transposed else 0])
        rows = every.to(outputs.device)[rows][outputs]
    return HeldPart(Product(tools, part, rule, outputs=outputs, inputs=inputs), rows, inputs)


def _packed(
    part: Projection, heads: KeptHeads | None, sites: Sites
) -> tuple[Tensor | None, Tensor | None]:
    """Outputs and inputs that exist where only some heads write; None for all.

    Queries, keys and values that no such head reads are not made; they are 0.
    """
    if heads is None:
        return None, None
    device = part.matrix.device
    if part.name == "attention_output":
        return None, _of_heads(heads.heads, sites.anatomy.heads, part.inputs, device)
    if _normalised_together(attentions(sites.model)[part.layer], part, sites.anatomy.head_size):
        return None, None
    if part.name == "query":
        return _of_heads(heads.heads, sites.anatomy.heads, part.outputs, device), None
    of_keys = sites.key_heads(part.layer)
    sharing = sites.anatomy.heads // of_keys
    read = tuple(sorted({head // sharing for head in heads.heads}))
    if len(read) == of_keys:
        return None, None
    return _of_heads(read, of_keys, part.outputs, device), None


def _normalised_together(attention: nn.Module, part: Projection, head_size: int) -> bool:
    """Whether what a projection makes is normalised over several heads (OLMoE): all count then."""
    norm = getattr(attention, {"query": "q_norm", "key": "k_norm"}.get(part.name, ""), None)
    sizes = [] if norm is None else [weight.numel() for weight in norm.parameters()]
    return any(size > head_size for size in sizes)


def _of_heads(heads: tuple[int, ...], count: int, channels: int, device: torch.device) -> Tensor:
    """Channels of some of the heads, which lie one after another."""
    every = torch.arange(channels, device=device).view(count, -1)
    return every[indices(heads, device)].reshape(-1)


def _counting_heads(
    forward: AttentionLinear, rule: KeptHeads, sites: Sites, tools: Tools
) -> Callable[[Tensor], Tensor]:
    heads = sites.anatomy.heads

    def counted(x: Tensor) -> Tensor:
        now = tools.now()
        if tools.counts.enabled and now is not None:
            rows = real_rows(now)
            kept = rows * len(rule.heads)
            tools.counts.add_rule(now, rule.layer, rule.name, "attention", rows * heads, kept)
        return forward(x)

    return counted


def _first(rules: list[Rule], kind: type[Rule]) -> Rule | None:
    return next((rule for rule in rules if isinstance(rule, kind)), None)


def _dense_parameters(sites: Sites) -> int:
    """Weights that one token is multiplied with in the dense model."""
    model, anatomy = sites.model, sites.anatomy
    total = sum(
        part.parameters * (anatomy.top_k if part.experts else 1)
        for found in sites.projections.values()
        for part in found.values()
    )
    total += sum(router.weight.numel() for router in routers(model).values())
    if sites.latent:  # first stages, and what makes keys and values
        total += sum(_latent_parameters(module) for module in attentions(model).values())
    head = model.get_output_embeddings()
    return total + (0 if head is None else head.weight.numel())


def _latent_parameters(module: nn.Module) -> int:
    names = ("q_a_proj", "kv_a_proj_with_mqa", "kv_b_proj")
    parts = (getattr(module, name, None) for name in names)
    return sum(part.weight.numel() for part in parts if part is not None)
