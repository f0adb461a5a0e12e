"""What is done to a subject's experts: plans, checked against its anatomy.

A plan names a mode and units. The modes differ in what happens to a slot of the router whose
expert is off:

=====================  ==================================================================
``mask``               the expert's router logit is minus infinity before the softmax and the
                       top-k: another expert takes the slot
``zero``               the slot stays empty; the other weights are unchanged
``zero_renormalise``   the slot stays empty; the other weights are scaled so that they keep the
                       sum the chosen weights had; with no slot left the routed output is 0
``force``              the expert's router logit is raised to the row's largest, so that it is
                       chosen first, with at least the weight of every other expert
=====================  ==================================================================

In no mode is an expert that is off executed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lmri.anatomy import Anatomy
from lmri.checks import check_choice
from lmri.errors import LmriError

OFF_MODES = ("mask", "zero", "zero_renormalise")
MODES = (*OFF_MODES, "force")

Unit = tuple[int, int]
"""An expert: (layer, expert)."""


@dataclass(frozen=True)
class Plan:
    """Units of one kind and what is done to them.

    Attributes
    ----------
    mode : str
        One of :data:`MODES`.
    units : tuple of (int, int)
        Experts as (layer, expert); none is the identity.
    """

    mode: str = "mask"
    units: tuple[Unit, ...] = ()


INTACT = Plan()
"""The plan that changes nothing."""


def check_plan(plan: Plan, anatomy: Anatomy) -> None:
    """Refuse a plan that the subject cannot carry out.

    Parameters
    ----------
    plan : Plan
        The plan.
    anatomy : Anatomy
        Of the subject.

    Raises
    ------
    LmriError
        If the mode is unknown, the subject has no experts that can be left out, a unit does not
        exist or is named twice, fewer than ``top_k`` experts of a layer would be left to choose
        from (``mask``), or more than ``top_k`` of a layer are forced.
    """
    check_choice(plan.mode, MODES, "mode", "an intervention", LmriError)
    if plan.units and not can_reroute(anatomy):
        raise LmriError(
            "The units of an intervention must be experts that the subject chooses among and runs "
            f"one by one. Got the architecture '{anatomy.architecture}', which has none."
        )
    for layer, expert in plan.units:
        if layer not in anatomy.moe_layers or not 0 <= expert < anatomy.experts:
            raise LmriError(
                f"The units of an intervention must be experts of the subject (layers "
                f"{anatomy.moe_layers[0]} to {anatomy.moe_layers[-1]}, experts 0 to "
                f"{anatomy.experts - 1}). Got layer {layer}, expert {expert}."
            )
    if len(set(plan.units)) < len(plan.units):
        raise LmriError(f"The units of an intervention must be distinct. Got {list(plan.units)}.")
    most = {"mask": anatomy.experts - anatomy.top_k, "force": anatomy.top_k}.get(plan.mode)
    for layer, count in Counter(layer for layer, _ in plan.units).items():
        if most is not None and count > most:
            raise LmriError(
                f"An intervention of mode '{plan.mode}' must name at most {most} experts of a "
                f"layer ({anatomy.experts} experts, {anatomy.top_k} per token). "
                f"Got {count} in layer {layer}."
            )


def can_reroute(anatomy: Anatomy) -> bool:
    """Whether a subject has experts that can be left out.

    Llama 4 runs all its experts on every token and scales their inputs: they are recorded, but
    an expert cannot be skipped there.

    Parameters
    ----------
    anatomy : Anatomy
        Of the subject.

    Returns
    -------
    bool
        False without experts, and where they are not run one by one.
    """
    return bool(anatomy.moe_layers) and anatomy.routing != "sigmoid_input"


def feasible(plan: Plan, anatomy: Anatomy) -> bool:
    """Whether :func:`check_plan` accepts a plan."""
    try:
        check_plan(plan, anatomy)
    except LmriError:
        return False
    return True


@dataclass(frozen=True)
class CompiledPlans:
    """Plans as masks, so that rows of one batch can follow different plans.

    Attributes
    ----------
    masks : dict of str to dict of int to Tensor
        By mode and layer: bool tensor of shape (n_plans, experts). Modes and layers that no
        plan touches are left out.
    """

    masks: dict[str, dict[int, torch.Tensor]]

    def at(self, mode: str, layer: int) -> torch.Tensor | None:
        """Mask of a mode in a layer, or None."""
        return self.masks.get(mode, {}).get(layer)

    def touches(self, layer: int) -> bool:
        """Whether any plan does anything in a layer."""
        return any(layer in layers for layers in self.masks.values())


def compile_plans(plans: Sequence[Plan], anatomy: Anatomy) -> CompiledPlans:
    """Check plans and turn them into masks.

    Parameters
    ----------
    plans : sequence of Plan
        The plans; a row refers to one by its position.
    anatomy : Anatomy
        Of the subject.

    Returns
    -------
    CompiledPlans
        The masks.
    """
    masks: dict[str, dict[int, torch.Tensor]] = {}
    for index, plan in enumerate(plans):
        check_plan(plan, anatomy)
        for layer, expert in plan.units:
            layers = masks.setdefault(plan.mode, {})
            if layer not in layers:
                layers[layer] = torch.zeros(len(plans), anatomy.experts, dtype=torch.bool)
            layers[layer][index, expert] = True
    return CompiledPlans(masks)
