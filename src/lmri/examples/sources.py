"""Where the activity of units at every token stands in a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmri.anatomy import ATTENTION_SUMMARIES
from lmri.examples.asked import Activity
from lmri.store import Recording

EXPERT_ID = "tokens/router/expert_id"


def array_of(kind: str, quantity: str) -> str:
    """Name the array of a recording that the activity of units is read from.

    Parameters
    ----------
    kind, quantity : str
        Of the units; the activity of an expert is the weight that its router gives it.

    Returns
    -------
    str
        The array, empty of a kind that no recording holds.
    """
    if kind == "expert":
        return f"tokens/router/{'logits' if quantity == 'logits' else 'weight'}"
    if kind == "head":
        return f"tokens/{'attention' if quantity in ATTENTION_SUMMARIES else 'head'}/{quantity}"
    if quantity == "preactivation":
        return "tokens/preactivation/preactivation"
    return {
        "neuron": "tokens/neuron/activation",
        "shared_neuron": "tokens/shared_neuron/activation",
        "expert_neuron": "tokens/expert_neuron/activation",
        "residual": "tokens/residual/residual",
        "layer": "tokens/layer/norm",
    }.get(kind, "")


def needed(kind: str, quantity: str) -> tuple[str, ...]:
    """Name all arrays that the activity of units is computed from."""
    array = array_of(kind, quantity)
    by_slot = kind == "expert_neuron" or array == "tokens/router/weight"
    return (EXPERT_ID, array) if by_slot else (array,)


@dataclass(frozen=True)
class Source:
    """Units of one kind and quantity, placed in the arrays of one recording.

    Attributes
    ----------
    kind, array : str
        Kind of the units; the array with their values.
    layer : ndarray of shape (n_units,), int64
        Positions of their layers in the arrays.
    inner : ndarray of shape (n_units, n_parts), int64
        What follows the layer: an expert, an expert and a neuron, a place and a dimension.
    """

    kind: str
    array: str
    layer: np.ndarray
    inner: np.ndarray

    def read(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Pick the activity of the units.

        Parameters
        ----------
        values : mapping of str to ndarray of shape (n_tokens, n_layers, ...)
            Consecutive tokens of the arrays that are :func:`needed`.

        Returns
        -------
        ndarray of shape (n_tokens, n_units), float32
            An expert that was not chosen, and its neurons, have 0.
        """
        own = values[self.array]
        if self.kind == "expert_neuron" or self.array == "tokens/router/weight":
            # (n_tokens, n_units, n_slots): at most one slot is that of the expert
            chosen = values[EXPERT_ID][:, self.layer] == self.inner[:, 0][None, :, None]
            slots = own[:, self.layer]
            if self.kind == "expert_neuron":
                slots = own[:, self.layer, :, self.inner[:, 1]].transpose(1, 0, 2)
            return np.where(chosen, slots, 0).sum(axis=2, dtype=np.float32)
        index = (slice(None), self.layer, *self.inner.T)
        return own[index].astype(np.float32)


def source_of(recording: Recording, activities: Sequence[Activity]) -> Source:
    """Place units of one kind and quantity in a recording.

    Parameters
    ----------
    recording : Recording
        The recording; it holds what is :func:`needed`.
    activities : sequence of Activity
        Of one kind and quantity.

    Returns
    -------
    Source
        In the same order.
    """
    kind, quantity = activities[0].kind, activities[0].quantity
    array = array_of(kind, quantity)
    node = array.rpartition("/")[0]
    layers = {int(layer): at for at, layer in enumerate(recording.array(f"{node}/layer")[:])}
    inner = [list(own.unit[1:]) for own in activities]
    if kind in {"residual", "layer"}:
        places = [str(name) for name in recording.array(f"{node}/place")[:]]
        inner = [[places.index(quantity), *own] for own in inner]
    return Source(
        kind,
        array,
        np.array([layers[own.unit[0]] for own in activities], dtype=np.int64),
        np.array(inner, dtype=np.int64).reshape(len(activities), -1),
    )
