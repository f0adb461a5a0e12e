"""Measures: which map is asked for by a name, and the values it is computed from.

A map is named ``<kind>.<statistic>`` or ``<kind>.<quantity>.<statistic>``: ``head.welch_t`` is the
t of the norms of head outputs, ``head.entropy.welch_t`` that of the entropies of their attention.
The first quantity of a kind is meant where none is named. ``neuron.preactivation.mean_difference``
is the score by which Effective Skill Unlearning (arXiv:2503.21730) describes its choice of neurons:
how much larger what their activation function reads is in the target. ``expert.resonance`` and
``expert.risk_difference`` are computed from counts of tokens, the others from values by trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmri.anatomy import ATTENTION_SUMMARIES, Anatomy
from lmri.checks import check_choice, quoted
from lmri.errors import ConfigError, EvidenceError
from lmri.localise.expert_values import ExpertNeurons, ExpertRates
from lmri.localise.statistics import STATISTICS
from lmri.localise.units import Units
from lmri.localise.values import Pooled, Reader, Rows
from lmri.store import Recording

COUNTED = ("resonance", "risk_difference")
"""Statistics of counted choices: only of experts, without a quantity."""

PLACES = ("after", "mid", "before")

QUANTITIES: dict[str, tuple[str, ...]] = {
    "expert": ("rate", "logits"),
    "neuron": ("activation", "preactivation"),
    "shared_neuron": ("activation",),
    "expert_neuron": ("unconditional", "conditional"),
    "head": ("norm", "value_norm", *ATTENTION_SUMMARIES),
    "residual": PLACES,
    "layer": PLACES,
}
"""Quantities of every kind of unit; the first is the default."""

NEEDED = {
    "expert": "router",
    "neuron": "neuron",
    "shared_neuron": "neuron",
    "expert_neuron": "neuron",
    "head": "head",
    "residual": "residual",
    "layer": "layer",
}
"""The entry of ``record.quantities`` that the first quantity of a kind is recorded with."""


@dataclass(frozen=True)
class Measure:
    """A kind of unit, a quantity of it and a statistic.

    Attributes
    ----------
    name : str
        As in the configuration.
    kind, quantity, statistic : str
        Its parts.
    """

    name: str
    kind: str
    quantity: str
    statistic: str

    @property
    def method(self) -> str:
        """The name without the kind."""
        return self.name.partition(".")[2]

    @property
    def counted(self) -> bool:
        """Whether it is computed from counts of tokens."""
        return self.statistic in COUNTED

    @property
    def two_sided(self) -> bool:
        """Whether units that fall in the target count like those that rise."""
        if self.counted:
            return self.statistic == "risk_difference"
        return STATISTICS[self.statistic].two_sided


def parse_measure(name: str, owner: str = "'localise.maps'") -> Measure:
    """Read the name of a map.

    Parameters
    ----------
    name : str
        ``<kind>.<statistic>`` or ``<kind>.<quantity>.<statistic>``.
    owner : str
        What names it, for errors.

    Returns
    -------
    Measure
        The measure.

    Raises
    ------
    ConfigError
        If the kind, quantity or statistic is unknown, or they do not go together.
    """
    parts = name.split(".")
    if len(parts) not in {2, 3}:
        raise ConfigError(
            f"The entries of {owner} must be <kind>.<statistic> or <kind>.<quantity>.<statistic>. "
            f"Got {name!r}."
        )
    kind, statistic = parts[0], parts[-1]
    check_choice(kind, QUANTITIES, "kind", f"{owner} ({name!r})", ConfigError)
    allowed = [*(COUNTED if kind == "expert" else ()), *STATISTICS]
    check_choice(statistic, allowed, "statistic", f"{owner} ({name!r})", ConfigError)
    quantity = parts[1] if len(parts) == 3 else QUANTITIES[kind][0]
    check_choice(quantity, QUANTITIES[kind], "quantity", f"{owner} ({name!r})", ConfigError)
    if statistic in COUNTED and len(parts) == 3:
        raise ConfigError(
            f"{owner}: '{statistic}' counts choices of experts and has no quantity. Got {name!r}."
        )
    return Measure(name, kind, quantity, statistic)


def has_units(kind: str, anatomy: Anatomy) -> bool:
    """Whether a subject has units of a kind.

    Parameters
    ----------
    kind : str
        The kind.
    anatomy : Anatomy
        Of the subject.

    Returns
    -------
    bool
        No experts in a dense subject; no dense neurons where all layers have experts; no shared
        ones where no expert always runs.
    """
    if kind in {"expert", "expert_neuron"}:
        return bool(anatomy.moe_layers)
    if kind == "neuron":
        return bool(anatomy.dense_layers)
    if kind == "shared_neuron":
        return bool(anatomy.shared_layers)
    return True


def open_values(measure: Measure, rows: Rows, phase: str, pooling: str, anatomy: Anatomy) -> Reader:
    """Find the values of a measure in recordings.

    Parameters
    ----------
    measure : Measure
        Kind and quantity.
    rows : Rows
        Trials and shards.
    phase : str
        The phase.
    pooling : str
        How its tokens become one value: ``mean``, ``last`` or ``sum``. The rates of experts and
        their neurons are means by definition.
    anatomy : Anatomy
        Of the subject.

    Returns
    -------
    Reader
        Reads the values in blocks.

    Raises
    ------
    EvidenceError
        If the recordings do not hold the quantity or the phase.
    """
    recording = rows.recordings[0]
    if measure.kind == "expert" and measure.quantity == "rate":
        layers = recording.array("tokens/router/layer")[:]
        return ExpertRates(Units.of("expert", layers, anatomy.experts), rows, phase)
    if measure.kind == "expert_neuron":
        _check_expert_neurons(recording, measure)
        sizes = anatomy.experts, anatomy.expert_size
        units = Units.of("expert_neuron", anatomy.moe_layers, *sizes)
        return ExpertNeurons(units, rows, phase, measure.quantity == "conditional")
    path = _path(measure)
    if not recording.holds(path):
        raise _missing(recording, measure, path)
    array = recording.array(path)
    node = path.rpartition("/")[0]
    phases = [str(name) for name in recording.array(f"{node}/phase")[:]]
    if phase not in phases:
        raise EvidenceError(
            f"{recording.path}: the phase '{phase}' of 'localise.phases' is not pooled there. "
            f"Recorded are {quoted(phases)}."
        )
    sizes = [n for d, n in zip(array.dims, array.shape, strict=True) if d in _UNIT_DIMS]
    layers = recording.array(f"{node}/layer")[:]
    place = measure.quantity if measure.kind in {"residual", "layer"} else None
    units = Units.of(measure.kind, layers, *sizes)
    return Pooled(units, rows, path, phase, pooling, place)


_UNIT_DIMS = {"expert", "neuron", "head", "dim"}


def _path(measure: Measure) -> str:
    kind, quantity = measure.kind, measure.quantity
    if kind == "head" and quantity in ATTENTION_SUMMARIES:
        return f"pooled/attention/{quantity}"
    if kind == "neuron" and quantity == "preactivation":
        return "pooled/preactivation/preactivation"
    node = {"expert": "router"}.get(kind, kind)
    variable = {"residual": "residual", "layer": "norm"}.get(kind, quantity)
    return f"pooled/{node}/{variable}"


def _check_expert_neurons(recording: Recording, measure: Measure) -> None:
    paths = ("tokens/expert_neuron/activation", "pooled/expert_neuron/sum")
    if not any(recording.holds(path) for path in paths):
        raise _missing(recording, measure, paths[0])


def needed_quantity(measure: Measure) -> str:
    """Entry of ``record.quantities`` that a measure is recorded with."""
    if measure.kind == "head" and measure.quantity in ATTENTION_SUMMARIES:
        return "attention"
    if measure.quantity == "preactivation":
        return "preactivation"
    return NEEDED[measure.kind]


def _missing(recording: Recording, measure: Measure, path: str) -> EvidenceError:
    needed = needed_quantity(measure)
    return EvidenceError(
        f"{recording.path}: the map '{measure.name}' of 'localise.maps' needs '{path}', which is "
        f"not recorded. Add '{needed}' to 'record.quantities'."
    )


def available(measures: Sequence[Measure], anatomy: Anatomy) -> list[Measure]:
    """Measures of kinds that a subject has, in order."""
    return [measure for measure in measures if has_units(measure.kind, anatomy)]
