"""What a plan may hold, by itself and for one subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral, Real

import torch
from torch import Tensor

from lmri.anatomy import Anatomy
from lmri.checks import check_choice, shortened
from lmri.errors import SparseError
from lmri.intervene import OFF_MODES
from lmri.sparse.plan import DENOMINATORS, SparsePlan
from lmri.sparse.rules import (
    CUTOFFS,
    GROUPS,
    PROJECTIONS,
    AttentionTopK,
    CacheHeads,
    ExpertRatio,
    GateCutoff,
    InputThreshold,
    InputTopK,
    Rule,
    SkippedExperts,
)


def check_sparsity(value: object, owner: str) -> None:
    """Raise unless a share to skip is in [0, 1).

    Parameters
    ----------
    value : object
        What was got.
    owner : str
        Whose sparsity it is.

    Raises
    ------
    SparseError
        If it is not a number in [0, 1).
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise SparseError(
            f"The 'sparsity' of {owner} must be in [0, 1): the share that is skipped. "
            f"Got {shortened(value)}."
        )


def check_rules(plan: SparsePlan, owner: str) -> None:
    """Raise unless every rule holds what its kind may hold, whatever the subject is.

    Parameters
    ----------
    plan : SparsePlan
        The plan.
    owner : str
        Begins the messages: its file.

    Raises
    ------
    SparseError
        Naming rule and field.
    """
    for rule in plan.rules:
        place = f"rule '{rule.name}' of layer {rule.layer} in {owner}"
        if not _is_count(rule.layer):
            _refuse("layer", place, "be a whole number from 0", rule.layer)
        for field, allowed in _CHOICES.items():
            if hasattr(rule, field):
                check_choice(getattr(rule, field), allowed, field, place, SparseError)
        for field in ("threshold", "scale"):
            _check_tensor(getattr(rule, field, None), field, place)
        for field in ("neurons", "heads", "experts"):
            _check_list(getattr(rule, field, ()), field, place)
        _check_numbers(rule, place)
    for achieved in plan.achieved:
        place = f"'{achieved.rule}' of layer {achieved.layer} in {owner}"
        if achieved.asked is not None:
            check_sparsity(achieved.asked, place)
        check_choice(achieved.denominator, DENOMINATORS, "denominator", place, SparseError)
        if not 0 <= achieved.achieved <= 1:
            _refuse("achieved", place, "be in [0, 1]", achieved.achieved)


def check_plan_fits(
    plan: SparsePlan, subject: str | None, anatomy: Anatomy | None, owner: str
) -> None:
    """Raise unless a plan is for this subject, and for sites that it has.

    Parameters
    ----------
    plan : SparsePlan
        The plan.
    subject : str, optional
        Hash of the subject.
    anatomy : Anatomy, optional
        Of the subject.
    owner : str
        Begins the messages: its file.

    Raises
    ------
    SparseError
        Naming what does not fit.
    """
    if subject is not None and plan.subject != subject:
        raise SparseError(
            f"The 'subject' of the plan {owner} must be the one it is run on, {subject[:12]}. "
            f"Got {plan.subject[:12]}: calibrate the policy '{plan.policy}' for this subject."
        )
    if anatomy is not None:
        for rule in plan.rules:
            _check_site(rule, anatomy, f"rule '{rule.name}' of layer {rule.layer} in {owner}")


_CHOICES: dict[str, Sequence[str]] = {
    "projection": PROJECTIONS,
    "group": GROUPS,
    "cutoff": CUTOFFS,
    "mode": OFF_MODES,
}


def _check_site(rule: Rule, anatomy: Anatomy, place: str) -> None:
    layers, what = _layers_of(rule, anatomy)
    if rule.layer not in layers:
        has = f"layers {layers[0]} to {layers[-1]}" if layers else "none"
        _refuse("layer", place, f"be one with {what} ({has})", rule.layer)
    for field in ("threshold", "scale"):
        values = getattr(rule, field, None)
        if values is not None and values.dim():
            _check_shape(values, field, _shape_of(rule, anatomy), place)
    shape = _shape_of(rule, anatomy) if isinstance(rule, InputTopK) else None
    if shape and rule.kept > shape[-1]:
        _refuse("kept", place, f"be at most {shape[-1]} channels", rule.kept)
    expert = getattr(rule, "expert", None)
    if expert is not None and not 0 <= expert < anatomy.experts:
        _refuse("expert", place, f"be below {anatomy.experts}", expert)
    for field, size in _SIZES.items():
        values = getattr(rule, field, ())
        if values and values[-1] >= size(rule, anatomy):
            _refuse(field, place, f"be below {size(rule, anatomy)}", values[-1])


