"""Capture: what one forward pass leaves behind, pooled at once by hooks that change nothing.

Every activation is reduced as soon as its layer has produced it, on the device where it is: only
pooled values, and what was asked for in full, outlive the layer and come to the processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from lmri.anatomy import Anatomy, Variable
from lmri.record.attention import Attention, summarise, value_norms
from lmri.record.layers import LayerParts, Place
from lmri.record.pooling import SUM, ExpertPools, Pooling, all_finite, pool_experts
from lmri.record.reductions import load_reductions, reads
from lmri.record.repeats import Repeats
from lmri.store import encode

HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}

EXTREMES = ("extremes/value", "extremes/dim", "extremes/median")
"""Largest dimensions of the residual, and the median of all, see :mod:`lmri.record.extremes`."""

ALWAYS_FULL = ("router/expert_id", "router/weight", *EXTREMES)
"""Recorded for every token whenever their quantity is recorded, and never pooled."""

EXPERT_NEURONS = "expert_neuron/activation"

RECEIVED = "received/attention"

SUMMARISED = ("attention/", "received/")
"""Begin the paths of what is read off the weights of attention."""

NEVER_POOLED = (*ALWAYS_FULL, "router/selection", EXPERT_NEURONS)
"""Ids and minus infinity have no mean; neurons of experts are pooled by expert."""


@dataclass(frozen=True)
class Batch:
    """Rows that are run together, padded on the right to one length.

    Attributes
    ----------
    ids : Tensor of shape (batch, tokens), int64
        Tokens; anything where padded.
    real : Tensor of shape (batch, tokens), bool
        Whether a token belongs to the row.
    masks : Tensor of shape (batch, n_phases, tokens), bool
        Tokens of each phase; none is padding.
    content : Tensor of shape (batch, tokens), bool
        Tokens of the content.
    """

    ids: torch.Tensor
    real: torch.Tensor
    masks: torch.Tensor
    content: torch.Tensor

    @property
    def padded(self) -> bool:
        """Whether any row is shorter than the longest."""
        return not bool(self.real.all())


@dataclass(frozen=True)
class ExpertStorage:
    """How neurons of experts are kept.

    Attributes
    ----------
    full : bool
        For every token; otherwise pooled.
    reason : str
        Why, for the attributes of their arrays.
    """

    full: bool
    reason: str


@dataclass
class Capture:
    """Activity of one forward pass over a batch.

    Attributes
    ----------
    anatomy : Anatomy
        Of the subject.
    variables : dict of str to Variable
        What is captured, by path.
    full : frozenset of str
        Paths of variables that are kept for every token.
    batch : Batch or None
        What is run next; set by :meth:`begin`.
    pooled, tokens : dict of str to dict
        By path and place: (batch, n_phases, n_statistics, ...) float32; (n_tokens, ...) of the
        rows one after another, without padding, in the type they are stored in. Valid until the
        next batch, whose activity is written over them.
    expert_pools : dict of int to ExpertPools
        By layer: neurons of experts, pooled by trial, phase and expert.
    non_finite : list of (str, tuple of int, list of int)
        Path, place and rows of the batch of activity that is not finite.
    experts_full : bool or None
        Whether neurons of experts are kept for every token or pooled; None does both, so that
        it can be seen which is smaller.
    collected : dict of str to dict, or None
        While a response is generated, see :meth:`collect`: by path and place the activity of
        every pass, (batch, n_new, ...).
    """

    anatomy: Anatomy
    variables: dict[str, Variable]
    full: frozenset[str]
    batch: Batch | None = None
    pooled: dict[str, LayerParts] = field(default_factory=dict)
    tokens: dict[str, LayerParts] = field(default_factory=dict)
    expert_pools: dict[int, ExpertPools] = field(default_factory=dict)
    non_finite: list[tuple[str, Place, list[int]]] = field(default_factory=list)
    experts_full: bool | None = None
    collected: dict[str, dict[Place, list[torch.Tensor]]] | None = None
    _repeats: Repeats | None = None
    _poolings: dict[torch.device, Pooling] = field(default_factory=dict)
    _lengths: list[int] = field(default_factory=list)
    _memory: dict[tuple[str, str], LayerParts] = field(default_factory=dict)

    def begin(self, batch: Batch) -> None:
        """Forget the last pass and say what the next one runs.

        Parameters
        ----------
        batch : Batch
            The rows.
        """
        self.batch = batch
        self._poolings = {}
        self._lengths = batch.real.sum(1).tolist()
        for parts in self._memory.values():
            parts.clear()
        for part in (self.pooled, self.tokens, self.expert_pools, self.non_finite):
            part.clear()
        if any(path.startswith(SUMMARISED) for path in self.variables):
            self._repeats = Repeats(batch.ids.masked_fill(~batch.real, -1), batch.content)

    def collect(self, batch: Batch, past: Batch | None) -> None:
        """Say what the next pass of a generation runs; nothing is pooled before the last one.

        Phases are known when a response is complete, so the activity of all its passes is held
        until :meth:`settle`.

        Parameters
        ----------
        batch : Batch
            The new tokens; its masks are not used.
        past : Batch or None
            All tokens before them; None begins a generation.
        """
        if past is None:
            self.collected = {}
        self.batch = batch
        if any(path.startswith(SUMMARISED) for path in self.variables):
            before = 0 if past is None else past.ids.shape[1]
            parts = [batch] if past is None else [past, batch]
            ids = torch.cat([part.ids for part in parts], 1)
            content = torch.cat([part.content for part in parts], 1)
            self._repeats = Repeats(ids, content, before)

    def settle(self, batch: Batch) -> None:
        """Pool and keep what the passes of a generation left behind.

        Parameters
        ----------
        batch : Batch
            All tokens that were run, on the processor.
        """
        collected, self.collected = self.collected, None
        self.begin(batch)
        experts = collected.pop(EXPERT_NEURONS, {})
        for path, places in collected.items():
            for place, parts in places.items():
                self.keep(path, place, torch.cat(parts, 1))
        for place, parts in experts.items():
            ids = torch.cat(collected["router/expert_id"][place], 1)
            self.keep_experts(place[0], torch.cat(parts, 1).flatten(0, 1), ids.flatten(0, 1))

    def keep(self, path: str, place: Place, values: torch.Tensor) -> None:
        """Pool a variable of one layer, and keep its tokens if they are asked for in full.

        Parameters
        ----------
        path : str
            Of the variable.
        place : tuple of int
            Layer, and place if the variable has places.
        values : Tensor of shape (batch, tokens, ...)
            The activity.
        """
        if self.collected is not None:
            places = self.collected.setdefault(path, {})
            places.setdefault(place, []).append(values.to("cpu", copy=True))
            return
        self._keep_tokens(path, place, values)
        if path not in NEVER_POOLED:
            self._keep_pooled(path, place, values)

    def keep_experts(self, layer: int, neurons: torch.Tensor, ids: torch.Tensor) -> None:
        """Pool or keep the neurons of chosen experts.

        Parameters
        ----------
        layer : int
            The layer.
        neurons : Tensor of shape (batch * tokens, top_k, expert_size)
            In the order of the router's slots.
        ids : Tensor of shape (batch * tokens, top_k)
            The chosen experts.
        """
        if self.collected is not None or self.experts_full is not False:
            rows = neurons.unflatten(0, self.batch.ids.shape)
            self.keep(EXPERT_NEURONS, (layer,), rows)
        if self.collected is None and self.experts_full is not True:
            masks = self.batch.masks.to(neurons.device)
            pools = pool_experts(neurons, ids.to(neurons.device), masks, self.anatomy.experts)
            self.expert_pools[layer] = pools

    def expert_bytes(self) -> tuple[int, int]:
        """Count what neurons of experts took in the last pass, which must have kept them both ways.

        Returns
        -------
        full, pooled : int
            Bytes, before compression.
        """
        full = self.variables[EXPERT_NEURONS].bytes_per_token * int(self.batch.real.sum())
        pools = self.expert_pools.values()
        return full, sum(p.total.nbytes + p.squares.nbytes + 13 * len(p.row) for p in pools)

    def summarise_attention(self, layer: int, attention: Attention) -> None:
        """Keep the summaries of one layer's attention.

        Parameters
        ----------
        layer : int
            The layer.
        attention : Attention
            What its attention function was called with.
        """
        if "head/value_norm" in self.variables:
            self.keep("head/value_norm", (layer,), value_norms(attention))
        if self._repeats is not None:
            received = RECEIVED in self.variables
            repeats = self._repeats.on(attention.query.device)
            found = summarise(attention, repeats, received=received)
            asked = {f"attention/{name}": values for name, values in found.items()}
            if received:
                asked[RECEIVED] = found["received"]
            asked = {path: values for path, values in asked.items() if path in self.variables}
            if self.collected is not None:
                for path, values in asked.items():
                    self.keep(path, (layer,), values)
                return
            # Together: each is small, and pooling has its price for every call.
            together = torch.stack(list(asked.values()), 2)
            pooling = self._pooling_of(together)
            pooled = together.new_empty((*pooling.shape, *together.shape[2:]))
            finite = pooling.fill(together, pooled)
            for (path, values), own in zip(asked.items(), pooled.unbind(3), strict=True):
                self._keep_tokens(path, (layer,), values)
                kept = self._parts(self.pooled, path).part((layer,), own.shape[:3], own.dtype)
                kept.copy_(own)
                if not finite:
                    self._note_non_finite(path, (layer,), kept)

    def repeat(self, path: str, place: Place, earlier: Place) -> None:
        """Keep for one place what is kept for an earlier one: it is the same activity.

        Parameters
        ----------
        path : str
            Of the variable.
        place, earlier : tuple of int
            Layer and place.
        """
        for kind, lead in ((self.pooled, 3), (self.tokens, 1)):
            if path in kind and earlier in kind[path]:
                own = kind[path][earlier]
                kind[path].part(place, own.shape[:lead], own.dtype).copy_(own)

    def _keep_tokens(self, path: str, place: Place, values: torch.Tensor) -> None:
        if path not in self.full and path != EXPERT_NEURONS:
            return
        stored = self.variables[path].dtype if values.is_floating_point() else ""
        kept = self._parts(self.tokens, path).part(
            place, torch.Size([sum(self._lengths)]), HALF.get(stored, values.dtype)
        )
        # Copied: what comes later in the pass may change a tensor in place.
        if not self._fitted(values, kept):
            # Raises where a finite value does not fit.
            rows = self._real_tokens(values)
            encode(rows.float().cpu().numpy(), stored, f"'tokens/{path}'")

    def _fitted(self, values: torch.Tensor, kept: torch.Tensor) -> bool:
        """Copy rows without their padding, and tell whether all that was narrowed is finite.

        False also where finite values have a sum that is not: then look at each.
        """
        if values.device != kept.device:
            kept.copy_(self._real_tokens(values))
            return kept.dtype == values.dtype or all_finite(kept)
        if kept.dtype == torch.float16 and (reductions := load_reductions()):
            features = math.prod(kept.shape[1:])
            flat = values.reshape(*values.shape[:2], features)
            if reads(flat):
                return reductions.narrow(flat, self._lengths, kept.view(len(kept), features))
        # Row by row: gathered first, every value would be moved twice.
        for own, row in zip(kept.split(self._lengths), values, strict=True):
            own.copy_(row[: len(own)])
        return kept.dtype == values.dtype or all_finite(kept)

    def _real_tokens(self, values: torch.Tensor) -> torch.Tensor:
        return torch.cat([row[:n] for row, n in zip(values, self._lengths, strict=True)])

    def _keep_pooled(self, path: str, place: Place, values: torch.Tensor) -> None:
        pooling = self._pooling_of(values)
        kept = self._parts(self.pooled, path).part(place, pooling.shape, torch.float32)
        made = kept
        if values.device != kept.device:
            made = torch.empty(kept.shape, device=values.device)
        finite = pooling.fill(values, made)
        if made is not kept:
            kept.copy_(made)
        if not finite:
            self._note_non_finite(path, place, kept)

    def _pooling_of(self, values: torch.Tensor) -> Pooling:
        """Pooling on the device of some values: a model's layers may lie on several."""
        if values.device not in self._poolings:
            self._poolings[values.device] = Pooling(self.batch.masks.to(values.device))
        return self._poolings[values.device]

    def _note_non_finite(self, path: str, place: Place, pooled: torch.Tensor) -> None:
        finite = torch.isfinite(pooled[:, :, SUM]).flatten(1).all(1)
        if not finite.all():
            self.non_finite.append((path, place, (~finite).nonzero().flatten().tolist()))

    def _parts(self, kind: dict[str, LayerParts], path: str) -> LayerParts:
        if path not in kind:
            key = "pooled" if kind is self.pooled else "tokens", path
            if key not in self._memory:
                self._memory[key] = LayerParts(self.variables[path])
            kind[path] = self._memory[key]
        return kind[path]
