from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from report_files import HOSTILE

from lmri.report.figures.agreement import draw_agreement, draw_comparison
from lmri.report.figures.canvas import INK, VARIABLES, new_figure, place, style, to_svg
from lmri.report.figures.dose import draw_dose, spread
from lmri.report.figures.heat import NEGATIVE_RGB, POSITIVE_RGB, colours, draw_map
from lmri.report.figures.lines import draw_lines
from lmri.report.figures.memory import forget_drawings
from lmri.report.figures.shams import draw_shams, stack
from lmri.report.figures.units import draw_units

NAN = float("nan")
STEPS = (np.linspace(-1, 1, 3), np.array([1, 2]))


def arms(arm: str, doses: list[int], values: list[float], draw: int = 0) -> pd.DataFrame:
    rows = {"arm": arm, "dose": doses, "draw": draw, "value": values, "intact": 1.0}
    return pd.DataFrame(rows).assign(low=-0.1, high=0.1, mode="mask")


@pytest.mark.parametrize(("mode", "said"), [("mask", "switched off"), ("force", "forced on")])
def test_the_axis_says_what_was_done(mode, said):
    table = arms("finding", [1, 2], [0.9, 0.1]).assign(mode=mode)
    assert f"experts {said}" in draw_dose(table, [1, 2], 2, "key")


def test_colours_are_centred_at_zero():
    pixels = colours(np.array([[-1.0, 0.0, 0.5, 2.0, NAN]]), limit=1.0)[0]
    assert pixels[:, 3].tolist() == [255, 0, 128, 255, 0]
    assert tuple(pixels[0, :3]) == NEGATIVE_RGB
    assert tuple(pixels[3, :3]) == POSITIVE_RGB


@pytest.mark.parametrize("shape", [(3, 32), (1, 1), (58, 256)])
def test_map_is_one_small_drawing_whatever_its_size(shape):
    svg = draw_map(np.ones(shape), [(0, 0)], 1.0, "key")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert len(svg) < 60_000


def test_drawings_do_not_depend_on_the_run():
    first = draw_map(np.eye(3), [(1, 1)], 1.0, "key")
    forget_drawings()
    assert first == draw_map(np.eye(3), [(1, 1)], 1.0, "key")
    assert "date" not in first.lower()


def test_identifiers_are_prefixed_and_colours_are_variables():
    svg = draw_dose(arms("finding", [1, 2], [0.9, 0.1]), [1, 2], 2, "one", margin=0.1)
    identifiers = set(re.findall(r'\bid="([^"]+)"', svg))
    assert identifiers
    assert all(name.startswith("one-") for name in identifiers)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) == identifiers
    assert "var(--finding)" in svg
    assert not any(colour in svg for colour in VARIABLES)


def test_labels_are_text_not_markup_nor_formulas():
    label = "</text><script>alert(1)</script> $x^2$ & \"'"
    with style():
        figure = new_figure(200, 100)
        place(figure, 10, 10, 100, 50).text(0, 0, label, color=INK)
        svg = to_svg(figure, "key")
    assert "<script" not in svg
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.text]
    assert label in texts


@pytest.mark.parametrize("values", [[], [0.5], [1.0] * 99, [0.1, 0.9, 0.9]])
def test_spread_is_symmetrical_and_bounded(values):
    shifts = spread(np.array(values), reach=0.15)
    assert len(shifts) == len(values)
    assert np.all(np.abs(shifts) <= 0.15 + 1e-12)
    assert abs(shifts.sum()) < 1e-9


def test_stack_counts_every_known_effect():
    x, y = stack(np.array([0.0, 0.001, 0.5, NAN]))
    assert x.tolist() == [0.0, 0.001, 0.5]  # what is beyond a margin is drawn beyond it
    assert y[0] < y[1]
    assert y[2] == y[0]


def test_figures_without_data_are_drawn():
    nothing = arms("finding", [], [])
    assert "<svg" in draw_dose(nothing, [1, 2], 2, "key", margin=0.1)
    svg = draw_shams([], (NAN, NAN, NAN), (NAN, NAN, NAN), 0.1, "decrease", "key")
    assert svg.count("not run") == 2
    assert ">0</text>" in svg
    assert ">sham maps</text>" in svg


def test_names_of_the_rows_stand_left_of_the_band():
    svg = draw_shams([0.0, 0.01], (1.0, 0.9, 1.0), (1.0, 0.9, 1.0), 0.1, "decrease", "key")
    axes = float(re.search(r'<clipPath.*?<rect x="([\d.]+)"', svg).group(1))
    for name in ("finding", "positive", "control", "2", "sham maps"):
        style, x = re.search(rf'style="([^"]*)" x="([\d.]+)"[^>]*>{name}</text>', svg).groups()
        assert "text-anchor: end" in style
        assert float(x) < axes


