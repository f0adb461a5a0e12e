"""The sections of a study, one frozen dataclass each; the defaults of a study live here.

The fields are the keys of the YAML file (``config/config.yaml`` says what each one does). Every
section is made by ``from_dict`` and written back by ``to_dict``, which is plain JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from lmri.checks import quoted
from lmri.errors import ConfigError

SPLITS = ("selection", "calibration", "evaluation")


@dataclass(frozen=True)
class Options:
    """A section of the configuration."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the section from plain values; keys left out take their defaults.

        Parameters
        ----------
        values : mapping
            Keys and values of the section, as read from YAML or JSON.

        Returns
        -------
        Options
            The section; lists have become tuples.

        Raises
        ------
        ConfigError
            If a key is unknown or one without a default is missing.
        """
        known = {item.name: item.metadata.get("section") for item in fields(cls)}
        unknown = [key for key in values if key not in known]
        if unknown:
            raise ConfigError(
                f"{cls.__name__}: unknown key '{unknown[0]}'. Allowed: {quoted(known)}."
            )
        try:
            return cls(**{key: _typed(value, known[key]) for key, value in values.items()})
        except TypeError as error:
            raise ConfigError(f"{cls.__name__}: {error}. Got the keys {quoted(values)}.") from None

    def to_dict(self) -> dict[str, Any]:
        """Return the section as plain JSON values, without keys that are None or empty.

        Returns
        -------
        dict
            What :meth:`from_dict` reads back to an equal section.
        """
        values = {item.name: _plain(getattr(self, item.name)) for item in fields(self)}
        return {key: value for key, value in values.items() if value not in (None, [])}


def _typed(value: Any, kind: type[Options] | None) -> Any:
    if kind is not None and isinstance(value, Mapping):
        return kind.from_dict(value)
    if isinstance(value, list | tuple):
        return tuple(_typed(item, kind) for item in value)
    return dict(value) if isinstance(value, Mapping) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Options):
        return value.to_dict()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class WorldOptions(Options):
    """The synthetic world that embedded subjects know."""

    seed: int = 0
    size: str = "default"


@dataclass(frozen=True)
class LoadOptions(Options):
    """How the weights of a subject become a model in memory, and how it is run.

    ``device_map`` spreads the model over devices and replaces ``device``. Without ``attention``
    or ``experts`` transformers chooses: sdpa and grouped_mm where the architecture has them,
    else eager. ``max_think_tokens`` closes a thought of a subject that thinks; without it thought
    and answer share the limit of a response.
    """

    dtype: str = "float32"
    device: str = "cpu"
    device_map: str | None = None
    attention: str | None = None
    experts: str | None = None
    max_think_tokens: int | None = None


LOAD_KEYS = tuple(item.name for item in fields(LoadOptions))
"""Keys of a subject that say how it is loaded: preparing it does not depend on them."""


@dataclass(frozen=True)
class SubjectOptions(Options):
    """One model at one state; ``source`` says which of the other fields it has.

    ``embedded`` has a ``state``; ``trained`` a ``base_seed``, a ``state`` and a ``seed`` (by
    default the base's); ``base`` a ``base_seed`` and a ``step``; ``directory`` a ``path``;
    ``hub`` an ``id`` and a ``revision``. Any may have a ``series`` with its ``step`` in it, and
    the keys of `LoadOptions`.
    """

    name: str
    source: str
    state: str | None = None
    base_seed: int | None = None
    seed: int | None = None
    path: str | None = None
    id: str | None = None
    revision: str | None = None
    series: str | None = None
    step: int | None = None
    dtype: str | None = None
    device: str | None = None
    device_map: str | None = None
    attention: str | None = None
    experts: str | None = None
    max_think_tokens: int | None = None

    @property
    def origin(self) -> str:
        """What makes units correspond: a series, or the base; empty for a subject on its own."""
        if self.series is not None:
            return self.series
        if self.source == "embedded":
            return self.source  # they were all trained from one base
        return "" if self.base_seed is None else f"base_{self.base_seed}"

    def __post_init__(self) -> None:
        """Fill in the seed of a trained subject."""
        if self.source == "trained" and self.seed is None:
            object.__setattr__(self, "seed", self.base_seed)

    @property
    def load(self) -> LoadOptions:
        """How it is loaded, the defaults filled in."""
        given = {key: getattr(self, key) for key in LOAD_KEYS}
        return LoadOptions(**{key: value for key, value in given.items() if value is not None})


@dataclass(frozen=True)
class SplitOptions(Options):
    """Shares of the carriers in each split; they sum to 1."""

    selection: float = 0.34
    calibration: float = 0.16
    evaluation: float = 0.5


@dataclass(frozen=True)
class TemplateOptions(Options):
    """How the trials of a task become what a subject reads.

    ``kind`` is ``none`` (the prompt as it is), ``text`` (``text`` with the prompt in the place of
    ``{prompt}``), or ``chat`` (the chat template of the subject, with ``arguments``, and ``date``
    where it writes the day). ``special_tokens`` adds what the tokenizer adds to a text by itself,
    such as a first token; chat templates write their own. ``too_long`` is ``error`` or
    ``truncate``. It travels with the table of stimuli, so that every stage reads the same prompts.
    """

    kind: str = "none"
    text: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    date: str = "2026-01-01"
    special_tokens: bool = True
    too_long: str = "error"


@dataclass(frozen=True)
class TaskOptions(Options):
    """A set of stimuli: a task of the world, a table with its own carriers, or a probe of heads.

    ``splits`` replaces the shares of the study for this task, ``trials`` bounds their number.
    A ``probe`` is ``repeated`` or ``needle``, in ``words`` of the ``world`` or ``plain`` ones, with
    texts of several ``lengths`` and needles at several ``depths``; see `lmri.stimuli.probes`.
    """

    name: str
    source: str
    path: str | None = None
    carriers: tuple[str, ...] = ()
    template: TemplateOptions = field(
        default_factory=TemplateOptions, metadata={"section": TemplateOptions}
    )
    splits: SplitOptions | None = field(default=None, metadata={"section": SplitOptions})
    trials: int | None = None
    probe: str | None = None
    words: str | None = None
    lengths: tuple[int, ...] = ()
    depths: tuple[float, ...] = ()


@dataclass(frozen=True)
class LesionOptions(Options):
    """Experts, as [layer, expert], that a subject is recorded without."""

    units: tuple[tuple[int, int], ...]
    mode: str = "mask"


@dataclass(frozen=True)
class RecordOptions(Options):
    """What is recorded, of which trials, in how many stores.

    ``full`` names the quantities that are kept for every token, besides ids and weights of
    experts. ``next_token`` is whether log-probabilities and entropies of the next token are kept,
    which need all logits. ``stored`` is the type of states and neurons in full. ``temperature`` 0
    takes the most likely token; above 0 every trial is sampled ``repeats`` times. ``non_finite`` is
    ``stop`` or ``count``. ``when`` is ``after`` the response is complete, in one pass, or
    ``during`` its generation. ``without`` are experts that are switched off all the while.
    """

    splits: tuple[str, ...] = ("selection", "calibration")
    max_new_tokens: int = 10
    temperature: float = 0.0
    top_p: float = 1.0
    repeats: int = 1
    shards: int = 1
    rows: int = 128
    batch_tokens: int = 16384
    padding: float = 0.1
    quantities: tuple[str, ...] = ("router", "layer", "head", "attention")
    full: tuple[str, ...] = ()
    next_token: bool = True
    stored: str = "float16"
    compression: str = "zstd"
    non_finite: str = "stop"
    when: str = "after"
    without: LesionOptions | None = field(default=None, metadata={"section": LesionOptions})


@dataclass(frozen=True)
class ConditionOptions(Options):
    """A condition of a task; all its conditions together when ``condition`` is None."""

    task: str
    condition: str | None = None


@dataclass(frozen=True)
class RandomSplitOptions(Options):
    """Half of the carriers of one condition against the other half, drawn by ``seed``."""

    condition: str
    carrier: str
    seed: int = 0


@dataclass(frozen=True)
class ContrastOptions(Options):
    """Condition against condition of a task: target minus the mean of the controls."""

    name: str
    task: str
    role: str = "exploratory"
    target: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    interaction: dict[str, float] | None = None
    null_condition: str | None = None
    within: str | None = None
    bystanders: tuple[ConditionOptions, ...] = field(
        default=(), metadata={"section": ConditionOptions}
    )
    transfer: ConditionOptions | None = field(default=None, metadata={"section": ConditionOptions})
    random_split: RandomSplitOptions | None = field(
        default=None, metadata={"section": RandomSplitOptions}
    )

    @property
    def sham_condition(self) -> str | None:
        """Condition whose carriers sham maps split: ``null_condition``, else an only control."""
        if self.null_condition is None and len(self.controls) == 1:
            return self.controls[0]
        return self.null_condition


@dataclass(frozen=True)
class ProbeOptions(Options):
    """Maps of heads and layers that need no contrast, from any task that is recorded.

    ``repeated`` and ``needle`` name tasks that repeat tokens (in the span ``repeating``) and ask
    for a needle; ``phase`` is that of active and dormant heads.
    """

    repeated: str | None = None
    repeating: str = "content"
    needle: str | None = None
    phase: str = "content"


@dataclass(frozen=True)
class CausalOptions(Options):
    """Causal localisers: what changes a logit difference when it is patched.

    ``contrasts`` name the contrasts whose targets (clean) and controls (corrupted) are paired;
    ``correct`` and ``wrong`` the columns whose first tokens are compared, of the clean and of the
    corrupted trial. ``shams`` re-run the selection on null carriers, which takes as long as the
    map each time; without any a map has no finding. ``primary`` names a map, as <kind>.<method>,
    that takes the place of the first of ``maps`` as the primary one of its contrasts.
    """

    contrasts: tuple[str, ...]
    methods: tuple[str, ...] = (
        *("direct", "attribution_patching", "relp"),
        *("patch_denoise", "patch_noise"),
    )
    kinds: tuple[str, ...] = ("expert", "head")
    role_kinds: tuple[str, ...] = ("residual", "attention", "mlp")
    position: str = "all"
    correct: str = "reference"
    wrong: str = "reference"
    metric: str = "recovery"
    pairs: int | None = 64
    sample: int = 64
    most_patched: int = 4096
    shams: bool = False
    dictionary: str | None = None
    primary: str | None = None


@dataclass(frozen=True)
class LocaliseOptions(Options):
    """Maps and phases (the first of each is primary) and numbers of relabellings."""

    maps: tuple[str, ...] = ("expert.resonance",)
    phases: tuple[str, ...] = ("prompt_last", "content", "response")
    permutations: int = 2000
    null_splits: int = 100
    pooling: str = "mean"
    confounds: tuple[str, ...] = ()
    probes: ProbeOptions | None = field(default=None, metadata={"section": ProbeOptions})
    causal: CausalOptions | None = field(default=None, metadata={"section": CausalOptions})


def needed_draws(claims: int, alpha: float) -> int:
    """Count the control draws that the smallest rank p needs to be significant among claims.

    Parameters
    ----------
    claims : int
        Claims that are corrected for each other.
    alpha : float
        Level.

    Returns
    -------
    int
        ``ceil(claims / alpha) - 1``.
    """
    # Rounded first: 3 / .03 is 100.00000000000001 in floating point.
    return math.ceil(round(claims / alpha, 6)) - 1


@dataclass(frozen=True)
class EvidenceOptions(Options):
    """The rule of the verdict, copied into every finding before evaluation.

    ``mode`` is that of experts; ``unit_mode`` that of units of other kinds, where they have it, by
    default ``mean`` of dimensions and sites of the residual and ``zero`` of the rest. ``gain`` is
    the factor of the mode of that name. ``stop_after`` so many sham maps that do as much no more
    are run (Besag and Clifford); by default all are.
    """

    score: str = "refusal_onset"
    baseline_target: float = 0.8
    baseline_control: float = 0.2
    alpha: float = 0.05
    doses: tuple[int, ...] = (1, 2, 4, 8)
    neuron_doses: tuple[int, ...] = (8, 32, 128, 512)
    target_effect: float = 0.5
    mode: str = "mask"
    unit_mode: str | None = None
    gain: float | None = None
    margin: float = 0.1
    minimum_trials: int = 150
    minimum_target_trials: int = 60
    shams: int = 99
    stop_after: int | None = None
    exploratory_shams: int = 20
    matched_draws: int = 20
    coherent_share: float = 0.9

    def doses_of(self, kind: str) -> tuple[int, ...]:
        """Numbers of units of a kind that are switched off.

        Parameters
        ----------
        kind : str
            Kind of the units.

        Returns
        -------
        tuple of int
            ``neuron_doses`` for neurons and dimensions of the residual, of which there are many;
            ``doses`` for experts, heads, layers, features and sites of the residual.
        """
        many = {"neuron", "shared_neuron", "expert_neuron", "residual"}
        return self.neuron_doses if kind in many else self.doses

    def sham_draws(self, claims: int) -> int:
        """Count the sham maps of a primary endpoint: at least 20 m - 1 for m claims.

        Parameters
        ----------
        claims : int
            Primary claims of the study.

        Returns
        -------
        int
            The largest of ``shams``, 20 × claims - 1 and claims / ``alpha`` - 1: with fewer
            draws not even the most extreme rank is significant after the correction.
        """
        return max(self.shams, 20 * claims - 1, needed_draws(claims, self.alpha))


@dataclass(frozen=True)
class ReportOptions(Options):
    """What the report shows."""

    transcripts: int = 10
    redact: str = "none"
