"""The style sheet: text is legible in both schemes."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from lmri.report import assets
from lmri.report.figures.canvas import VARIABLES
from lmri.report.figures.dose import CONTROLS

PAIRS = [
    *((text, ground) for text in ("ink", "muted", "accent") for ground in ("page", "card")),
    *((name, f"{name}-tint") for name in ("good", "bad", "open", "none")),
    *((name, "card") for name in ("good", "bad", "open")),
    ("ink", "accent-tint"),
]


def schemes() -> dict[str, dict[str, str]]:
    css = resources.files(assets).joinpath("report.css").read_text(encoding="utf-8")
    light, dark = css.split("@media (prefers-color-scheme: dark)")
    read = r"--([a-z-]+): (#[0-9a-f]{6})"
    first = dict(re.findall(read, light))
    return {"light": first, "dark": first | dict(re.findall(read, dark.split("}\n}")[0]))}


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_contrast(scheme, text, ground):
    colours = schemes()[scheme]
    light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_colours_of_drawings_are_in_both_schemes_and_controls_in_the_legend():
    css = resources.files(assets).joinpath("report.css").read_text(encoding="utf-8")
    for part in css.split("@media (prefers-color-scheme: dark)"):
        assert {f"{variable}:" for variable in VARIABLES.values()} <= set(part.split())
    for colour, _, _ in CONTROLS.values():
        assert f".mark.{VARIABLES[colour].removeprefix('--')} {{" in css


def test_nothing_is_fetched():
    css = resources.files(assets).joinpath("report.css").read_text(encoding="utf-8")
    assert "url(" not in css
    assert "@import" not in css
