"""Claims: what a finding says will happen, fixed with it before anything is evaluated.

Each kind of claim is a frozen dataclass. It is written into the finding, so that the hash of the
finding covers it: which units, what is done to them, the score, the arms that are compared, the
margin, the controls, the split and the trials. Validation reads it back and tests nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

OUTCOMES = ("holds", "fails", "undecided", "not testable")

SAME_PLACE = "same place"
"""The one rule by which units of two subjects are matched: same layer, same number."""

Unit = tuple[int, ...]


@dataclass(frozen=True)
class Where:
    """Trials of a task: those of some conditions, or all where none is named."""

    task: str
    conditions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name for tables, as ``events, sensitive``."""
        return ", ".join([self.task, *(["+".join(self.conditions)] if self.conditions else [])])


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a finding says of its units.

    Attributes
    ----------
    unit_kind : str
        Kind of the units.
    units : tuple of tuple of int
        The units, from the best.
    mode : str
        What is done to them.
    score : str
        Score of a trial.
    margin : float
        An effect within it is none.
    alpha : float
        Level of the test.
    trials : Where
        What is run.
    least : int
        Trials below which the claim is not testable.
    split : str
        Split of the trials.

    Notes
    -----
    The class says what is the same for all claims of its kind: ``arms`` (the two that are compared,
    the intervention first), ``controls`` and ``family`` (claims that are corrected together).
    """

    unit_kind: str
    units: tuple[Unit, ...]
    mode: str
    score: str
    margin: float
    alpha: float
    trials: Where
    least: int
    split: str = "evaluation"

    kind: ClassVar[str]
    arms: ClassVar[tuple[str, str]] = ("off", "intact")
    controls: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "secondary"

    @property
    def name(self) -> str:
        """What tells it from the other claims of its finding."""
        return self.kind

    @property
    def statement(self) -> str:
        """What is claimed, in one sentence."""
        raise NotImplementedError

    @property
    def statistic(self) -> str:
        """Score and contrast of arms."""
        return f"{self.score}: {self.arms[0]} - {self.arms[1]}"

    @property
    def _those(self) -> str:
        count = len(self.units)
        noun = self.unit_kind.replace("_", " ") + ("" if count == 1 else "s")
        return f"the {noun}" if count == 1 else f"the {count} {noun}"

    def to_dict(self) -> dict[str, Any]:
        """Return the claim as plain JSON values, with what its kind fixes."""
        fixed = {
            "kind": self.kind,
            "arms": list(self.arms),
            "controls": list(self.controls),
            "family": self.family,
        }
        return {**fixed, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Necessity(Claim):
    """Without the units the behaviour falls, beyond the sham maps: the primary endpoint."""

    kind: ClassVar[str] = "necessity"
    controls: ClassVar[tuple[str, ...]] = ("sham maps", "positive control")
    family: ClassVar[str] = "primary"

    @property
    def statement(self) -> str:
        """See :class:`Claim`."""
        return (
            f"With {self._those} off, {self.score} falls by more than {self.margin:g} in "
            f"{self.trials.name}, more than with those of sham maps."
        )


@dataclass(frozen=True, kw_only=True)
class Specificity(Claim):
    """Without the units every bystander stays within the margin: part of the primary rule.

    Attributes
    ----------
    bystanders : tuple of Where
        What must stay; ``trials`` is the first of them.
    needed : tuple of int
        Trials that each needs for the margin, planned on calibration trials.
    """

    bystanders: tuple[Where, ...]
    needed: tuple[int, ...] = ()

    kind: ClassVar[str] = "specificity"
    family: ClassVar[str] = "primary"

    @property
    def statement(self) -> str:
        """See :class:`Claim`."""
        names = "; ".join(place.name for place in self.bystanders)
        return (
            f"With {self._those} off, {self.score} stays within {self.margin:g} in each of: {names}"
            "."
        )


@dataclass(frozen=True, kw_only=True)
class Sufficiency(Claim):
    """With all other units of the kind off the behaviour stays, as with no sham map's kept."""

    kind: ClassVar[str] = "sufficiency"
    arms: ClassVar[tuple[str, str]] = ("only these kept", "intact")
    controls: ClassVar[tuple[str, ...]] = ("sham maps kept",)

    @property
    def statement(self) -> str:
        """See :class:`Claim`."""
        return (
            f"With only {self._those} kept and all others of the kind off, {self.score} falls by "
            f"less than {self.margin:g} in {self.trials.name}; with only those of sham maps it "
            "falls more."
        )


@dataclass(frozen=True, kw_only=True)
class Dose(Claim):
    """More of the units off do more.

    Attributes
    ----------
    doses : tuple of int
        Numbers of leading units that are switched off.
    """

    doses: tuple[int, ...]

    kind: ClassVar[str] = "dose"
    arms: ClassVar[tuple[str, str]] = ("largest dose off", "smallest dose off")

    @property
    def statement(self) -> str:
        """See :class:`Claim`."""
        steps = ", ".join(map(str, self.doses))
        return (
            f"With {steps} units off, {self.score} falls further from the first dose to the last "
            f"in {self.trials.name}, and at no step rises again by {self.margin:g}."
        )


