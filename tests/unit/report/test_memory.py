"""Drawings that come again are not drawn again, and differ in nothing but their keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup

from lmri.report.figures import memory
from lmri.report.figures.heat import draw_map
from lmri.report.figures.memory import drawn_once, forget_drawings


@dataclass
class Line:
    name: str
    values: np.ndarray


@pytest.fixture(autouse=True)
def _nothing_known():
    forget_drawings()


@pytest.fixture
def drawings():
    """What was drawn, and the function that drew it."""
    made = []

    @drawn_once
    def draw(data, key: str, width: float = 1) -> Markup:
        made.append(data)
        return Markup(f"<g id='{key}'>{width}</g>")

    return made, draw


def test_a_drawing_under_another_key_is_the_one_that_would_be_drawn():
    draw_map(np.eye(3), [(1, 1)], 1.0, "first")
    known = draw_map(np.eye(3), [(1, 1)], 1.0, "second")
    forget_drawings()
    assert known == draw_map(np.eye(3), [(1, 1)], 1.0, "second")
    assert "second-_0" in known


def test_the_same_data_are_drawn_once_however_they_are_named(drawings):
    made, draw = drawings
    assert draw([1, 2], "a") == Markup("<g id='a'>1</g>")
    assert draw(key="b", data=[1, 2], width=1) == Markup("<g id='b'>1</g>")
    assert len(made) == 1
    forget_drawings()
    draw([1, 2], "a")
    assert len(made) == 2


LONG = np.zeros(5000)
LONG_TOO = np.where(np.arange(5000) == 2500, 1.0, 0.0)
TABLE = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, True),
        (None, "None"),
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (LONG, LONG_TOO),
        (LONG, LONG.astype("f4")),
        (LONG, LONG.reshape(2, -1)),
        (np.array(["a", None], dtype=object), np.array(["b", None], dtype=object)),
        (TABLE, TABLE.assign(b=["x", "z"])),
        (TABLE, TABLE.set_index(pd.Index([1, 2]))),
        (TABLE, TABLE.rename(columns={"b": "c"})),
        ([Line("a", LONG)], [Line("b", LONG)]),
        ([Line("a", LONG)], [Line("a", LONG_TOO)]),
    ],
)
def test_other_data_are_drawn(drawings, one, other):
    made, draw = drawings
    for data in (one, other, one, other):
        draw(data, "key")
    assert len(made) == 2


def test_what_is_no_data_is_refused(drawings):
    _, draw = drawings
    with pytest.raises(TypeError, match="a drawing of function"):
        draw(lambda: 0, "key")


def test_the_drawing_used_longest_ago_is_forgotten_first(drawings, monkeypatch):
    monkeypatch.setattr(memory, "MOST", 2)
    made, draw = drawings
    for data in (1, 2, 1, 3, 1, 2):
        draw(data, "key")
    assert made == [1, 2, 3, 2]
