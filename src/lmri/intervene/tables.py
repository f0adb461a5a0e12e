"""Plans as arrays, so that rows of one batch can follow different plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from lmri.anatomy import Anatomy
from lmri.intervene.plan_checks import check_plan
from lmri.intervene.plans import ADJUST, AnyPlan, Plan
from lmri.intervene.units import KINDS, PATTERN_MODES

SETS = ("zero", "mean")
"""Modes that set units to one value each and share a table."""


@dataclass(frozen=True)
class UnitTable:
    """What plans do to the units of one place: of a layer, or of all experts of a layer.

    Attributes
    ----------
    row_of : Tensor of shape (n_plans, n_groups), int64
        Row of a plan in the arrays below, for each expert of a layer or in one group for the whole
        layer; row 0 changes nothing.
    chosen : Tensor of shape (n_rows, channels), bool
        Channels that are changed. A unit is as many neighbouring ones as its kind is wide.
    values : Tensor of shape (n_rows, channels) or (n_rows, depth, channels), float32
        What they are set to; with ``depth`` where a mode has several numbers of a channel.
    mode : str
        One of :data:`lmri.intervene.rules.RULES`, ``void`` or ``ablate``; ``mean`` and ``zero``
        share a table.
    layer : int
        The layer.
    phase : str
        One of :data:`lmri.intervene.plans.PHASES`.
    """

    row_of: torch.Tensor
    chosen: torch.Tensor
    values: torch.Tensor
    mode: str = "mean"
    layer: int = 0
    phase: str = "both"

    def to(self, device: torch.device) -> UnitTable:
        """Put the table where the activity is."""
        own = self.row_of.to(device), self.chosen.to(device), self.values.to(device)
        return UnitTable(*own, self.mode, self.layer, self.phase)

    def part(self, channels: slice) -> UnitTable:
        """Only some channels."""
        return replace(self, chosen=self.chosen[:, channels], values=self.values[..., channels])


@dataclass(frozen=True)
class ExpertTable:
    """What plans do to the experts of a layer, or to where its heads look.

    Attributes
    ----------
    mode, phase : str
        Mode and phase of the plans.
    layer : int
        The layer.
    chosen : Tensor of shape (n_plans, units), bool
        Experts or heads that are named.
    values : Tensor of shape (n_plans, units, depth) or None
        Their numbers, where the mode has any.
    """

    mode: str
    phase: str
    layer: int
    chosen: torch.Tensor
    values: torch.Tensor | None = None


@dataclass(frozen=True)
class CompiledPlans:
    """Plans as arrays, so that rows of one batch can follow different plans.

    Attributes
    ----------
    masks : dict of str to dict of int to Tensor
        Of experts, by mode and layer: bool tensor of shape (n_plans, experts). Modes and layers
        that no plan touches are left out, and so are plans that act in a phase only, or by numbers.
    tables : dict of str to dict of int to UnitTable
        Of other units that are set to zero or a mean at all tokens, by kind and layer; those that
        no plan touches are left out.
    changes : dict of str to list of UnitTable
        Of units in other modes or phases, by kind, in the order of the parts of their plans.
    routed : list of ExpertTable
        Of experts in a phase only, and their gains.
    looking : list of ExpertTable
        Of heads whose pattern is changed.
    """

    masks: dict[str, dict[int, torch.Tensor]]
    tables: dict[str, dict[int, UnitTable]] = field(default_factory=dict)
    changes: dict[str, list[UnitTable]] = field(default_factory=dict)
    routed: list[ExpertTable] = field(default_factory=list)
    looking: list[ExpertTable] = field(default_factory=list)

    def of(self, kind: str) -> list[UnitTable]:
        """All tables of a kind."""
        return [*self.tables.get(kind, {}).values(), *self.changes.get(kind, [])]

    def at(self, mode: str, layer: int) -> torch.Tensor | None:
        """Mask of experts of a mode in a layer at all tokens, or None."""
        return self.masks.get(mode, {}).get(layer)

    def routed_at(self, mode: str, layer: int) -> list[ExpertTable]:
        """Tables of experts of a mode in a layer, in a phase or by numbers."""
        return [own for own in self.routed if (own.mode, own.layer) == (mode, layer)]

    def touches(self, layer: int) -> bool:
        """Whether any plan does anything to the experts of a layer."""
        at_all_tokens = any(layer in layers for layers in self.masks.values())
        return at_all_tokens or any(own.layer == layer for own in self.routed)


def compile_plans(plans: Sequence[AnyPlan], anatomy: Anatomy) -> CompiledPlans:
    """Check plans and turn them into arrays.

    Parameters
    ----------
    plans : sequence of Plan or Combined
        The plans; a row refers to one by its position.
    anatomy : Anatomy
        Of the subject.

    Returns
    -------
    CompiledPlans
        The arrays.
    """
    for plan in plans:
        check_plan(plan, anatomy)
    masks: dict[str, dict[int, torch.Tensor]] = {}
    compiled = CompiledPlans(masks)
    # The first part of every plan, then the second: tables are in the order of the parts.
    for rank in range(max((len(plan.parts) for plan in plans), default=0)):
        parts = {i: plan.parts[rank] for i, plan in enumerate(plans) if len(plan.parts) > rank}
        parts = {i: part for i, part in parts.items() if part.units}
        for own in _alike(parts, anatomy):
            _add(compiled, own, len(plans), anatomy, first=rank == 0)
    return compiled


Parts = dict[int, Plan]
"""Parts of plans by the position of their plan."""


def _alike(parts: Parts, anatomy: Anatomy) -> list[Parts]:
    """Parts that share a table: of one kind, mode, phase and depth; first kinds in their order."""

    def key(part: Plan) -> tuple:
        mode = "mean" if part.mode in SETS and part.kind != "expert" else part.mode
        return list(KINDS).index(part.kind), mode, _depth(part, anatomy), part.phase

    found: dict[tuple, Parts] = {}
    for index, part in parts.items():
        found.setdefault(key(part), {})[index] = part
    return [found[own] for own in sorted(found)]


def _add(
    compiled: CompiledPlans, own: Parts, n_plans: int, anatomy: Anatomy, *, first: bool
) -> None:
    part = next(iter(own.values()))
    kind, mode, phase = part.kind, part.mode, part.phase
    if kind == "expert" and mode != "gain" and phase == "both":
        layers = compiled.masks.setdefault(mode, {})
        for layer, marked in _marked(own, n_plans, anatomy.experts).items():
            layers[layer] = marked | layers.get(layer, False)
    elif kind == "expert" or mode in PATTERN_MODES:
        count = anatomy.experts if kind == "expert" else anatomy.heads
        found = compiled.routed if kind == "expert" else compiled.looking
        for layer, marked in _marked(own, n_plans, count).items():
            found.append(ExpertTable(mode, phase, layer, marked, _numbers_at(own, layer, marked)))
    elif mode in SETS:
        tables = [_flat(table) for table in _tables(kind, "mean", own, n_plans, anatomy)]
        if first and phase == "both":
            compiled.tables[kind] = {table.layer: table for table in tables}
        else:
            own_ = (replace(table, phase=phase) for table in tables)
            compiled.changes.setdefault(kind, []).extend(own_)
    else:
        tables = _tables(kind, mode, own, n_plans, anatomy)
        own_ = (replace(table, phase=phase) for table in tables)
        compiled.changes.setdefault(kind, []).extend(own_)


def _flat(table: UnitTable) -> UnitTable:
    return replace(table, values=table.values[:, 0])


def _depth(plan: Plan, anatomy: Anatomy) -> int:
    """Numbers of a channel that a plan brings along; of experts and patterns, of a unit."""
    if plan.mode == "adjust":
        return ADJUST
    if plan.mode in ("clamp", "resample", "ablate"):
        return len(plan.values[0]) // KINDS[plan.kind].width(anatomy)
    return len(plan.values[0]) if plan.mode == "pattern" else 1


def _numbers(plan: Plan, width: int) -> list[torch.Tensor]:
    """Of every unit, (depth, width)."""
    if plan.mode in ("zero", "flip"):
        return [torch.full((1, width), {"zero": 0.0, "flip": -1.0}[plan.mode])] * len(plan.units)
    if plan.mode in ("gain", "void"):
        return [torch.full((1, width), value[0]) for value in plan.values]
    found = [torch.tensor(value).view(-1, width) for value in plan.values]
    return [_origin_and_basis(own) for own in found] if plan.mode == "ablate" else found


def _origin_and_basis(sets: torch.Tensor) -> torch.Tensor:
    """Make directions orthonormal; one that adds nothing to those before it becomes 0."""
    _, sizes, rows = torch.linalg.svd(sets[1:].double(), full_matrices=False)
    spanned = sizes > sizes.max() * max(sets.shape) * torch.finfo(torch.float32).eps
    basis = rows * spanned.unsqueeze(1)
    padded = torch.zeros_like(sets[1:]).double()
    padded[: len(basis)] = basis
    return torch.cat([sets[:1], padded.to(sets.dtype)])


def _marked(own: Parts, n_plans: int, count: int) -> dict[int, torch.Tensor]:
    """Units (layer, number) that parts name: by layer (n_plans, count)."""
    layers: dict[int, torch.Tensor] = {}
    for index, part in own.items():
        for layer, number in part.units:
            if layer not in layers:
                layers[layer] = torch.zeros(n_plans, count, dtype=torch.bool)
            layers[layer][index, number] = True
    return layers


def _numbers_at(own: Parts, layer: int, marked: torch.Tensor) -> torch.Tensor | None:
    """Numbers of the units of a layer, (n_plans, units, depth); None of a mode without any."""
    depth = max(len(value) for part in own.values() for value in (part.values or ((),)))
    if not depth:
        return None
    numbers = torch.zeros(*marked.shape, depth)
    for index, part in own.items():
        for (at, unit), value in zip(part.units, part.values, strict=True):
            if at == layer:
                numbers[index, unit] = torch.tensor(value)
    return numbers


Settings = tuple[list[int], list[torch.Tensor]]
"""Positions of units in their group, and the numbers of each."""


def _tables(kind: str, mode: str, own: Parts, n_plans: int, anatomy: Anatomy) -> list[UnitTable]:
    """Tables of plans, one a layer. Only (plan, group) pairs that change something take a row."""
    by_layer: dict[int, dict[tuple[int, int], Settings]] = {}
    width = KINDS[kind].width(anatomy)
    for index, plan in own.items():
        for (layer, *within), value in zip(plan.units, _numbers(plan, width), strict=True):
            group, place = (0, 0, *within)[-2:]
            rows = by_layer.setdefault(layer, {})
            places, numbers = rows.setdefault((index, group), ([], []))
            places.append(place)
            numbers.append(value)
    shape = n_plans, anatomy.experts if kind == "expert_neuron" else 1
    size = KINDS[kind].channels(anatomy)
    return [replace(_table(r, shape, size), mode=mode, layer=at) for at, r in by_layer.items()]


def _table(rows: dict[tuple[int, int], Settings], shape: tuple[int, int], size: int) -> UnitTable:
    depth, width = next(iter(rows.values()))[1][0].shape
    row_of = torch.zeros(shape, dtype=torch.int64)
    chosen = torch.zeros(len(rows) + 1, size, dtype=torch.bool)
    values = torch.zeros(len(rows) + 1, depth, size)
    for row, (key, (places, numbers)) in enumerate(rows.items(), start=1):
        row_of[key] = row
        chosen[row].view(-1, width)[places] = True
        values[row].view(depth, -1, width)[:, places] = torch.stack(numbers, dim=1)
    return UnitTable(row_of, chosen, values)
