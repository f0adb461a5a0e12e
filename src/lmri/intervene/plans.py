"""What is done to a subject's units: plans, checked against its anatomy.

A plan names a mode and units of one kind. For experts, the modes differ in what happens to a slot
of the router whose expert is off:

=====================  ==================================================================
``mask``               the expert's router logit is minus infinity before the softmax and the
                       top-k: another expert takes the slot
``zero``               the slot stays empty; the other weights are unchanged
``zero_renormalise``   the slot stays empty; the other weights are scaled so that they keep the
                       sum the chosen weights had; with no slot left the routed output is 0
``force``              the expert's router logit is raised to the row's largest, so that it is
                       chosen first, with at least the weight of every other expert
=====================  ==================================================================

In no mode is an expert that is off executed. Units of the other kinds (:mod:`.units`) are set
where they are made, to or by numbers that the plan brings along:

=====================  ==================================================================
``zero``               to 0; a layer passes on what it was given
``mean``               to their means
``clamp``              to given numbers, the same at every token or one set for each of the first
``resample``           to what they were at a token of another trial, drawn for each trial
``flip``               to their negative
``gain``               to a multiple
``uniform``            heads look at all that they may see alike
``adjust``             neurons of dense MLPs, at the input of their activation function: what
                       looks like the target becomes what it is elsewhere (Neuron Adjust, see
                       :func:`lmri.intervene.rules.adjusted`)
=====================  ==================================================================
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

from lmri.anatomy import Anatomy
from lmri.checks import check_choice
from lmri.errors import LmriError
from lmri.intervene.units import KINDS, Unit

Values = Mapping[Unit, Sequence[float]]
"""What a mode sets units to or by, see :attr:`Plan.values`."""

BY_NUMBERS = {
    "mean": "the mean",
    "clamp": "the values",
    "resample": "the values of donors",
    "gain": "the factor",
    "adjust": "means and deviations",
}
"""Modes that need numbers of every unit, and what they are."""

ADJUST = 4
"""Numbers of Neuron Adjust: mean and deviation in the target, and in retained trials."""

OWNER = "an intervention"


@dataclass(frozen=True)
class Plan:
    """Units of one kind and what is done to them.

    Attributes
    ----------
    mode : str
        One of the modes of the kind.
    units : tuple of tuple of int
        Units as (layer, ...), see :mod:`lmri.intervene.units`; none is the identity.
    kind : str
        One of :data:`KINDS`.
    values : tuple of tuple of float
        Of each unit, in their order: as many numbers as the kind is wide (``mean``), any number of
        such sets (``clamp``: of the first tokens, one for all; ``resample``: of donors), one factor
        (``gain``), or four (``adjust``); none in other modes.
    """

    mode: str = "mask"
    units: tuple[Unit, ...] = ()
    kind: str = "expert"
    values: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(
        cls, mode: str, units: Sequence[Unit], kind: str = "expert", values: Values | None = None
    ) -> Plan:
        """Make a plan, with the numbers of its units where the mode needs any.

        Parameters
        ----------
        mode, units, kind
            As the attributes.
        values : mapping of tuple of int to sequence of float, optional
            Numbers of at least these units; not used in modes that need none.

        Returns
        -------
        Plan
            The plan.

        Raises
        ------
        LmriError
            If the mode needs numbers and a unit has none.
        """
        if mode not in BY_NUMBERS:
            return cls(mode, tuple(units), kind)
        missing = [unit for unit in units if unit not in (values or {})]
        if missing:
            raise LmriError(
                f"The mode '{mode}' of {OWNER} needs {BY_NUMBERS[mode]} of every unit. Got none "
                f"for the {kind} {missing[0]} and {len(missing) - 1} more: use the mode 'zero', or "
                "give them."
            )
        own = tuple(tuple(float(value) for value in values[unit]) for unit in units)
        return cls(mode, tuple(units), kind, own)


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
        If the kind or mode is unknown, the subject has no such units (or no experts that can be
        left out), a unit does not exist or is named twice, fewer than ``top_k`` experts of a layer
        would be left to choose from (``mask``), more than ``top_k`` of a layer are forced, or
        the numbers of a mode are not there.
    """
    check_choice(plan.kind, KINDS, "kind", OWNER, LmriError)
    owner = OWNER if plan.kind == "expert" else f"{OWNER} on units of kind '{plan.kind}'"
    check_choice(plan.mode, KINDS[plan.kind].modes, "mode", owner, LmriError)
    if plan.units:
        _check_there(plan, anatomy)
    _check_units(plan, anatomy)
    _check_values(plan, anatomy)
    most = {"mask": anatomy.experts - anatomy.top_k, "force": anatomy.top_k}.get(plan.mode)
    for layer, count in Counter(layer for layer, *_ in plan.units).items():
        if most is not None and count > most:
            raise LmriError(
                f"An intervention of mode '{plan.mode}' must name at most {most} experts of a "
                f"layer ({anatomy.experts} experts, {anatomy.top_k} per token). "
                f"Got {count} in layer {layer}."
            )


