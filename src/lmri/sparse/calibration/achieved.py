"""Counting what rules skip on the texts of a calibration: exact counts, one rule at a time.

Counts are on the dense model's activity. Under a whole plan the inputs of later layers differ
slightly, and so does what is skipped: the runtime counts that.

===================  ============  =========================================================
rule                 share of      parameters that it governs, at one token
===================  ============  =========================================================
`InputThreshold`,    channels      the projection's
`InputTopK`
`NeuronThreshold`,   neurons       those of ``up`` and ``down``; of ``down`` alone without a
`GateCutoff`                       gate, since ``up`` must be known first
`KeptNeurons`        neurons       those of ``gate``, ``up`` and ``down``
`KeptHeads`          heads         those of ``attention_output``
`SkippedExperts`     experts       the chosen experts'. In the mode ``mask`` others take their
                     or slots      place: the share is that of all experts, and nothing that
                                   a token reads is saved
`ExpertRatio`        slots         the chosen experts'
`AttentionTopK`      keys          none; of the keys that queries may see
`CacheHeads`         cache         none; of what queries could see in the cache
===================  ============  =========================================================

Of experts, parameters are those of as many experts as a token chooses, or of one where a rule names
one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lmri.record.attention import Attention, observed_attention, weights_of
from lmri.sparse.calibration.activity import Activity
from lmri.sparse.calibration.looks import Look, Site
from lmri.sparse.masks import (
    channels_read,
    chosen,
    cut_gate,
    experts_run,
    keys_attended,
    neurons_computed,
    positions_kept,
)
from lmri.sparse.plan import Achieved
from lmri.sparse.plan_checks import group_of
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

QUERIES_AT_ONCE = 32
SEEN = -1e29
"""Logarithms of attention weights below are those of hidden keys."""


@dataclass
class _Count:
    kept: int = 0
    total: int = 0

    def add(self, mask: Tensor) -> None:
        self.kept += int(mask.count_nonzero())
        self.total += mask.numel()

    @property
    def skipped(self) -> float:
        return (self.total - self.kept) / self.total if self.total else 0.0


@dataclass(frozen=True)
class _Counted:
    """How a rule is counted: what it is a share of, and what it governs."""

    site: str
    denominator: str
    parameters: int
    count: _Count = field(default_factory=_Count)
    at: Site | None = None
    mask: Callable[[Look], Tensor] | None = None
    saves: bool = True


def achieved(
    activity: Activity, rules: Sequence[Rule], asked: Sequence[float | None]
) -> tuple[Achieved, ...]:
    """Count what every rule skips.

    Parameters
    ----------
    activity : Activity
        Of the calibration.
    rules : sequence of Rule
        Rules for its subject.
    asked : sequence of float or None
        Share that was asked for, one for each rule.

    Returns
    -------
    tuple of Achieved
        One for each rule, in their order.
    """
    counted = [_COUNTED[type(rule)](activity, rule) for rule in rules]
    tell: dict[Site, list[Callable[[Look], None]]] = {}
    for own in counted:
        if own.at is not None:
            tell.setdefault(own.at, []).append(lambda look, own=own: own.count.add(own.mask(look)))
    if tell:
        activity.look(tell)
    _count_keys(activity, list(zip(rules, counted, strict=True)))
    return tuple(
        Achieved(
            layer=rule.layer,
            rule=rule.name,
            site=own.site,
            asked=share,
            achieved=own.count.skipped,
            denominator=own.denominator,
            parameters=own.parameters,
            skipped=own.count.skipped * own.parameters if own.saves else 0.0,
        )
        for rule, own, share in zip(rules, counted, asked, strict=True)
    )


def site_of(projection: str) -> str:
    """Site where the input of a projection is seen.

    Parameters
    ----------
    projection : str
        One of :data:`lmri.sparse.rules.PROJECTIONS`.

    Returns
    -------
    str
        One of :data:`lmri.sparse.calibration.looks.SITES`.
    """
    if projection == "attention_output":
        return projection
    return group_of(projection) or "attention"


def _inputs(activity: Activity, rule: InputThreshold | InputTopK) -> _Counted:
    projection = activity.linears[rule.layer][rule.projection]
    return _Counted(
        rule.projection,
        "channels",
        projection.parameters * _experts_run(activity, group_of(rule.projection)),
        at=(rule.layer, site_of(rule.projection)),
        mask=lambda look: channels_read(rule, look.read_by(rule.projection), look.experts),
    )


def _neurons(activity: Activity, rule: NeuronThreshold | GateCutoff) -> _Counted:
    mlp = activity.mlps[rule.layer][rule.group]

    def mask(look: Look) -> Tensor:
        if isinstance(rule, NeuronThreshold):
            return neurons_computed(rule, look.activation, look.experts)
        return cut_gate(rule, look.gate, mlp.activation) != 0

    up = mlp.up.parameters if mlp.gate is not None else 0
    parameters = (up + mlp.down.parameters) * _experts_run(activity, rule.group)
    return _Counted(rule.group, "neurons", parameters, at=(rule.layer, rule.group), mask=mask)


def _kept_neurons(activity: Activity, rule: KeptNeurons) -> _Counted:
    mlp = activity.mlps[rule.layer][rule.group]
    each = sum(part.parameters for part in mlp.projections)
    experts = 1 if rule.expert is not None else _experts_run(activity, rule.group)
    count = _Count(len(rule.neurons), mlp.neurons)
    site = rule.group if rule.expert is None else f"{rule.group} {rule.expert}"
    return _Counted(site, "neurons", each * experts, count)


def _kept_heads(activity: Activity, rule: KeptHeads) -> _Counted:
    count = _Count(len(rule.heads), activity.subject.anatomy.heads)
    parameters = activity.linears[rule.layer]["attention_output"].parameters
    return _Counted("attention", "heads", parameters, count)


def _skipped_experts(activity: Activity, rule: SkippedExperts) -> _Counted:
    anatomy = activity.subject.anatomy
    if rule.mode == "mask":
        count = _Count(anatomy.experts - len(rule.experts), anatomy.experts)
        parameters = _expert_parameters(activity, rule.layer)
        return _Counted("expert", "experts", parameters, count, saves=False)
    off = chosen(rule.experts, anatomy.experts + 1)  # and an empty slot
    return _slots(activity, rule, lambda look: ~off.to(look.experts.device)[look.experts])


def _ratio(activity: Activity, rule: ExpertRatio) -> _Counted:
    return _slots(activity, rule, lambda look: experts_run(rule, look.input))


def _slots(activity: Activity, rule: Rule, mask: Callable[[Look], Tensor]) -> _Counted:
    parameters = _expert_parameters(activity, rule.layer)
    return _Counted("expert", "slots", parameters, at=(rule.layer, "router"), mask=mask)


def _keys(activity: Activity, rule: AttentionTopK) -> _Counted:
    return _Counted("attention", "keys", 0)


def _cache(activity: Activity, rule: CacheHeads) -> _Counted:
    """Of every query of every text, whatever its tokens are: what a cache holds is known."""
    counted, heads = _Counted("attention", "cache", 0), key_heads(activity, rule.layer)
    lengths = [len(own) for own in activity.texts.tokens]
    places = torch.arange(max(lengths))
    for start in range(0, len(places), QUERIES_AT_ONCE):
        queries = places[start : start + QUERIES_AT_ONCE]
        seen = places <= queries[:, None]
        kept = (positions_kept(rule, heads, queries, places) & seen).sum(dim=(0, 2))
        for query, held in zip(queries.tolist(), kept.tolist(), strict=True):
            texts = sum(length > query for length in lengths)
            counted.count.kept += texts * held
            counted.count.total += texts * heads * (query + 1)
    return counted


_COUNTED: dict[type[Rule], Callable[[Activity, Rule], _Counted]] = {
    InputThreshold: _inputs,
    InputTopK: _inputs,
    NeuronThreshold: _neurons,
    GateCutoff: _neurons,
    KeptNeurons: _kept_neurons,
    KeptHeads: _kept_heads,
    SkippedExperts: _skipped_experts,
    ExpertRatio: _ratio,
    AttentionTopK: _keys,
    CacheHeads: _cache,
}


def key_heads(activity: Activity, layer: int) -> int:
    """Heads of keys and values; each serves one query head or several.

    Parameters
    ----------
    activity : Activity
        Of the subject.
    layer : int
        A layer.

    Returns
    -------
    int
        How many.
    """
    heads, projections = activity.subject.anatomy.heads, activity.linears[layer]
    if "key" not in projections:  # latent attention makes keys for every head
        return heads
    return heads * projections["key"].outputs // projections["query"].outputs


def _experts_run(activity: Activity, group: str | None) -> int:
    return activity.subject.anatomy.top_k if group == "expert" else 1


def _expert_parameters(activity: Activity, layer: int) -> int:
    each = sum(part.parameters for part in activity.mlps[layer]["expert"].projections)
    return each * activity.subject.anatomy.top_k


@torch.inference_mode()
def _count_keys(activity: Activity, rules: list[tuple[Rule, _Counted]]) -> None:
    """Of the queries that count, the keys each attends to among those it may see."""
    by_layer = {rule.layer: (rule, own) for rule, own in rules if isinstance(rule, AttentionTopK)}
    if not by_layer:
        return
    model, current = activity.subject.model, []

    def observe(layer: int, attention: Attention) -> None:
        if layer not in by_layer:
            return
        rule, own = by_layer[layer]
        counted = current[0].counted.to(attention.query.device)
        for start in range(0, counted.shape[1], QUERIES_AT_ONCE):
            queries = slice(start, min(start + QUERIES_AT_ONCE, counted.shape[1]))
            # A logarithm of a weight is a score less a number of its query: the cut moves along.
            _, logs = weights_of(attention, queries)  # (batch, heads, queries, keys)
            real = counted[:, None, queries, None].expand_as(logs)
            seen = (logs > SEEN) & real
            attended = keys_attended(rule, logs.masked_fill(~seen, 0.0), seen)
            own.count.kept += int(attended.count_nonzero())
            own.count.total += int(seen.count_nonzero())

    with observed_attention(model, observe):
        for batch in activity.batches():
            current[:] = [batch]
            activity.run(batch)