@dataclass(frozen=True, kw_only=True)
class Cumulativity(Claim):
    """All of the units do more than either half of them.

    Attributes
    ----------
    parts : tuple of tuple of tuple of int
        Both halves, ranks taken in turn.
    """

    parts: tuple[tuple[Unit, ...], ...]

    kind: ClassVar[str] = "cumulativity"
    arms: ClassVar[tuple[str, str]] = ("all off", "one half off")

    @property
    def statement(self) -> str:
        """See :class:`Claim`."""
        return (
            f"With {self._those} off, {self.score} falls in {self.trials.name} by more than "
            f"{self.margin:g} further than with either half of them off."
        )


@dataclass(frozen=True, kw_only=True)
class Jointness(Claim):
    """Units that stand in for each other: no part alone does anything, together they do.

    Attributes
    ----------
    parts : tuple of tuple of tuple of int
        What is switched off alone.
    """

    parts: tuple[tuple[Unit, ...], ...]

    kind: ClassVar[str] = "jointness"
    arms: ClassVar[tuple[str, str]] = ("all off", "intact")
    controls: ClassVar[tuple[str, ...]] = ("each part off alone",)

    @property
    def statement(self) -> str:
        """See :class:`Claim`."""
        return (
            f"With {self._those} off together, {self.score} falls by more than {self.margin:g} in "
            f"{self.trials.name}; with any of {len(self.parts)} parts of them off alone it stays "
            "within the margin."
        )


@dataclass(frozen=True, kw_only=True)
class Interference(Claim):
    """Without the units another behaviour improves."""

    kind: ClassVar[str] = "interference"

    @property
    def name(self) -> str:
        """See :class:`Claim`."""
        return f"{self.kind}: {self.trials.name}"

    @property
    def statement(self) -> str:
        """See :class:`Claim`."""
        return (
            f"With {self._those} off, {self.score} rises by more than {self.margin:g} in "
            f"{self.trials.name}."
        )


@dataclass(frozen=True, kw_only=True)
class Transfer(Claim):
    """The units do the same elsewhere: in other stimuli, or in another subject.

    Attributes
    ----------
    source : str
        Subject that the finding is of.
    subject : str
        Subject that is run; the same for other stimuli.
    rule : str
        How units are matched between subjects.
    """

    source: str
    subject: str
    rule: str = SAME_PLACE

    kind: ClassVar[str] = "transfer"
    controls: ClassVar[tuple[str, ...]] = ("sham maps",)

    @property
    def name(self) -> str:
        """See :class:`Claim`."""
        return f"{self.kind}: {_place_of(self.trials, self.source, self.subject)}"

    @property
    def statement(self) -> str:
        """See :class:`Claim`."""
        where = (
            ""
            if self.subject == self.source
            else f" of the subject '{self.subject}', at the same places as in '{self.source}'"
        )
        return (
            f"With {self._those}{where} off, {self.score} falls by more than {self.margin:g} in "
            f"{self.trials.name}, more than with those of sham maps."
        )


@dataclass(frozen=True, kw_only=True)
class Repair(Claim):
    """Clamped to what they do where the behaviour is, the units bring it where it is not.

    Attributes
    ----------
    source : str
        Subject whose activity is clamped to.
    source_trials : Where
        Trials of it, of the selection split, whose mean activity that is.
    subject : str
        Subject that is mended.
    rule : str
        How units are matched between subjects.
    """

    source: str
    source_trials: Where
    subject: str
    rule: str = SAME_PLACE

    kind: ClassVar[str] = "repair"
    arms: ClassVar[tuple[str, str]] = ("clamped", "intact")
    controls: ClassVar[tuple[str, ...]] = ("sham maps clamped",)

    @property
    def name(self) -> str:
        """See :class:`Claim`."""
        return f"{self.kind}: {_place_of(self.trials, self.source, self.subject)}"

    @property
    def statement(self) -> str:
        """See :class:`Claim`."""
        where = "" if self.subject == self.source else f" of the subject '{self.subject}'"
        how = (
            "forced on"
            if self.mode == "force"
            else f"held at their means in {self.source_trials.name} of '{self.source}'"
        )
        return (
            f"With {self._those}{where} {how}, {self.score} rises by more than {self.margin:g} in "
            f"{self.trials.name}, more than with those of sham maps."
        )


CLAIMS: dict[str, type[Claim]] = {
    kind.kind: kind
    for kind in (
        *(Necessity, Specificity, Sufficiency, Dose, Cumulativity, Jointness, Interference),
        *(Transfer, Repair),
    )
}
"""Kinds of claims."""


def _place_of(trials: Where, source: str, subject: str) -> str:
    return trials.name if subject == source else f"{trials.name} in {subject}"
