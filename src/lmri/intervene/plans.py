"""What is done to a subject's units: plans, one by one or together.

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
``gain``               the expert's weight is multiplied where it is chosen; the choice and the
                       other weights stay
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
``sink``               the attention of heads to the first token is multiplied, and all of it
                       scaled so that its sum stays
``pattern``            heads look where they are told, at the first so many tokens
``void``               a layer passes on what it was given at tokens where it adds little, see
                       :mod:`lmri.intervene.void`
``adjust``             neurons of dense MLPs and of experts, at the input of their activation
                       function: what looks like the target becomes what it is elsewhere (Neuron
                       Adjust, see :func:`lmri.intervene.rules.adjusted`)
``add``                a vector is added to the whole residual of a site
``ablate``             along directions, the residual of a site becomes that of an origin:
                       ``h + V^T V (c - h)`` with orthonormal directions V
=====================  ==================================================================

Every plan acts at all tokens, or at those of a phase only: ``prompt``, ``prompt_last`` (its last
token, which decides the first of the response) or ``response`` (tokens that were said, so that the
first decision is that of the intact subject).

Several plans act together as :class:`Combined`. What one of them writes the next reads, in the
order of the forward pass: within a block first the state before it, then heads, the state amid,
the MLP or experts; then what the block adds (``layer``), dimensions, features, sites, directions.
Directions of one place follow each other in the order of the plans. Plans of which one would undo
or hide the other are refused, see :func:`lmri.intervene.plan_checks.check_plan`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lmri.errors import LmriError
from lmri.intervene.units import Unit

Values = Mapping[Unit, Sequence[float]]
"""What a mode sets units to or by, see :attr:`Plan.values`."""

BY_NUMBERS = {
    "mean": "the mean",
    "clamp": "the values",
    "resample": "the values of donors",
    "gain": "the factor",
    "adjust": "means and deviations",
    "sink": "the factor",
    "pattern": "the weights",
    "void": "the share",
    "add": "the vector",
    "ablate": "the origin and directions",
}
"""Modes that need numbers of every unit, and what they are."""

ADJUST = 4
"""Numbers of Neuron Adjust: mean and deviation in the target, and in retained trials."""

OWNER = "an intervention"

PHASES = ("both", "prompt", "prompt_last", "response")
"""Tokens at which a plan acts."""


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
        such sets (``clamp``: of the first tokens, one for all; ``resample``: of donors; ``ablate``:
        the origin, then directions), one factor (``gain``, ``sink``, ``void``), four numbers
        (``adjust``), weights of T tokens over T tokens (``pattern``); none in other modes.
    phase : str
        One of :data:`PHASES`.
    """

    mode: str = "mask"
    units: tuple[Unit, ...] = ()
    kind: str = "expert"
    values: tuple[tuple[float, ...], ...] = ()
    phase: str = "both"

    @classmethod
    def of(
        cls,
        mode: str,
        units: Sequence[Unit],
        kind: str = "expert",
        values: Values | None = None,
        phase: str = "both",
    ) -> Plan:
        """Make a plan, with the numbers of its units where the mode needs any.

        Parameters
        ----------
        mode, units, kind, phase
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
            return cls(mode, tuple(units), kind, phase=phase)
        missing = [unit for unit in units if unit not in (values or {})]
        if missing:
            raise LmriError(
                f"The mode '{mode}' of {OWNER} needs {BY_NUMBERS[mode]} of every unit. Got none "
                f"for the {kind} {missing[0]} and {len(missing) - 1} more: use the mode 'zero', or "
                "give them."
            )
        own = tuple(tuple(float(value) for value in values[unit]) for unit in units)
        return cls(mode, tuple(units), kind, own, phase)

    @property
    def parts(self) -> tuple[Plan, ...]:
        """The plan alone, as :attr:`Combined.parts`."""
        return (self,)


@dataclass(frozen=True)
class Combined:
    """Plans that act together on a row.

    Attributes
    ----------
    parts : tuple of Plan
        The plans; none is the identity.
    """

    parts: tuple[Plan, ...]

    @property
    def units(self) -> tuple[Unit, ...]:
        """Units of all parts, one part after the other."""
        return tuple(unit for part in self.parts for unit in part.units)


AnyPlan: TypeAlias = Plan | Combined
"""What a row may follow."""

INTACT = Plan()
"""The plan that changes nothing."""
