"""Whether a subject can carry out a plan, told before anything runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from numbers import Integral

from lmri.anatomy import Anatomy
from lmri.checks import check_choice
from lmri.errors import LmriError
from lmri.intervene.plans import ADJUST, OWNER, PHASES, AnyPlan, Plan
from lmri.intervene.units import DIRECTION_MODES, KINDS, OFF_MODES, Unit


def check_plan(plan: AnyPlan, anatomy: Anatomy) -> None:
    """Refuse a plan that the subject cannot carry out.

    Parameters
    ----------
    plan : Plan or Combined
        The plan, or several that act together.
    anatomy : Anatomy
        Of the subject.

    Raises
    ------
    LmriError
        If the kind, mode or phase is unknown, the subject has no such units (or no experts that
        can be left out), a unit does not exist or is named twice, fewer than ``top_k`` experts of a
        layer would be left to choose from (``mask``), more than ``top_k`` of a layer are forced,
        the numbers of a mode are not there, or one of several plans would undo or hide another.
    """
    for part in plan.parts:
        _check_part(part, anatomy)
    for mode, most in (("mask", anatomy.experts - anatomy.top_k), ("force", anatomy.top_k)):
        _check_counts([part for part in plan.parts if part.mode == mode], most, anatomy)
    for first, second in combinations([part for part in plan.parts if part.units], 2):
        if _at_once(first, second):
            _check_apart(first, second)


def _check_part(plan: Plan, anatomy: Anatomy) -> None:
    check_choice(plan.kind, KINDS, "kind", OWNER, LmriError)
    owner = OWNER if plan.kind == "expert" else f"{OWNER} on units of kind '{plan.kind}'"
    check_choice(plan.mode, KINDS[plan.kind].modes, "mode", owner, LmriError)
    check_choice(plan.phase, PHASES, "phase", owner, LmriError)
    if plan.units:
        _check_there(plan, anatomy)
    _check_units(plan, anatomy)
    _check_values(plan, anatomy)


def _check_counts(parts: Sequence[Plan], most: int, anatomy: Anatomy) -> None:
    """No more experts of a layer than a token can do without, or can have, at any token."""
    for phase in ("prompt", "prompt_last", "response"):
        own = [part for part in parts if _overlap(part.phase, phase)]
        for layer, count in Counter(layer for part in own for layer, *_ in part.units).items():
            if count > most:
                raise LmriError(
                    f"An intervention of mode '{own[0].mode}' must name at most {most} experts of "
                    f"a layer ({anatomy.experts} experts, {anatomy.top_k} per token). "
                    f"Got {count} in layer {layer}."
                )


def _overlap(first: str, second: str) -> bool:
    """Whether two phases share a token; the last token of the prompt is one of the prompt."""
    apart = {first, second}
    return "response" not in apart or len(apart) == 1 or "both" in apart


def _at_once(first: Plan, second: Plan) -> bool:
    return _overlap(first.phase, second.phase)


REPLACED = ("zero", "mean", "clamp", "resample")
"""Modes after which nothing is left of what there was."""

WITHIN_BLOCK = ("expert", "neuron", "shared_neuron", "expert_neuron", "head")


def _check_apart(first: Plan, second: Plan) -> None:
    """Refuse two plans of which one would undo or hide the other."""
    for one, other in ((first, second), (second, first)):
        for unit, why in _hidden(one, other):
            raise LmriError(
                f"Interventions that act together must not undo or hide one another. Got {why} "
                f"{unit}: leave one of them out, or give them phases apart."
            )


def _hidden(one: Plan, other: Plan) -> Iterator[tuple[Unit, str]]:
    """Units of a plan that another one sets as well, or makes to be of no effect."""
    moved = one.mode in DIRECTION_MODES and other.mode in DIRECTION_MODES
    if one.kind == other.kind and not moved:
        same = sorted(set(one.units) & set(other.units))
        yield from ((unit, f"two of kind '{one.kind}' on") for unit in same)
    layers = {unit[0] for unit in other.units}
    if other.kind == "layer" and other.mode in (*REPLACED, "void") and one.kind in WITHIN_BLOCK:
        inside = (unit for unit in one.units if unit[0] in layers)
        yield from ((unit, f"a layer passed over and, in it, the {one.kind}") for unit in inside)
    if other.kind == "expert" and other.mode in OFF_MODES and one.kind == "expert_neuron":
        off = set(other.units)
        inside = (unit for unit in one.units if unit[:2] in off)
        yield from ((unit, "an expert that is off and, in it, the neuron") for unit in inside)
    sets = other.kind == "residual_site" and other.mode not in DIRECTION_MODES
    if sets and one.kind in ("residual", "feature"):
        inside = (unit for unit in one.units if unit[0] in layers)
        yield from ((unit, f"a residual set and, in its layer, the {one.kind}") for unit in inside)


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
    got = [len(value) for value in plan.values]
    each, need = _numbers_of(plan, KINDS[plan.kind].width(anatomy))
    if got != ([] if each is None else [each] * len(plan.units)):
        need = need if each is None else f"{need} for each of {len(plan.units)} units"
        raise LmriError(
            f"The values of an intervention of mode '{plan.mode}' must be {need}. "
            f"Got {sum(got)} numbers for {len(got)} units."
        )
    if not all(math.isfinite(number) for value in plan.values for number in value):
        raise LmriError(f"The values of an intervention of mode '{plan.mode}' must be finite.")
    if plan.mode in CHECKS:
        holds, rule = CHECKS[plan.mode]
        for unit, value in zip(plan.units, plan.values, strict=True):
            if not holds(value):
                name = _described(unit, KINDS[plan.kind].names)
                raise LmriError(
                    f"The values of an intervention of mode '{plan.mode}' must {rule}. "
                    f"Got others for {name}."
                )


def _numbers_of(plan: Plan, width: int) -> tuple[int | None, str]:
    """Numbers that every unit must have, None for no values at all; and that in words."""
    first = len(plan.values[0]) if plan.values else 0
    single = {"mean": width, "add": width, "gain": 1, "sink": 1, "void": 1, "adjust": ADJUST}
    if plan.mode in single:
        return single[plan.mode], f"{single[plan.mode]} numbers"
    if plan.mode in ("clamp", "resample"):
        # Any number of sets of numbers, as many of each unit.
        return width * max(1, first // width), f"{width} numbers, or sets of as many,"
    if plan.mode == "ablate":
        return width * max(2, first // width), f"{width} numbers of the origin and of directions"
    if plan.mode == "pattern":
        return max(1, math.isqrt(first)) ** 2, "a square of weights"
    return None, "none"


def _is_pattern(value: Sequence[float]) -> bool:
    tokens = math.isqrt(len(value))
    rows = [value[row * tokens : (row + 1) * tokens] for row in range(tokens)]
    early = all(not any(row[number + 1 :]) for number, row in enumerate(rows))
    return early and min(value) >= 0 and all(sum(row) <= 1 + 1e-3 for row in rows)


CHECKS: dict[str, tuple[Callable[[Sequence[float]], bool], str]] = {
    "adjust": (
        lambda value: min(value[1], value[3]) > 0,
        "have deviations that are above 0 (leave a unit that does not vary out)",
    ),
    "sink": (lambda value: value[0] >= 0, "be at least 0"),
    "void": (lambda value: value[0] >= 0, "be at least 0"),
    "pattern": (
        _is_pattern,
        "be weights of at least 0, at most 1 in all of a token, and none on tokens to come",
    ),
}
"""What values of a mode must fulfil, and that in words."""


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


def feasible(plan: AnyPlan, anatomy: Anatomy) -> bool:
    """Whether :func:`check_plan` accepts a plan."""
    try:
        check_plan(plan, anatomy)
    except LmriError:
        return False
    return True
