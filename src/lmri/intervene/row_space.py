"""Whether an intervention on directions acts through what reads them, or opens a dormant path.

Moving the residual along a direction ``v`` may act although the activity that it stands for does
not: its part in the null space of all weights that read the residual moves with the data, its part
in their row space does nothing on its own, and together they look like the mechanism. So the
effect of the whole is set beside the effects of both parts.

Source: Makelov et al., Is this the subspace you are looking for? (arXiv 2311.17030).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from lmri.anatomy import (
    Subject,
    attention_outputs,
    blocks,
    dense_outputs,
    expert_groups,
    routers,
    shared_outputs,
)
from lmri.errors import LmriError
from lmri.intervene.plan_checks import check_plan
from lmri.intervene.plans import Plan
from lmri.intervene.units import DIRECTION_MODES, Unit

LEAST_KEPT = 0.5
"""Share of its effect that a faithful direction keeps without its part in the null space.

Published: .29 for an illusory direction, .91 for a faithful one.
"""

LEAST_PART = 1e-6
"""Length below which a part of a direction of length 1 is rounding."""

SMALLEST = 1e-12
"""Share of the largest eigenvalue of ``W^T W`` that is rounding."""


@dataclass(frozen=True)
class RowSpaceReport:
    """An intervention on directions taken apart by the weights that read them.

    Attributes
    ----------
    width : int
        Dimensions of the residual.
    rank : int
        Of the read-out: the smallest of any site.
    row_norm, null_norm : float
        Lengths of the parts in the row space and in the null space of directions of length 1 (root
        mean square over directions).
    effect, row_effect, null_effect : float
        Effects of the intervention and of each part alone; 0 for a part that is not there.
    kept : float or None
        ``row_effect / effect``; None where the effect is too small to be taken apart.
    null_ratio : float or None
        ``null_effect / effect``.
    illusory : bool or None
        Whether less than :data:`LEAST_KEPT` is kept.
    """

    width: int
    rank: int
    row_norm: float
    null_norm: float
    effect: float
    row_effect: float
    null_effect: float
    kept: float | None
    null_ratio: float | None
    illusory: bool | None

    def record(self) -> dict:
        """Data of JSON, by the names of the attributes."""
        return asdict(self)


def row_space_report(
    subject: Subject, plan: Plan, effect: Callable[[Plan], float], least_effect: float = 0.0
) -> RowSpaceReport:
    """Take an intervention on directions apart and compare the effects of its parts.

    A vector that is added falls into ``v = v_row + v_null``, and each is added alone. Of a subspace
    that is ablated, each part is made orthonormal again, as in the published patches.

    Parameters
    ----------
    subject : Subject
        The subject.
    plan : Plan
        Of mode ``add`` or ``ablate``.
    effect : callable
        From a plan to its effect, any number that is 0 without one: for example the fall of the
        mean margin on calibration trials. Called up to three times.
    least_effect : float
        Size of the effect below which there is nothing to take apart.

    Returns
    -------
    RowSpaceReport
        The parts, their effects, and whether the intervention is an illusion.

    Raises
    ------
    LmriError
        If the plan is none on directions, names no site, has a vector of 0, or cannot be carried
        out.
    """
    check_plan(plan, subject.anatomy)
    if plan.mode not in DIRECTION_MODES or not plan.units:
        raise LmriError(
            f"A row-space report must be of a plan of mode {' or '.join(DIRECTION_MODES)} with a "
            f"site. Got the mode '{plan.mode}' on {len(plan.units)} units."
        )
    rows, nulls, ranks, shares = {}, {}, [], []
    for unit, value in zip(plan.units, plan.values, strict=True):
        basis = read_out(subject, unit[0], subject.anatomy.places[unit[1]])
        parts = _added if plan.mode == "add" else _ablated
        rows[unit], nulls[unit], share = parts(np.array(value), basis, unit)
        ranks.append(len(basis))
        shares += share
    whole = float(effect(plan))
    row_effect, null_effect = (
        float(effect(_part(plan, part))) if any(len(own) for own in part.values()) else 0.0
        for part in (rows, nulls)
    )
    told = abs(whole) > 0 and abs(whole) >= least_effect
    row_share = float(np.mean(shares))
    return RowSpaceReport(
        width=subject.anatomy.hidden,
        rank=min(ranks),
        row_norm=float(np.sqrt(row_share)),
        null_norm=float(np.sqrt(max(0.0, 1 - row_share))),
        effect=whole,
        row_effect=row_effect,
        null_effect=null_effect,
        kept=row_effect / whole if told else None,
        null_ratio=null_effect / whole if told else None,
        illusory=row_effect / whole < LEAST_KEPT if told else None,
    )


Parts = tuple[np.ndarray, np.ndarray, list[float]]
"""Values of the row-space and of the null-space part, empty for none, and shares of the former."""


def _added(vector: np.ndarray, basis: np.ndarray, unit: Unit) -> Parts:
    length = np.linalg.norm(vector)
    _check_length(length, unit)
    row = vector @ basis.T @ basis
    null = vector - row
    kept = [own if np.linalg.norm(own) > LEAST_PART * length else own[:0] for own in (row, null)]
    return *kept, [float(np.linalg.norm(row) / length) ** 2]


def _ablated(values: np.ndarray, basis: np.ndarray, unit: Unit) -> Parts:
    origin, *directions = values.reshape(-1, basis.shape[1])
    lengths = np.linalg.norm(directions, axis=1)
    _check_length(lengths.min(), unit)
    whole, row, null = split_directions(np.array(directions) / lengths[:, None], basis)
    shares = list(np.square(whole @ basis.T).sum(1))
    row, null = (np.concatenate([origin, *own]) if len(own) else own for own in (row, null))
    return row, null, shares


def _check_length(length: float, unit: Unit) -> None:
    if length == 0:
        raise LmriError(
            "A row-space report must have directions that are not 0. "
            f"Got one of length 0 in layer {unit[0]}."
        )


def _part(plan: Plan, values: dict[Unit, np.ndarray]) -> Plan:
    units = [unit for unit in plan.units if len(values[unit])]
    return Plan.of(plan.mode, units, plan.kind, values, plan.phase)


def split_directions(
    directions: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take directions apart by what reads them.

    Parameters
    ----------
    directions : ndarray of shape (n, width)
        The directions, of any length.
    basis : ndarray of shape (rank, width)
        Orthonormal basis of the row space of the read-out.

    Returns
    -------
    whole, row, null : ndarray of shape (at most n, width)
        Orthonormal directions that span them, their parts in the row space, and those in the null
        space; none where a part is 0.
    """
    whole = _orthonormal(directions)
    row = whole @ basis.T @ basis
    return whole, _orthonormal(row), _orthonormal(whole - row)