def test_all_draws_are_dots():
    table = pd.concat(
        [arms("finding", [1], [0.2]), *(arms("sham", [1], [0.9], n) for n in range(99))]
    )
    svg = draw_dose(table, [1], 1, "key")
    dots = re.findall(r'<g style="[^"]*var\(--sham\)[^"]*">((?:<use [^>]*/>)+)</g>', svg)
    assert sum(group.count("<use ") for group in dots) == 99


def test_controls_on_other_trials_are_drawn_by_their_change():
    finding = arms("finding", [1], [0.5])
    same, other = (
        arms("sham", [1], [value]).assign(intact=intact) for value, intact in ((0.9, 1), (0.8, 0.9))
    )
    drawings = []
    for table in (same, other):
        forget_drawings()
        drawings.append(draw_dose(pd.concat([finding, table]), [1], 1, "key"))
    assert drawings[0] == drawings[1]


def height(drawing: str) -> float:
    return float(re.search(r'viewBox="0 0 \S+ ([0-9.]+)"', drawing).group(1))


def test_a_map_of_many_layers_and_few_columns_stays_on_a_page():
    few, many = (draw_map(np.eye(n, 6), [], 1, "k", width=330, scale_bar=False) for n in (12, 60))
    assert height(few) < height(many) < 620


def test_columns_have_their_names_in_lines():
    names = ["before", "words that differ", "last of prompt", "a b c d e f g h i j k l m n o p"]
    drawing = draw_map(np.zeros((2, 4)), [], 1, "k", width=250, scale_bar=False, columns=names)
    for line in ("words", "differ", "before"):
        assert f">{line}</tspan>" in drawing or f">{line}</text>" in drawing
    assert ">p<" not in drawing  # a fourth line
    numbered = draw_map(np.zeros((2, 4)), [], 1, "k", width=250, scale_bar=False)
    assert height(drawing) > height(numbered)


def test_equal_values_are_a_level_line():
    drawing = draw_lines([0, 1, 2], {"a": np.full(3, 1e-17)}, "a", "k", axis="layer", named=False)
    assert "e−" not in drawing and "1e" not in drawing
    assert ">layer</text>" in drawing


def test_all_units_are_drawn_below_the_strongest():
    edges, counts = np.linspace(-1, 1, 5), np.array([0, 50, 3, 1])
    drawing = draw_units(
        ["2:1", "0:7"],
        np.array([0.9, 0.4]),
        np.array([0.1, np.nan]),
        np.array([True, False]),
        (edges, counts),
        "all 54",
        "logits",
        "k",
    )
    order = [drawing.index(f">{name}</text>") for name in ("2:1", "0:7", "all 54")]
    assert len(set(order)) == 3
    # A step below 0 without units is not part of the axis.
    assert ">−1.0</text>" not in drawing


def test_agreement_has_the_same_axis_everywhere():
    low, high = (
        draw_agreement({"RelP": [(r, r - 0.1, min(r + 0.1, 1))]}, "k") for r in (-0.5, 0.95)
    )
    for drawing in (low, high):
        assert ">−1.0</text>" in drawing and ">1.0</text>" in drawing


def test_a_comparison_marks_equality():
    x = np.array([0.0, 1.0, 2.0, np.nan])
    drawing = draw_comparison(x, 3 * x, "logits", "k")
    assert ">patched, logits</text>" in drawing
    assert "<image" in drawing
    assert draw_comparison(np.zeros(2), np.zeros(2), "logits", "k")


@pytest.mark.parametrize("text", HOSTILE)
def test_names_in_drawings_are_text(text):
    drawings = [
        draw_map(np.zeros((1, 2)), [], 1, "k", scale_bar=False, rows=[text], columns=[text, ""]),
        draw_units([text], np.ones(1), np.ones(1), np.ones(1, bool), STEPS, text, text, "k"),
        draw_agreement({text: [(0.5, 0.1, 0.9), (NAN, NAN, NAN)]}, "k"),
        draw_comparison(np.arange(3.0), np.arange(3.0), text, "k"),
        draw_lines([0, 1], {text: np.arange(2.0)}, text, "k", axis=text),
    ]
    for drawing in drawings:
        tags = {
            element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawing).iter()
        }
        assert tags <= {
            "svg",
            "g",
            "defs",
            "path",
            "use",
            "text",
            "tspan",
            "image",
            "clipPath",
            "rect",
        }
