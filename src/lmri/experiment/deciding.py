"""What experiments on sets of units share: statements against random sets, and doses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmri.experiment.measuring import stated
from lmri.experiment.outcome import Statement
from lmri.validate.change import Change

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
