"""Plans as arrays, so that rows of one batch can follow different plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from lmri.anatomy import Anatomy
from lmri.intervene.plans import ADJUST, Plan, check_plan
from lmri.intervene.units import KINDS

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
        One of :data:`lmri.intervene.rules.RULES`; ``mean`` and ``zero`` share a table.
    layer : int
        The layer.
    """

    row_of: torch.Tensor
    chosen: torch.Tensor
    values: torch.Tensor
    mode: str = "mean"
    layer: int = 0

    def to(self, device: torch.device) -> UnitTable:
        """Put the table where the activity is."""
        own = self.row_of.to(device), self.chosen.to(device), self.values.to(device)
        return UnitTable(*own, self.mode, self.layer)

    def part(self, channels: slice) -> UnitTable:
        """Only some channels."""
        return replace(self, chosen=self.chosen[:, channels], values=self.values[..., channels])


@dataclass(frozen=True)
class CompiledPlans:
    """Plans as arrays, so that rows of one batch can follow different plans.

    Attributes
    ----------
    masks : dict of str to dict of int to Tensor
        Of experts, by mode and layer: bool tensor of shape (n_plans, experts). Modes and layers
        that no plan touches are left out.
    tables : dict of str to dict of int to UnitTable
        Of other units that are set to zero or a mean, by kind and layer; those that no plan touches
        are left out.
    changes : dict of str to list of UnitTable
        Of units in other modes, by kind.
    alike : dict of int to Tensor of shape (n_plans, heads), bool
        Heads in the mode ``uniform``, by layer.
    """

    masks: dict[str, dict[int, torch.Tensor]]
    tables: dict[str, dict[int, UnitTable]] = field(default_factory=dict)
    changes: dict[str, list[UnitTable]] = field(default_factory=dict)
    alike: dict[int, torch.Tensor] = field(default_factory=dict)

    def of(self, kind: str) -> list[UnitTable]:
        """All tables of a kind."""
        return [*self.tables.get(kind, {}).values(), *self.changes.get(kind, [])]

    def at(self, mode: str, layer: int) -> torch.Tensor | None:
        """Mask of experts of a mode in a layer, or None."""
        return self.masks.get(mode, {}).get(layer)

    def touches(self, layer: int) -> bool:
        """Whether any plan does anything to the experts of a layer."""
        return any(layer in layers for layers in self.masks.values())


def compile_plans(plans: Sequence[Plan], anatomy: Anatomy) -> CompiledPlans:
    """Check plans and turn them into arrays.

    Parameters
    ----------
    plans : sequence of Plan
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
    tables, changes = {}, {}
    for kind in (kind for kind in KINDS if kind != "expert"):
        own = {i: plan for i, plan in enumerate(plans) if plan.kind == kind and plan.units}
        set_ = {i: plan for i, plan in own.items() if plan.mode in SETS}
        if set_:
            tables[kind] = {t.layer: _flat(t) for t in _tables(kind, "mean", set_, plans, anatomy)}
        for mode, depth in sorted({(plan.mode, _depth(plan, anatomy)) for plan in own.values()}):
            alike = {i: p for i, p in own.items() if (p.mode, _depth(p, anatomy)) == (mode, depth)}
            if mode not in (*SETS, "uniform"):
                changes.setdefault(kind, []).extend(_tables(kind, mode, alike, plans, anatomy))
    heads = _marked(plans, "head", "uniform", anatomy.heads)
    return CompiledPlans(_masks(plans, anatomy), tables, changes, heads)


def _flat(table: UnitTable) -> UnitTable:
    return replace(table, values=table.values[:, 0])


def _depth(plan: Plan, anatomy: Anatomy) -> int:
    """Numbers of a channel that a plan brings along."""
    if plan.mode == "adjust":
        return ADJUST
    if plan.mode in ("clamp", "resample"):
        return len(plan.values[0]) // KINDS[plan.kind].width(anatomy)
    return 1


def _numbers(plan: Plan, width: int) -> list[torch.Tensor]:
    """Of every unit, (depth, width)."""
    if plan.mode in ("zero", "flip"):
        return [torch.full((1, width), {"zero": 0.0, "flip": -1.0}[plan.mode])] * len(plan.units)
    if plan.mode == "gain":
        return [torch.full((1, width), value[0]) for value in plan.values]
    return [torch.tensor(value).view(-1, width) for value in plan.values]


def _masks(plans: Sequence[Plan], anatomy: Anatomy) -> dict[str, dict[int, torch.Tensor]]:
    modes = dict.fromkeys(plan.mode for plan in plans if plan.kind == "expert" and plan.units)
    return {mode: _marked(plans, "expert", mode, anatomy.experts) for mode in modes}


def _marked(plans: Sequence[Plan], kind: str, mode: str, count: int) -> dict[int, torch.Tensor]:
    """Units (layer, number) that plans of a kind and mode name: by layer (n_plans, count)."""
    layers: dict[int, torch.Tensor] = {}
    for index, plan in enumerate(plans):
        if (plan.kind, plan.mode) != (kind, mode):
            continue
        for layer, number in plan.units:
            if layer not in layers:
                layers[layer] = torch.zeros(len(plans), count, dtype=torch.bool)
            layers[layer][index, number] = True
    return layers


Settings = tuple[list[int], list[torch.Tensor]]
"""Positions of units in their group, and the numbers of each."""


def _tables(
    kind: str, mode: str, own: dict[int, Plan], plans: Sequence[Plan], anatomy: Anatomy
) -> list[UnitTable]:
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
    shape = len(plans), anatomy.experts if kind == "expert_neuron" else 1
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
