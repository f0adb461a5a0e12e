"""What experiments on sets of units share: statements against random sets, and doses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmri.checks import quoted
from lmri.experiment.measuring import stated
from lmri.experiment.outcome import Statement
from lmri.validate.change import Change
from lmri.validate.statistics import nothing_to_lose

PROBABILITY = "probability of the right answer"
"""The endpoint: of the whole answer, teacher-forced."""


def beyond_random(
    claim: str,
    statement: str,
    change: Change,
    threshold: float,
    draws: Sequence[float],
    controls: str,
    needed: int,
) -> Statement:
    """State that an effect is above a threshold, and larger than under random sets.

    Parameters
    ----------
    claim, statement : str
        Name and sentence.
    change : Change
        In the direction that is claimed.
    threshold : float
        What the effect must be above.
    draws : sequence of float
        Effects of the random sets.
    controls : str
        What these are.
    needed : int
        Draws without which p could not be small enough after correction.

    Returns
    -------
    Statement
        Not testable with fewer draws than needed.
    """
    if len(draws) < needed:
        reason = f"there are {len(draws)} {controls}; {needed} are needed"
        return Statement.untested(claim, statement, reason, PROBABILITY)
    return stated(
        claim,
        statement,
        change,
        score=PROBABILITY,
        threshold=threshold,
        among=(change.effect.mean, draws),
        controls=f"{len(draws)} {controls}",
    )


@dataclass(frozen=True)
class Kept:
    """What is to stay.

    Attributes
    ----------
    intact : ndarray of shape (n_trials,)
        Scores of the intact subject, in [0, 1].
    change : Change
        What becomes of them; negative where they fall.
    """

    intact: np.ndarray
    change: Change


def all_stay(
    claim: str, statement: str, parts: Mapping[str, Kept], margin: float, score: str, given: str
) -> Statement:
    """State that of several things none falls by the margin.

    Parameters
    ----------
    claim, statement, score, given : str
        As of :class:`Statement`; the sentence is told which part loses most, and which had nothing
        to lose.
    parts : mapping of str to Kept
        What is to stay, by its name.
    margin : float
        What none may lose.

    Returns
    -------
    Statement
        Of the part that loses most. Parts with nothing to lose do not count, and where all are of
        these it was not testable.
    """
    absent = [name for name, own in parts.items() if nothing_to_lose(own.intact, margin)]
    changes = {name: own.change for name, own in parts.items() if name not in absent}
    if not changes:
        reason = f"intact nothing is there to be lost: {quoted(absent)}"
        return Statement.untested(claim, statement, reason, score)
    worst = min(changes, key=lambda name: changes[name].effect.mean)
    told = f"most: '{worst}'" + (f"; nothing to lose: {quoted(absent)}" if absent else "")
    own = stated(
        claim,
        f"{statement} ({told})",
        changes[worst],
        threshold=-margin,
        score=score,
        given=given,
    )
    # All have to stay: the p is the largest of any, which need not be that of the worst.
    return replace(own, p=max(change.p_above(-margin) for change in changes.values()))


def chosen_dose(effects: Sequence[float], target: float) -> int:
    """Choose the first dose that reaches an effect, else the one that does most.

    Parameters
    ----------
    effects : sequence of float
        Effect of every dose on calibration trials, from the smallest dose.
    target : float
        Effect that is enough.

    Returns
    -------
    int
        Position of the dose.
    """
    reached = [place for place, effect in enumerate(effects) if effect >= target]
    return reached[0] if reached else int(np.argmax(effects))
