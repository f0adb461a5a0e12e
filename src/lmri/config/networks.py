"""Sections of a study for how units work together, and for what subjects share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmri.checks import quoted
from lmri.config.options import Options

if TYPE_CHECKING:
    from lmri.config.study import StudyConfig


@dataclass(frozen=True)
class ConnectOptions(Options):
    """How units of a subject work together; without ``kinds`` nothing is told of it.

    ``tasks`` are those of all contrasts, and ``phases`` those of the maps, where they are left out.
    Of more units than ``nodes`` the most variable ones are compared. ``draws`` are those of every
    null but the rewired graphs, of which there are ``rewirings``; ``density`` is the share of edges
    that a graph keeps, and ``runs`` are those that communities must agree on.
    """

    kinds: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    nodes: int = 256
    density: float = 0.1
    draws: int = 199
    rewirings: int = 99
    runs: int = 20


@dataclass(frozen=True)
class AlignOptions(Options):
    """What subjects share whose units do not correspond; without ``quantities`` nothing is told.

    ``tasks`` and ``phases`` as for :class:`ConnectOptions`. Spaces of ``dimensions`` are fitted on
    trials of the split ``fit`` and scored on those of ``score``. ``draws`` are those of every null
    and interval. Decoders of a new subject are told ``counts`` trials of each condition, drawn
    ``repeats`` times.
    """

    quantities: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    fit: str = "selection"
    score: str = "calibration"
    dimensions: int = 20
    draws: int = 199
    counts: tuple[int, ...] = (1, 2, 4, 8)
    repeats: int = 10


def network_problems(study: StudyConfig) -> Iterator[str]:
    """Yield what no schema can say of both sections.

    Parameters
    ----------
    study : StudyConfig
        Sections that fit the schema.

    Yields
    ------
    str
        One line for each problem.
    """
    for section in ("connect", "align"):
        for task in getattr(study, section).tasks:
            if task not in study.tasks:
                yield f"'{section}.tasks' must be of {quoted(study.tasks)}. Got '{task}'."
    own = study.align
    if own.fit == own.score:
        yield (
            "'align.score' must be another split than 'align.fit': what was fitted on a trial is "
            f"not scored on it. Got '{own.score}' for both."
        )
    if not own.quantities:
        return
    if len(study.subjects) < 2:
        yield (
            "'subjects' must be 2 or more for 'align.quantities', which compares them. Got "
            f"{len(study.subjects)}."
        )
    for key in ("fit", "score"):
        if getattr(own, key) not in study.record.splits:
            yield (
                f"'align.{key}' must be one of 'record.splits' ({quoted(study.record.splits)}). "
                f"Got '{getattr(own, key)}'."
            )