def _check_there(plan: Plan, anatomy: Anatomy) -> None:
    if plan.kind == "expert" and not can_reroute(anatomy):
        raise LmriError(
            "The units of an intervention must be experts that the subject chooses among and runs "
            f"one by one. Got the architecture '{anatomy.architecture}', which has none."
        )
    if not KINDS[plan.kind].layers(anatomy):
        raise LmriError(
            f"The units of an intervention must be {KINDS[plan.kind].plural} of the subject. "
            f"Got the architecture '{anatomy.architecture}', which has none."
        )


def _check_units(plan: Plan, anatomy: Anatomy) -> None:
    kind = KINDS[plan.kind]
    layers, shape = frozenset(kind.layers(anatomy)), kind.shape(anatomy)
    for unit in plan.units:
        if len(unit) != len(kind.names) or not all(isinstance(part, Integral) for part in unit):
            raise LmriError(
                f"A unit of kind '{plan.kind}' must be ({', '.join(kind.names)}), whole numbers. "
                f"Got {unit}."
            )
        layer, *within = unit
        inside = (0 <= place < count for place, count in zip(within, shape, strict=True))
        if layer not in layers or not all(inside):
            raise LmriError(
                f"The units of an intervention must be {kind.plural} of the subject "
                f"({_extent(plan.kind, anatomy)}). Got {_described(unit, kind.names)}."
            )
    if len(set(plan.units)) < len(plan.units):
        raise LmriError(f"The units of an intervention must be distinct. Got {list(plan.units)}.")


def _check_values(plan: Plan, anatomy: Anatomy) -> None:
    width, got = KINDS[plan.kind].width(anatomy), [len(value) for value in plan.values]
    wanted = {"mean": width, "gain": 1, "adjust": ADJUST}.get(plan.mode)
    need = "none"
    if plan.mode in ("clamp", "resample"):
        # Any number of sets of numbers, as many of each unit.
        sets = max(1, got[0] // width) if got else 1
        need = f"{width} numbers, or sets of as many, for each of {len(plan.units)} units"
        wanted = width * sets
    elif wanted is not None:
        need = f"{wanted} numbers for each of {len(plan.units)} units"
    if got != ([] if wanted is None else [wanted] * len(plan.units)):
        raise LmriError(
            f"The values of an intervention of mode '{plan.mode}' must be {need}. "
            f"Got {sum(got)} numbers for {len(got)} units."
        )
    if not all(math.isfinite(number) for value in plan.values for number in value):
        raise LmriError(f"The values of an intervention of mode '{plan.mode}' must be finite.")
    if plan.mode == "adjust" and any(min(value[1], value[3]) <= 0 for value in plan.values):
        raise LmriError(
            "The deviations of an intervention of mode 'adjust' must be above 0. Got a unit that "
            "does not vary: leave it out."
        )


def _extent(kind: str, anatomy: Anatomy) -> str:
    layers, shape = KINDS[kind].layers(anatomy), KINDS[kind].shape(anatomy)
    counts = zip(KINDS[kind].parts, shape, strict=True)
    within = [f"{part}s 0 to {count - 1}" for part, count in counts]
    return ", ".join([f"layers {layers[0]} to {layers[-1]}", *within])


def _described(unit: Unit, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {place}" for name, place in zip(names, unit, strict=True))


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
