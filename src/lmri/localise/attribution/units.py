"""Units that can be attributed: where each writes, and what it wrote in a run.

What a unit writes is a part of the tensor at one point of the forward pass, and patching it adds
the difference of what it wrote in two runs there. For a metric ``M`` with slope ``g`` at the point,
the attribution of unit ``u`` is ``sum over tokens of g . (written_clean - written_corrupted)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lmri.anatomy import Dictionary, Subject, expert_groups, residual_multiplier
from lmri.checks import check_choice
from lmri.errors import LmriError
from lmri.localise.attribution.experts import down_projection
from lmri.localise.attribution.trace import Point, Run


@dataclass(frozen=True)
class Site(ABC):
    """Units of one layer that write through one point.

    Attributes
    ----------
    layer : int
        The layer.
    point : Point
        Where they write.
    count : int
        Units.
    first : int
        Column of the first unit in a map.
    """

    layer: int
    point: Point
    count: int
    first: int = 0

    @property
    def keep(self) -> set[Point]:
        """Points that a run must keep."""
        return {self.point}

    @abstractmethod
    def projected(self, run: Run, slope: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """``sum over tokens of slope . written`` for every unit.

        Parameters
        ----------
        run : Run
            The run whose units are projected.
        slope : Tensor of shape (batch, tokens, width)
            At the point.
        where : Tensor of shape (batch, tokens)
            1 at the tokens that count, else 0.

        Returns
        -------
        Tensor of shape (batch, count)
        """

    @abstractmethod
    def written(self, run: Run, unit: int) -> torch.Tensor:
        """What a unit wrote in a run, as it enters the point.

        Parameters
        ----------
        run : Run
            The run.
        unit : int
            From 0, within the site.

        Returns
        -------
        Tensor of shape (batch, tokens, width)
        """


@dataclass(frozen=True)
class Coordinates(Site):
    """Equal parts of the tensor at a point: heads, neurons, or all of a residual.

    Attributes
    ----------
    source : Point or None
        Where what they wrote is read, if not at the point.
    scale : float
        Their share in the point for what is read at the source.
    """

    source: Point | None = None
    scale: float = 1.0

    @property
    def keep(self) -> set[Point]:
        """Points that a run must keep."""
        return {self.point} | ({self.source} if self.source else set())

    def _values(self, run: Run) -> torch.Tensor:
        return run.values[self.source or self.point] * self.scale

    def projected(self, run: Run, slope: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """See :meth:`Site.projected`."""
        summed = (self._values(run) * slope * where.unsqueeze(-1)).sum(1)  # (batch, width)
        return summed.unflatten(-1, (self.count, -1)).sum(-1)

    def written(self, run: Run, unit: int) -> torch.Tensor:
        """See :meth:`Site.written`."""
        values = self._values(run)
        width = values.shape[-1] // self.count
        own = torch.zeros_like(values)
        part = slice(unit * width, (unit + 1) * width)
        own[..., part] = values[..., part]
        return own


@dataclass(frozen=True)
class Experts(Site):
    """Experts of a layer; one that a token is not routed to writes nothing there."""

    def projected(self, run: Run, slope: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """See :meth:`Site.projected`."""
        ids, outputs = run.parts[self.point]
        shares = (outputs * (slope * where.unsqueeze(-1)).unsqueeze(2)).sum(-1)
        total = shares.new_zeros(len(ids), self.count)
        return total.scatter_add_(1, ids.flatten(1), shares.flatten(1))

    def written(self, run: Run, unit: int) -> torch.Tensor:
        """See :meth:`Site.written`."""
        ids, outputs = run.parts[self.point]
        return (outputs * (ids == unit).unsqueeze(-1)).sum(2)


@dataclass(frozen=True)
class ExpertNeurons(Site):
    """Neurons of a layer's experts, weighted by the routing: ``expert * expert_size + neuron``.

    Attributes
    ----------
    group : torch.nn.Module
        The experts.
    size : int
        Neurons per expert.
    """

    group: nn.Module | None = None
    size: int = 0

    @property
    def keep(self) -> set[Point]:
        """Points that a run must keep."""
        return {self.point, ("expert_neuron", self.layer)}

    def projected(self, run: Run, slope: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """See :meth:`Site.projected`."""
        ids, neurons = run.parts["expert_neuron", self.layer]
        masked = slope * where.unsqueeze(-1)
        total = neurons.new_zeros(len(ids), self.count)
        for expert in ids.unique().tolist():
            row, token, slot = torch.nonzero(ids == expert, as_tuple=True)
            back = masked[row, token] @ down_projection(self.group, expert).T  # (pairs, size)
            columns = slice(expert * self.size, (expert + 1) * self.size)
            total[:, columns].index_add_(0, row, neurons[row, token, slot] * back)
        return total

    def written(self, run: Run, unit: int) -> torch.Tensor:
        """See :meth:`Site.written`."""
        ids, neurons = run.parts["expert_neuron", self.layer]
        expert, neuron = divmod(unit, self.size)
        value = (neurons[..., neuron] * (ids == expert)).sum(2)  # (batch, tokens)
        return value.unsqueeze(-1) * down_projection(self.group, expert)[neuron]


@dataclass(frozen=True)
class Features(Site):
    """Features of a dictionary; what it does not reconstruct stays in the residual.

    Attributes
    ----------
    dictionary : Dictionary
        Encoder and decoder.
    source : Point
        Where the residual is read.
    scale : float
        Share of the residual in the point.
    """

    dictionary: Dictionary | None = None
    source: Point | None = None
    scale: float = 1.0

    @property
    def keep(self) -> set[Point]:
        """Points that a run must keep."""
        return {self.point, self.source}

    def projected(self, run: Run, slope: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """See :meth:`Site.projected`."""
        features = self.dictionary.encode(run.values[self.source])  # (batch, tokens, features)
        back = (slope * where.unsqueeze(-1) * self.scale) @ self.dictionary.decoder.T
        return (features * back).sum(1)

    def written(self, run: Run, unit: int) -> torch.Tensor:
        """See :meth:`Site.written`."""
        own = slice(unit, unit + 1)
        feature = self.dictionary.encode(run.values[self.source], own)  # (batch, tokens, 1)
        return feature * self.dictionary.decoder[unit] * self.scale


def sites(subject: Subject, kind: str) -> list[Site]:
    """List where the units of a kind write.

    Parameters
    ----------
    subject : Subject
        The subject.
    kind : str
        One of :data:`KINDS`.

    Returns
    -------
    list of Site
        In the order of layers.

    Raises
    ------
    LmriError
        If the kind is unknown, the subject has no such units, or a dictionary is missing.
    """
    check_choice(kind, KINDS, "kinds", "the attribution")
    if kind == "feature" and subject.dictionary is None:
        raise LmriError(
            "The kind 'feature' of the attribution needs a 'dictionary': a safetensors file with "
            "encoder, encoder_bias and decoder. Got none."
        )
    found = KINDS[kind](subject)
    if not found:
        raise LmriError(
            f"Subject '{subject.name}' ('{subject.anatomy.architecture}') has no units of the kind "
            f"'{kind}'. Leave it out of the 'kinds' of the attribution."
        )
    return found


def unit_coordinates(subject: Subject, kind: str) -> dict[str, np.ndarray]:
    """Further coordinates of the units of a kind, along ``unit``.

    Parameters
    ----------
    subject : Subject
        The subject.
    kind : str
        One of :data:`KINDS`.

    Returns
    -------
    dict of str to ndarray of shape (n_units,)
        ``place`` of residuals; ``expert`` and ``neuron`` of the neurons of experts.
    """
    anatomy = subject.anatomy
    if kind == "residual":
        return {"place": np.array(anatomy.places, dtype=object)}
    if kind == "expert_neuron":
        expert, neuron = np.divmod(
            np.arange(anatomy.experts * anatomy.expert_size), anatomy.expert_size
        )
        return {"expert": expert, "neuron": neuron}
    return {}


def residual_point(subject: Subject, layer: int, place: str) -> tuple[Point, Point, float]:
    """Where the residual of a place is written, where it is read, and its share in the former.

    The residual between attention and MLP has no tensor of its own that all its readers share, so
    it is changed by what attention adds.

    Parameters
    ----------
    subject : Subject
        The subject.
    layer : int
        The layer.
    place : str
        ``before``, ``mid`` or ``after``.

    Returns
    -------
    point, source : Point
        Where it is written and read.
    scale : float
        What is added at the point for a change of 1.
    """
    if place != "mid":
        return (place, layer), (place, layer), 1.0
    return ("attention", layer), ("mid", layer), 1.0 / residual_multiplier(subject.model)


def _coordinate_sites(name: str, layers: str, count: str | None) -> Callable[[Subject], list[Site]]:
    def listed(subject: Subject) -> list[Site]:
        found = getattr(subject.anatomy, layers)
        own = range(found) if isinstance(found, int) else found
        units = 1 if count is None else getattr(subject.anatomy, count)
        return [Coordinates(layer, (name, layer), units) for layer in own]

    return listed


def _residual_sites(subject: Subject) -> list[Site]:
    found = []
    for layer in range(subject.anatomy.layers):
        for column, place in enumerate(subject.anatomy.places):
            point, source, scale = residual_point(subject, layer, place)
            found.append(Coordinates(layer, point, 1, column, source, scale))
    return found


def _expert_sites(subject: Subject) -> list[Site]:
    anatomy = subject.anatomy
    return [Experts(layer, ("expert", layer), anatomy.experts) for layer in anatomy.moe_layers]


def _expert_neuron_sites(subject: Subject) -> list[Site]:
    size, experts = subject.anatomy.expert_size, subject.anatomy.experts
    return [
        ExpertNeurons(layer, ("expert", layer), experts * size, group=group, size=size)
        for layer, group in expert_groups(subject.model).items()
    ]


def _feature_sites(subject: Subject) -> list[Site]:
    dictionary = subject.dictionary
    layer = dictionary.layer
    point, source, scale = residual_point(subject, layer, dictionary.place)
    count = len(dictionary.decoder)
    return [
        Features(layer, point, count, dictionary=dictionary, source=source, scale=scale),
    ]


KINDS: dict[str, Callable[[Subject], list[Site]]] = {
    "head": _coordinate_sites("head", "layers", "heads"),
    "neuron": _coordinate_sites("neuron", "dense_layers", "neurons"),
    "shared_neuron": _coordinate_sites("shared_neuron", "shared_layers", "shared_size"),
    "expert": _expert_sites,
    "expert_neuron": _expert_neuron_sites,
    "residual": _residual_sites,
    "attention": _coordinate_sites("attention", "layers", None),
    "mlp": _coordinate_sites("mlp", "layers", None),
    "feature": _feature_sites,
}
"""Kinds of units, and what lists where they write; features are in their dictionary's layer."""
