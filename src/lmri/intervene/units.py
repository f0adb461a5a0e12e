"""Kinds of units: what names one, where they are, and what can be done to them.

=================  ========================  ==================================================
kind               a unit                    what is set to 0, or to its mean
=================  ========================  ==================================================
``expert``         (layer, expert)           nothing: routing changes, see :mod:`.plans`
``neuron``         (layer, neuron)           activity of a neuron of a dense MLP
``shared_neuron``  (layer, neuron)           activity of a neuron of the experts that always run
``expert_neuron``  (layer, expert, neuron)   activity of a neuron of an expert, where it is routed
``head``           (layer, head)             output of a head, as the output projection reads it
``residual``       (layer, dimension)        dimension of the residual after the block
``residual_site``  (layer, place)            all of the residual before, amid or after the block
``feature``        (layer, feature)          what a dictionary reads as a feature's activity
``layer``          (layer,)                  what the block adds to the residual
=================  ========================  ==================================================

Zero is a value that a neuron or a head often has. A dimension of the residual may be far from zero
at every token, so that setting it to zero does more than removing what it tells; the mean does not.
All of a residual at zero is a state that no run has ever had, so that mode does not exist. A place
is named by its number among the places of the anatomy. A feature is moved along its row of the
decoder by what its activity lacks: ``x + (wanted - activity) row``; what the dictionary does not
reconstruct stays. Features are those of the dictionary that the subject was given, see
:func:`lmri.anatomy.with_dictionary`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lmri.anatomy import Anatomy

OFF_MODES = ("mask", "zero", "zero_renormalise")
MODES = (*OFF_MODES, "force")
"""Modes for experts that need no numbers; with those there is ``gain``."""

_ALL = ("zero", "mean", "clamp", "resample", "flip", "gain")
PATTERN_MODES = ("uniform", "sink", "pattern")
"""Modes that change where heads look, and not what they write."""

DIRECTION_MODES = ("add", "ablate")
"""Modes that move a whole residual along vectors that the plan brings along."""

Unit = tuple[int, ...]
"""The layer, and what names the unit in it."""


@dataclass(frozen=True)
class UnitKind:
    """A kind of unit.

    Attributes
    ----------
    parts : tuple of str
        What names a unit after its layer; also keys of the units of a finding.
    plural : str
        For messages.
    layers : callable
        Layers of an anatomy that have such units.
    shape : callable
        Units of one layer, one number per part.
    width : callable
        Numbers that the activity of one unit is made of.
    modes : tuple of str
        What can be done to them.
    """

    parts: tuple[str, ...]
    plural: str
    layers: Callable[[Anatomy], tuple[int, ...]]
    shape: Callable[[Anatomy], tuple[int, ...]]
    width: Callable[[Anatomy], int] = lambda anatomy: 1
    modes: tuple[str, ...] = _ALL

    @property
    def names(self) -> tuple[str, ...]:
        """What names a unit, its layer first."""
        return ("layer", *self.parts)

    def channels(self, anatomy: Anatomy) -> int:
        """Numbers of all units that are in one place: of a layer, or of one of its experts."""
        return math.prod(self.shape(anatomy)[-1:]) * self.width(anatomy)


def _moe_layers(anatomy: Anatomy) -> tuple[int, ...]:
    return anatomy.moe_layers


def _all_layers(anatomy: Anatomy) -> tuple[int, ...]:
    return tuple(range(anatomy.layers))


def _decoder_layers(anatomy: Anatomy) -> tuple[int, ...]:
    # In an encoder each sum is normalised before it is passed on: no site is a sum.
    return () if anatomy.encoder else _all_layers(anatomy)


KINDS: dict[str, UnitKind] = {
    "expert": UnitKind(
        ("expert",), "experts", _moe_layers, lambda a: (a.experts,), modes=(*MODES, "gain")
    ),
    "neuron": UnitKind(
        ("neuron",),
        "neurons of dense MLPs",
        lambda a: a.dense_layers,
        lambda a: (a.neurons,),
        modes=(*_ALL, "adjust"),
    ),
    "shared_neuron": UnitKind(
        ("neuron",),
        "neurons of shared experts",
        lambda a: a.shared_layers,
        lambda a: (a.shared_size,),
    ),
    "expert_neuron": UnitKind(
        ("expert", "neuron"),
        "neurons of experts",
        _moe_layers,
        lambda a: (a.experts, a.expert_size),
        modes=(*_ALL, "adjust"),
    ),
    "head": UnitKind(
        ("head",),
        "heads",
        _all_layers,
        lambda a: (a.heads,),
        lambda a: a.head_size,
        modes=(*_ALL, *PATTERN_MODES),
    ),
    "residual": UnitKind(
        ("dimension",), "dimensions of the residual", _all_layers, lambda a: (a.hidden,)
    ),
    "residual_site": UnitKind(
        ("place",),
        "sites of the residual",
        _decoder_layers,
        lambda a: (len(a.places),),
        lambda a: a.hidden,
        modes=(*_ALL[1:], *DIRECTION_MODES),
    ),
    "feature": UnitKind(
        ("feature",),
        "features of a dictionary",
        lambda a: a.feature_layers,
        lambda a: (a.features,),
    ),
    "layer": UnitKind(
        (), "layers", _all_layers, lambda a: (), lambda a: a.hidden, modes=(*_ALL, "void")
    ),
}
"""Kinds of units that an intervention can name."""


def modes_of(kind: str, *, means: bool = False) -> tuple[str, ...]:
    """Modes in which units of a kind can be switched off, and experts forced.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    means : bool
        Whether the means of the units are known.

    Returns
    -------
    tuple of str
        Those of experts that need no numbers; of other kinds ``zero`` (but of the whole residual),
        and ``mean`` where means are known.
    """
    if kind == "expert":
        return MODES
    known = ("zero", "mean") if means else ("zero",)
    return tuple(mode for mode in known if mode in KINDS[kind].modes)