def _layers_of(rule: Rule, anatomy: Anatomy) -> tuple[tuple[int, ...], str]:
    """Layers that have what a rule is for."""
    if isinstance(rule, SkippedExperts | ExpertRatio):
        return anatomy.moe_layers, "experts"
    group = getattr(rule, "group", None)
    if isinstance(rule, InputThreshold | InputTopK):
        group = group_of(rule.projection)
    return {
        "dense": (anatomy.dense_layers, "a dense MLP"),
        "expert": (anatomy.moe_layers, "experts"),
        "shared": (anatomy.shared_layers, "shared experts"),
    }.get(group, (tuple(range(anatomy.layers)), "attention"))


def group_of(projection: str) -> str | None:
    """Group of neurons that a projection belongs to; None for attention.

    Parameters
    ----------
    projection : str
        One of :data:`lmri.sparse.rules.PROJECTIONS`.

    Returns
    -------
    str or None
        One of :data:`lmri.sparse.rules.GROUPS`.
    """
    first = projection.partition("_")[0]
    if first in ("expert", "shared"):
        return first
    return "dense" if projection in ("gate", "up", "down") else None


def _shape_of(rule: Rule, anatomy: Anatomy) -> tuple[int, ...] | None:
    """Shape of one number a channel; of experts with the experts first.

    None for queries: latent attention makes them from fewer channels, which the anatomy does not
    count. The runtime knows the matrix.
    """
    group = getattr(rule, "group", None)
    if isinstance(rule, InputThreshold | InputTopK):
        group = group_of(rule.projection)
        if rule.projection == "query":
            return None
        if rule.projection == "attention_output":
            return (anatomy.heads * anatomy.head_size,)
        if not rule.projection.endswith("down"):
            return (anatomy.experts, anatomy.hidden) if group == "expert" else (anatomy.hidden,)
    return {
        "dense": (anatomy.neurons,),
        "expert": (anatomy.experts, anatomy.expert_size),
        "shared": (anatomy.shared_size,),
    }[group]


def _neurons_of(rule: Rule, anatomy: Anatomy) -> int:
    return _shape_of(rule, anatomy)[-1]


_SIZES: dict[str, Callable[[Rule, Anatomy], int]] = {
    "neurons": _neurons_of,
    "heads": lambda rule, anatomy: anatomy.heads,
    "experts": lambda rule, anatomy: anatomy.experts,
}


def _check_shape(values: Tensor, field: str, shape: tuple[int, ...] | None, place: str) -> None:
    if shape is not None and tuple(values.shape) != shape:
        _refuse(field, place, f"have the shape () or {shape}", tuple(values.shape))


def _check_tensor(values: Tensor | None, field: str, place: str) -> None:
    if values is None:
        return
    if values.dtype is not torch.float32 or bool((values < 0).any() | values.isnan().any()):
        _refuse(field, place, "be float32 and not below 0", values)


def _check_numbers(rule: Rule, place: str) -> None:
    if isinstance(rule, InputTopK | AttentionTopK) and not _is_count(rule.kept, 1):
        _refuse("kept", place, "be a whole number from 1", rule.kept)
    if isinstance(rule, CacheHeads) and not (_is_count(rule.sinks) and _is_count(rule.window)):
        _refuse("sinks and window", place, "be whole numbers from 0", (rule.sinks, rule.window))
    if isinstance(rule, ExpertRatio) and not 0 < rule.ratio < 1:
        _refuse("ratio", place, "be in (0, 1)", rule.ratio)
    if isinstance(rule, GateCutoff) and rule.cutoff == "shifted_relu" and not rule.value > 0:
        _refuse("value", place, "be above 0 ('relu' is the cutoff without a shift)", rule.value)


def _check_list(values: Sequence[int], field: str, place: str) -> None:
    ascending = all(_is_count(value) for value in values) and all(
        low < high for low, high in pairwise(values)
    )
    if not ascending:
        _refuse(field, place, "be whole numbers from 0, ascending, each once", values)


def _is_count(value: object, least: int = 0) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


def _refuse(field: str, place: str, rule: str, got: object) -> None:
    raise SparseError(
        f"The '{field}' of the {place} must {rule}. Got {shortened(got)}: calibrate again for this "
        "subject."
    )
