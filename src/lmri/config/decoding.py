"""The section ``decode`` of a study: what is read from layers, and how."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from lmri.checks import quoted
from lmri.config.options import Options

TOKEN_ANALYSES = ("trace", "bags")
"""Analyses that read every token."""

COUNTED = re.compile(
    r"(prompt_last|(?:system|content|response|think)_(?:first|last))([+-]\d{1,4})?"
)
"""Names of positions that are counted from an event."""


@dataclass(frozen=True)
class LabelOptions(Options):
    """A column of the trials of a task that is decoded."""

    task: str
    column: str = "condition"


@dataclass(frozen=True)
class DecodeOptions(Options):
    """What is decoded from activity; without ``analyses`` nothing is.

    ``labels`` are columns of the trials of tasks; left out, the condition of every task. Contrasts
    between conditions are decoded besides. ``quantity`` is what is decoded from. ``positions`` are
    phases or tokens; left out, the phases of the maps, and around the end of the prompt and of the
    response where every token is recorded. ``folds`` are parts of each carrier. ``draws`` of
    exchanged labels make the null, ``control_draws`` the control task, ``mask_draws`` the random
    masks beside one of at most ``mask_units`` mapped units. The trace reads ``before`` and
    ``after`` tokens around the end of the prompt; a bag is the last ``bag`` tokens of a prompt.
    Conformal sets miss at most ``alpha``.
    """

    analyses: tuple[str, ...] = ()
    labels: tuple[LabelOptions, ...] = field(default=(), metadata={"section": LabelOptions})
    quantity: str = "residual"
    positions: tuple[str, ...] = ()
    folds: int = 4
    draws: int = 199
    control_draws: int = 20
    mask_draws: int = 50
    mask_units: int = 8
    before: int = 12
    after: int = 8
    bag: int = 8
    alpha: float = 0.1

    def problems(
        self, tasks: Collection[str], quantities: Sequence[str], full: Sequence[str]
    ) -> Iterator[str]:
        """Find what the recordings of a study cannot give.

        Parameters
        ----------
        tasks : collection of str
            Tasks of the study.
        quantities, full : sequence of str
            Quantities that are recorded, and those that every token is recorded of.

        Yields
        ------
        str
            One line for each, naming the key.
        """
        for index, label in enumerate(self.labels):
            if label.task not in tasks:
                yield (
                    f"'decode.labels.{index}.task' must be one of {quoted(tasks)}. Got "
                    f"'{label.task}'."
                )
        if not self.analyses:
            return
        if self.quantity not in quantities:
            yield (
                f"'decode.quantity' must be recorded. Got '{self.quantity}': add it to "
                f"'record.quantities' ({quoted(quantities)})."
            )
        wanting = [
            f"'{name}' of 'decode.analyses'" for name in self.analyses if name in TOKEN_ANALYSES
        ]
        wanting += [f"'{own}' of 'decode.positions'" for own in self.positions if needs_tokens(own)]
        if wanting and self.quantity not in full:
            yield (
                f"'record.full' must have '{self.quantity}', since {wanting[0]} reads single "
                f"tokens. It has {quoted(full)}: add it, or leave the other out."
            )


def counted_position(name: str) -> tuple[str, int] | None:
    """Take a position that is counted from an event apart.

    Parameters
    ----------
    name : str
        For example ``response_last-1``.

    Returns
    -------
    tuple of (str, int) or None
        The event and the tokens after it; None of another name.
    """
    found = COUNTED.fullmatch(name)
    return None if found is None else (found[1], int(found[2] or 0))


def needs_tokens(name: str) -> bool:
    """Whether a position can only be read where every token is recorded."""
    found = counted_position(name)
    return found is not None and (found[1] != 0 or found[0].endswith("_first"))
