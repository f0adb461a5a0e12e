"""Tokens shaded by activity: a colour, a line below that is thicker, and a number."""

from __future__ import annotations

import math

from lmri.report import words
from lmri.report.view import Token

STEPS = 6
"""Strengths of shading; the style sheet knows as many, up and down."""

SPOKEN_FROM = 4
"""Shading from which the number is read aloud: all numbers would drown the sentence."""


def shade(value: float, largest: float) -> str:
    """Name the shading of an activity.

    Parameters
    ----------
    value : float
        The activity.
    largest : float
        Absolute activity with the strongest shading.

    Returns
    -------
    str
        ``up1`` to ``up6``, ``down1`` to ``down6`` below zero; empty for less than half a step.
    """
    if not (math.isfinite(value) and largest > 0):
        return ""
    step = min(STEPS, round(STEPS * abs(value) / largest))
    return f"{'up' if value > 0 else 'down'}{step}" if step else ""


def shaded(text: object, value: float, largest: float, *, peak: bool = False) -> Token:
    """Make a token of a passage.

    Parameters
    ----------
    text : object
        The token.
    value, largest : float
        Its activity, and that with the strongest shading.
    peak : bool
        Whether its activity is the largest of the passage, and its number shown.

    Returns
    -------
    Token
        The token; what cannot be printed is written out.
    """
    name = shade(value, largest)
    aloud = bool(name) and int(name[-1]) >= SPOKEN_FROM
    shown = written(str(text))
    # The frame and the shade are those of the word, unless there is nothing but spaces.
    bare = shown.lstrip(" ") or shown
    gap = shown[: len(shown) - len(bare)]
    return Token(bare, gap, name, words.number(value), peak, aloud)


def written(text: str) -> str:
    """Write a token so that all of it is seen: a line break and marks of direction as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
