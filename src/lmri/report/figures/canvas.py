"""From a matplotlib figure to SVG that is safe to put into a page.

The colours of a drawing are placeholders that become CSS variables, so one drawing serves the
light and the dark scheme. Text stays text. Identifiers get a prefix, since several drawings share
one page. The output depends on nothing but the figure: no date, no random identifiers.
"""

from __future__ import annotations

import io
import re
from itertools import groupby
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#010101"
MUTED = "#020202"
RULE = "#030303"
SURFACE = "#040404"
FINDING = "#050505"
SHAM = "#060606"
LAYER_MATCHED = "#070707"
LOAD_MATCHED = "#080808"
MARGIN = "#090909"
POSITIVE = "#0a0a0a"
MASSIVE_MATCHED = "#0b0b0b"

VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    SURFACE: "--card",
    FINDING: "--finding",
    SHAM: "--sham",
    LAYER_MATCHED: "--layer-matched",
    LOAD_MATCHED: "--load-matched",
    MASSIVE_MATCHED: "--massive-matched",
    MARGIN: "--margin",
    POSITIVE: "--positive",
}
"""CSS variable that each placeholder colour becomes."""

SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lmri",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.linewidth": 0.8,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "text.color": INK,
    "text.usetex": False,
    # A dollar sign in a label is a dollar sign, not the begin of a formula.
    "text.parse_math": False,
    "figure.facecolor": "none",
}

POINTS_PER_INCH = 72
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"font-family: [^;]*; ?")
_LONG_NUMBER = re.compile(r"(\d+\.\d{2})\d+")
_KEPT_TAGS = frozenset(
    {"svg", "g", "defs", "path", "use", "text", "tspan", "image", "clipPath", "rect"}
)


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure.

    Parameters
    ----------
    width, height : float
        Size in the units of the drawing: one is one CSS pixel where it is shown at full size.

    Returns
    -------
    Figure
        Not known to pyplot, so nothing has to be closed.
    """
    figure = Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH))
    FigureCanvasSVG(figure)
    return figure


def place(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a place given in the units of the drawing, from its lower left corner."""
    across, up = (size * POINTS_PER_INCH for size in figure.get_size_inches())
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def to_svg(figure: Figure, key: str) -> Markup:
    """Turn a figure into an SVG element for the page.

    Parameters
    ----------
    figure : Figure
        Drawn with the placeholder colours of this module, under :func:`style`.
    key : str
        Distinguishes the drawing from all others of the page: letters, digits, hyphens.

    Returns
    -------
    Markup
        One ``svg`` element, hidden from screen readers: the figure around it has the words.
    """
    stream = io.BytesIO()
    # Not savefig, which draws everything twice.
    figure.canvas.print_svg(stream, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(stream.getvalue())
    _clean(root)
    _share_styles(root)
    _rename(root, key)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("aria-hidden", "true")
    root.set("focusable", "false")
    ElementTree.register_namespace("", _SVG)
    text = ElementTree.tostring(root, encoding="unicode")
    # matplotlib indents for people; nobody reads these lines.
    text = re.sub(r">\s*\n\s*<", "><", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return Markup(text)


def style() -> matplotlib.rc_context:
    """Return the context in which figures of the report are drawn and turned into SVG."""
    return matplotlib.rc_context(SETTINGS)


def _clean(element: ElementTree.Element) -> None:
    """Drop everything a drawing does not need: metadata, style sheets, anything active.

    A report has hundreds of drawings, so what draws nothing goes, too: empty boxes, turns by
    nothing, fonts that the page sets, and groups without a purpose.
    """
    for child in list(element):
        tag = child.tag.removeprefix(f"{{{_SVG}}}")
        if tag not in _KEPT_TAGS or child.get("style") == "fill: none":
            element.remove(child)
            continue
        _clean(child)
        if tag == "text":
            child.set("style", _FONT.sub("", child.get("style", "")))
            if child.get("transform", "").startswith("rotate(-0 "):
                del child.attrib["transform"]
        elif tag in {"g", "defs"} and not len(child):
            element.remove(child)
        elif tag == "g" and not set(child.attrib) - {"id"}:
            place = list(element).index(child)
            element.remove(child)
            for grandchild in reversed(child):
                element.insert(place, grandchild)


def _share_styles(element: ElementTree.Element) -> None:
    """Put the style of marks that follow each other on one group: hundreds of dots are alike."""
    for child in element:
        _share_styles(child)
    children = list(element)
    for tag, run in groupby(children, key=lambda child: (child.tag, child.get("style"))):
        marks = list(run)
        if tag[0] != f"{{{_SVG}}}use" or len(marks) < 3:
            continue
        group = ElementTree.Element(f"{{{_SVG}}}g", {"style": tag[1] or ""})
        element.insert(list(element).index(marks[0]), group)
        for mark in marks:
            element.remove(mark)
            mark.attrib.pop("style", None)
            group.append(mark)


def _rename(root: ElementTree.Element, key: str) -> None:
    # No anchor of a page has an underscore, so that an identifier is never one.
    names = {name: f"{key}-_{number}" for number, name in enumerate(sorted(_targets(root)))}
    for element in root.iter():
        identifier = element.attrib.pop("id", None)
        if identifier in names:
            element.set("id", names[identifier])
        target = element.attrib.pop(_LINK, None)
        if target is not None:
            element.set("href", f"#{names[target[1:]]}" if target.startswith("#") else target)
        for name, value in element.attrib.items():
            if "url(#" in value:
                value = _REFERENCE.sub(lambda found: f"url(#{names[found.group(1)]})", value)
            if name in {"d", "transform", "x", "y", "width", "height", "points"}:
                value = _LONG_NUMBER.sub(r"\1", value)
            element.set(name, value)


def _targets(root: ElementTree.Element) -> set[str]:
    """Identifiers something refers to; all others are dropped."""
    found = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == _LINK and value.startswith("#"):
                found.add(value[1:])
            found.update(_REFERENCE.findall(value))
    return found
