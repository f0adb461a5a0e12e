"""What a plan may say: rules for one place of a subject each, as data.

A rule names its layer, and what is skipped there. Every rule has one meaning, which
:mod:`lmri.sparse.runtime` carries out on every backend:

====================  ============================================================================
rule                  what goes on
====================  ============================================================================
`InputThreshold`      a projection reads channel i of its input only where ``|x_i| > t_i``
`InputTopK`           a projection reads the k channels of largest ``|x_i| s_i``
`NeuronThreshold`     a neuron is computed only where ``|a_i| > t_i``, with ``a = act(gate)``
`GateCutoff`          the gate's activation is replaced: a rectifier, shifted, or a statistical cut
`KeptNeurons`         only these neurons of an MLP, of an expert or of the shared experts exist
`KeptHeads`           only these heads write
`SkippedExperts`      these experts are never run
`ExpertRatio`         a chosen expert is skipped where its weight is small beside the largest
`AttentionTopK`       a query attends to the keys whose score passes a statistical cut
`CacheHeads`          only these heads keep all keys and values
====================  ============================================================================

Thresholds are strict: a value equal to one is skipped. One exception, after its source: the shifted
rectifier of `GateCutoff` keeps a value equal to its shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

PROJECTIONS = (
    "query",
    "key",
    "value",
    "attention_output",
    "gate",
    "up",
    "down",
    "expert_gate",
    "expert_up",
    "expert_down",
    "shared_gate",
    "shared_up",
    "shared_down",
)
"""Linear projections of a block. An MLP without a gate has ``up`` (before the activation) and
``down``. A projection of experts is that of every expert of the layer."""

GROUPS = ("dense", "expert", "shared")
"""Where neurons are: in a dense MLP, in the experts of a layer, in the experts of every token."""

CUTOFFS = ("relu", "shifted_relu", "statistical")
"""What :class:`GateCutoff` does to the gate."""


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule for one layer.

    Attributes
    ----------
    layer : int
        The layer.
    """

    layer: int
    name: ClassVar[str]


@dataclass(frozen=True, eq=False)
class InputThreshold(Rule):
    """Channels of a projection's input that are read: those with ``|x_i| > t_i`` (TEAL, WINA).

    Attributes
    ----------
    projection : str
        One of :data:`PROJECTIONS`.
    threshold : Tensor of shape () or (channels,), float32
        In the unit of the input. For experts of shape () or (experts, channels).
    """

    projection: str
    threshold: Tensor
    name: ClassVar[str] = "input_threshold"


@dataclass(frozen=True, eq=False)
class InputTopK(Rule):
    """Channels of a projection's input that are read: the k of largest ``|x_i| s_i``.

    Exactly k: of equal scores the channels of lower index are read.

    Attributes
    ----------
    projection : str
        One of :data:`PROJECTIONS`.
    kept : int
        k, at least 1.
    scale : Tensor of shape (channels,), float32, or None
        ``s``, all 1 by default; norms of the weights' columns for WINA. For experts of shape
        (experts, channels).
    """

    projection: str
    kept: int
    scale: Tensor | None = None
    name: ClassVar[str] = "input_top_k"


@dataclass(frozen=True, eq=False)
class NeuronThreshold(Rule):
    """Neurons that are computed: those with ``|a_i| > t_i`` (CATS, CHESS).

    ``a`` is the gate after its activation function; where an MLP has no gate, the neurons
    themselves. Rows of ``up`` and columns of ``down`` of all others are skipped.

    Attributes
    ----------
    group : str
        One of :data:`GROUPS`.
    threshold : Tensor of shape () or (neurons,), float32
        In the unit of ``a``. For experts of shape () or (experts, neurons).
    """

    group: str
    threshold: Tensor
    name: ClassVar[str] = "neuron_threshold"


@dataclass(frozen=True, eq=False)
class GateCutoff(Rule):
    """Another function of the gate's preactivation ``g``; neurons it makes 0 are skipped.

    ``relu`` replaces the activation function by ``max(g, 0)``; ``shifted_relu`` (FATReLU) by ``g``
    where ``g >= value`` and 0 elsewhere; ``statistical`` (Spark) keeps the activation function and
    gives it ``max(g - theta, 0)`` with ``theta = mean(g) + std(g) value``.

    Attributes
    ----------
    group : str
        One of :data:`GROUPS`.
    cutoff : str
        One of :data:`CUTOFFS`.
    value : float
        The shift, above 0, or the normal quantile of the share that is cut; unused by ``relu``.
    """

    group: str
    cutoff: str
    value: float = 0.0
    name: ClassVar[str] = "gate_cutoff"


@dataclass(frozen=True, eq=False)
class KeptNeurons(Rule):
    """Neurons that exist; weights of all others are left out of packed copies.

    Attributes
    ----------
    group : str
        One of :data:`GROUPS`.
    neurons : tuple of int
        Ascending; may be empty.
    expert : int or None
        Of the group ``expert``: which.
    """

    group: str
    neurons: tuple[int, ...]
    expert: int | None = None
    name: ClassVar[str] = "kept_neurons"


@dataclass(frozen=True, eq=False)
class KeptHeads(Rule):
    """Heads that write into the residual; the outputs of all others are 0.

    Attributes
    ----------
    heads : tuple of int
        Ascending; may be empty.
    """

    heads: tuple[int, ...]
    name: ClassVar[str] = "kept_heads"


@dataclass(frozen=True, eq=False)
class SkippedExperts(Rule):
    """Experts that are never run.

    Attributes
    ----------
    experts : tuple of int
        Ascending.
    mode : str
        What becomes of a slot of the router: one of :data:`lmri.intervene.OFF_MODES`.
    """

    experts: tuple[int, ...]
    mode: str = "mask"
    name: ClassVar[str] = "skipped_experts"


@dataclass(frozen=True, eq=False)
class ExpertRatio(Rule):
    """A chosen expert is skipped where its weight is below a share of the token's largest.

    Attributes
    ----------
    ratio : float
        The share, in (0, 1); ``w_e < ratio * max(w)`` is skipped.
    renormalise : bool
        Whether the weights left are scaled to the sum of all.
    """

    ratio: float
    renormalise: bool = False
    name: ClassVar[str] = "expert_ratio"


@dataclass(frozen=True, eq=False)
class AttentionTopK(Rule):
    """Keys a query attends to: of score at least ``theta = mean + std * quantile(1 - k / n)``.

    Mean and standard deviation are over the n keys that the query may see; with n at most k all are
    kept. Scores below the cut are minus infinity before the softmax; the largest always stays.

    Attributes
    ----------
    kept : int
        k.
    """

    kept: int
    name: ClassVar[str] = "attention_top_k"


@dataclass(frozen=True, eq=False)
class CacheHeads(Rule):
    """Heads that keep all keys and values; the others keep sinks and a window (RazorAttention).

    Attributes
    ----------
    heads : tuple of int
        Heads of keys and values that keep everything, ascending.
    sinks : int
        First positions that every head keeps.
    window : int
        Last positions that every head keeps.
    compensation : bool
        Whether what was dropped is replaced by one key and value, the means of those dropped, with
        the weight of as many as they are.
    """

    heads: tuple[int, ...]
    sinks: int = 4
    window: int = 64
    compensation: bool = True
    name: ClassVar[str] = "cache_heads"


RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        InputThreshold,
        InputTopK,
        NeuronThreshold,
        GateCutoff,
        KeptNeurons,
        KeptHeads,
        SkippedExperts,
        ExpertRatio,
        AttentionTopK,
        CacheHeads,
    )
}
"""Rules by the name they have in a plan file."""
