"""What of a plan a model can carry out; everything else is refused before anything is changed."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from lmri.anatomy import Anatomy, attentions
from lmri.anatomy.linears import Mlp, Projection
from lmri.checks import check_choice, check_range, quoted
from lmri.errors import SparseError
from lmri.intervene import OFF_MODES
from lmri.sparse.kernels import DTYPES, Backend
from lmri.sparse.plan import SparsePlan
from lmri.sparse.rules import (
    CUTOFFS,
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

ATTRIBUTE = "lmri_sparse_session"
"""Set on a model while a session runs."""


class Sites:
    """Sites of one model, as rules name them.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    anatomy : Anatomy
        Its anatomy.
    projections : dict of int to dict of str to Projection
        By layer and name.
    mlps : dict of int to dict of str to Mlp
        By layer and group.
    """

    def __init__(
        self,
        model: nn.Module,
        anatomy: Anatomy,
        projections: dict[int, dict[str, Projection]],
        mlps: dict[int, dict[str, Mlp]],
    ) -> None:
        self.model, self.anatomy = model, anatomy
        self.projections, self.mlps = projections, mlps

    @property
    def latent(self) -> bool:
        """Whether keys and values are made from one latent for all heads."""
        return "key" not in self.projections[0]

    def key_heads(self, layer: int) -> int:
        """Heads of keys and values of a layer."""
        if self.latent:
            return self.anatomy.heads
        module = attentions(self.model)[layer]
        sharing = getattr(module, "num_key_value_groups", 1)
        return self.anatomy.heads // sharing


def check_plan(plan: SparsePlan, sites: Sites) -> None:
    """Refuse a plan that the model cannot carry out.

    Parameters
    ----------
    plan : SparsePlan
        The plan.
    sites : Sites
        Of the model.

    Raises
    ------
    SparseError
        Naming the rule, and what the model has instead.
    """
    seen: set[tuple] = set()
    for rule in plan.rules:
        check = CHECKS.get(type(rule))
        if check is None:
            raise SparseError(
                f"A rule of a sparse plan must be one of {quoted(r.name for r in CHECKS)}. Got "
                f"{type(rule).__name__}."
            )
        check_range(rule.layer, "layer", _owner(rule), 0, sites.anatomy.layers - 1, SparseError)
        check(rule, sites)
        key = _place(rule)
        if key in seen:
            raise SparseError(
                f"A sparse plan must have one rule for each place. Got two of '{rule.name}' for "
                f"{', '.join(map(str, key[1:]))}."
            )
        seen.add(key)
    check_range(plan.dense_tokens, "dense_tokens", "a sparse plan", 0, None, SparseError)


def check_model(model: nn.Module, kernel: Backend) -> None:
    """Refuse a model that cannot be run sparsely now.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    kernel : Backend
        The backend that was chosen.

    Raises
    ------
    SparseError
        If another session runs, the dtype or device does not fit, or it is being trained.
    """
    if hasattr(model, ATTRIBUTE):
        raise SparseError(
            "A model must be under one sparse plan at a time. Got a second inside a session of "
            "the first: leave that one, or put all rules into one plan."
        )
    if model.training:
        raise SparseError(
            "A model under a sparse plan must be in evaluation mode. Got one in training: call "
            "model.eval()."
        )
    for name, weight in model.named_parameters():
        if weight.dtype not in DTYPES:
            raise SparseError(
                f"The weights of a model under a sparse plan must be one of {quoted(DTYPES)}. Got "
                f"{weight.dtype} ({name}): load it in another."
            )
        if kernel.name != "reference" and weight.device.type != kernel.device:
            raise SparseError(
                f"A model on the sparse backend '{kernel.name}' must be on the device "
                f"'{kernel.device}'. Got {weight.device} ({name}): move it, or use 'reference'."
            )


def _input(rule: InputThreshold | InputTopK, sites: Sites) -> None:
    part = sites.projections[rule.layer].get(rule.projection)
    if part is None:
        _lacks(rule, f"projection '{rule.projection}'", sites.projections[rule.layer])
    if isinstance(rule, InputThreshold):
        _check_values(rule, "threshold", rule.threshold, part.inputs, part.experts)
        return
    check_range(rule.kept, "kept", _owner(rule), 1, part.inputs, SparseError)
    if rule.scale is not None:
        _check_values(rule, "scale", rule.scale, part.inputs, part.experts, scalar=False)


def _threshold(rule: NeuronThreshold, sites: Sites) -> None:
    mlp = _group(rule, sites)
    _check_values(rule, "threshold", rule.threshold, mlp.neurons, mlp.down.experts)


def _cutoff(rule: GateCutoff, sites: Sites) -> None:
    _group(rule, sites)
    check_choice(rule.cutoff, CUTOFFS, "cutoff", _owner(rule), SparseError)
    if rule.cutoff == "shifted_relu" and not rule.value > 0:
        raise SparseError(f"The 'value' of {_owner(rule)} must be above 0. Got {rule.value!r}.")


def _neurons(rule: KeptNeurons, sites: Sites) -> None:
    mlp = _group(rule, sites)
    _check_list(rule, "neurons", rule.neurons, mlp.neurons)
    if (rule.expert is None) != (mlp.group != "expert"):
        allowed = "name one in the group 'expert', and be None elsewhere"
        raise SparseError(f"The 'expert' of {_owner(rule)} must {allowed}. Got {rule.expert!r}.")
    if rule.expert is not None:
        check_range(rule.expert, "expert", _owner(rule), 0, mlp.down.experts - 1, SparseError)


def _heads(rule: KeptHeads, sites: Sites) -> None:
    _check_list(rule, "heads", rule.heads, sites.anatomy.heads)


def _skipped(rule: SkippedExperts, sites: Sites) -> None:
    _chosen_one_by_one(rule, sites)
    check_choice(rule.mode, OFF_MODES, "mode", _owner(rule), SparseError)
    _check_list(rule, "experts", rule.experts, sites.anatomy.experts)
    left = sites.anatomy.experts - len(rule.experts)
    if rule.mode == "mask" and left < sites.anatomy.top_k:
        raise SparseError(
            f"The 'experts' of {_owner(rule)} must leave {sites.anatomy.top_k} to choose from in "
            f"the mode 'mask'. Got {len(rule.experts)} of {sites.anatomy.experts}."
        )


def _ratio(rule: ExpertRatio, sites: Sites) -> None:
    _chosen_one_by_one(rule, sites)
    if not 0 < rule.ratio < 1:
        raise SparseError(f"The 'ratio' of {_owner(rule)} must be in (0, 1). Got {rule.ratio!r}.")


def _top_k(rule: AttentionTopK, sites: Sites) -> None:
    check_range(rule.kept, "kept", _owner(rule), 1, None, SparseError)


def _cache(rule: CacheHeads, sites: Sites) -> None:
    kind = sites.anatomy.architecture
    if sites.anatomy.encoder:
        raise SparseError(f"{_owner(rule)}: '{kind}' has no cache: it reads a text at once.")
    if sites.latent:
        raise SparseError(
            f"{_owner(rule)}: '{kind}' keeps one latent for all heads, so that no head has a cache "
            "of its own."
        )
    _check_list(rule, "heads", rule.heads, sites.key_heads(rule.layer))
    check_range(rule.sinks, "sinks", _owner(rule), 0, None, SparseError)
    check_range(rule.window, "window", _owner(rule), 1, None, SparseError)


CHECKS: dict[type[Rule], Callable[[Rule, Sites], None]] = {
    InputThreshold: _input,
    InputTopK: _input,
    NeuronThreshold: _threshold,
    GateCutoff: _cutoff,
    KeptNeurons: _neurons,
    KeptHeads: _heads,
    SkippedExperts: _skipped,
    ExpertRatio: _ratio,
    AttentionTopK: _top_k,
    CacheHeads: _cache,
}
"""What each rule must fit."""


def _place(rule: Rule) -> tuple:
    kind = "input" if isinstance(rule, InputThreshold | InputTopK) else rule.name
    fields = ("projection", "group", "expert")
    named = [f"{field} {getattr(rule, field)}" for field in fields if hasattr(rule, field)]
    return kind, f"layer {rule.layer}", *named


def _group(rule: NeuronThreshold | GateCutoff | KeptNeurons, sites: Sites) -> Mlp:
    mlp = sites.mlps[rule.layer].get(rule.group)
    if mlp is None:
        _lacks(rule, f"group '{rule.group}'", sites.mlps[rule.layer])
    return mlp


def _chosen_one_by_one(rule: Rule, sites: Sites) -> None:
    if rule.layer not in sites.anatomy.moe_layers:
        _lacks(rule, "experts", sites.mlps[rule.layer])
    if sites.anatomy.routing == "sigmoid_input":
        raise SparseError(
            f"{_owner(rule)}: the experts of '{sites.anatomy.architecture}' all get every token, "
            "so that none can be skipped."
        )


def _check_values(
    rule: Rule, name: str, values: Tensor, size: int, experts: int, *, scalar: bool = True
) -> None:
    allowed = [(experts, size)] if experts else [(size,)]
    allowed += [()] if scalar else []
    if tuple(values.shape) not in allowed or not values.dtype.is_floating_point:
        raise SparseError(
            f"The '{name}' of {_owner(rule)} must be float32 of shape "
            f"{' or '.join(map(str, allowed))}. Got {values.dtype} of shape {tuple(values.shape)}."
        )
    if not bool((values >= 0).all()):
        raise SparseError(f"The '{name}' of {_owner(rule)} must be at least 0. Got another value.")


def _check_list(rule: Rule, name: str, values: tuple[int, ...], size: int) -> None:
    if list(values) != sorted(set(values)) or not all(0 <= value < size for value in values):
        raise SparseError(
            f"The '{name}' of {_owner(rule)} must ascend within [0, {size - 1}], each once. Got "
            f"{list(values)[:8]}."
        )


def _lacks(rule: Rule, what: str, has: dict[str, object]) -> None:
    raise SparseError(
        f"The subject of a sparse plan must have all of its sites. Layer {rule.layer} has no "
        f"{what}, which '{rule.name}' names: it has {quoted(has)}."
    )


def _owner(rule: Rule) -> str:
    return f"the rule '{rule.name}' (layer {rule.layer})"