def _orthonormal(directions: np.ndarray) -> np.ndarray:
    _, sizes, rows = np.linalg.svd(directions, full_matrices=False)
    return rows[sizes > LEAST_PART]


def read_out(subject: Subject, layer: int, place: str) -> np.ndarray:
    """Orthonormal basis of what reads the residual at a place or later.

    Gains of normalisations are taken not to be 0. The projection to the vocabulary comes first:
    where it reads everything, as in nearly every model, nothing else can add to it, and there is no
    null space. The slope of a metric will not do: it is one row, and its part of any direction
    always has the full effect.

    Parameters
    ----------
    subject : Subject
        The subject.
    layer : int
        The layer.
    place : str
        One of the places of the anatomy.

    Returns
    -------
    ndarray of shape (rank, hidden), float64
        The basis.
    """
    hidden = subject.anatomy.hidden
    gram = torch.zeros(hidden, hidden, dtype=torch.float64)
    first = layer if place == "before" else layer + 1
    readers = [[subject.model.get_output_embeddings().weight]]
    readers.append(_later(subject.model, first, layer if place == "mid" else None, hidden))
    for group in readers:
        for weight in group:
            rows = weight.detach().double().cpu()
            gram += rows.T @ rows
        values, vectors = torch.linalg.eigh(gram)
        basis = vectors[:, values > values.max() * SMALLEST].T
        if len(basis) == hidden:
            break
    return basis.numpy()


def _later(model: nn.Module, first: int, half: int | None, hidden: int) -> Iterator[torch.Tensor]:
    """Matrices (outputs, hidden) of blocks from the first on that read the residual.

    Of a block of which only the MLP comes after the site (``half``), those of its attention are
    left out.
    """
    written = [attention_outputs(model), dense_outputs(model), shared_outputs(model)]
    writers = {id(module) for found in written for module in found.values()}
    groups, choosers = expert_groups(model), routers(model)
    for number, block in enumerate(blocks(model)):
        if number < first and number != half:
            continue
        for name, module in block.named_modules():
            attends = "attn" in name or "attention" in name
            if id(module) in writers or (number == half and attends):
                continue
            weight = getattr(module, "weight", None)
            if isinstance(module, nn.Linear) and weight.shape[1] == hidden:
                yield weight
            elif type(module).__name__ == "Conv1D" and weight.shape[0] == hidden:
                yield weight.T
        if number in groups:
            yield _last_is(groups[number].gate_up_proj, hidden).reshape(-1, hidden)
            if not isinstance(choosers[number], nn.Linear) and hasattr(choosers[number], "weight"):
                yield choosers[number].weight.reshape(-1, hidden)


def _last_is(weights: torch.Tensor, hidden: int) -> torch.Tensor:
    """Fused experts with the inputs as their last dimension."""
    return weights if weights.shape[-1] == hidden else weights.transpose(1, 2)
