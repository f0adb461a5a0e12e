"""What a page is made of: tables, figures and blocks, free of markup.

The template turns these into HTML and escapes every string. The one exception is the SVG of a
panel, which only :mod:`lmri.report.figures.canvas` makes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes
    ----------
    text : str
        What is shown.
    kind : str
        ``text``, ``number``, ``verdict``, ``check``, ``code``, ``token`` or ``speech``,
        ``same`` or ``changed`` (words of a model: alone, or as without the intervention or not).
    note : str
        A second, smaller line.
    shade : str
        How strongly a number is shaded, a name that the style sheet knows; empty for not at all.
    """

    text: str
    kind: str = "text"
    note: str = ""
    shade: str = ""


@dataclass(frozen=True)
class Column:
    """Head of a column; ``hint`` says in a few words what it means."""

    label: str
    hint: str = ""
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    caption : str
        What the table says, in one sentence or two.
    columns : list of Column
        The first column heads its row.
    rows : list of list of Cell
        As many cells as columns.
    source : str
        The artefact the cells were read from, relative to the study.
    data : str
        File with the same numbers, relative to the report; empty when there is none.
    layout : str
        A name the style sheet knows: ``plain``, ``headline`` or ``transcripts``.
    """

    caption: str
    columns: list[Column]
    rows: list[list[Cell]]
    source: str
    data: str = ""
    layout: str = "plain"
    kind: str = "table"


@dataclass(frozen=True)
class Panel:
    """One drawing of a figure.

    Attributes
    ----------
    svg : Markup
        The drawing.
    title : str
        What it shows.
    badge : str
        A verdict to put beside the title, or nothing.
    """

    svg: Markup
    title: str = ""
    badge: str = ""


@dataclass(frozen=True)
class Figure:
    """Panels with a caption.

    Attributes
    ----------
    title : str
        What is shown.
    panels : list of Panel
        The drawings.
    alt : str
        The result in words, for those who do not see the drawing.
    look_for, falsify : str
        What to look for, and what would have spoken against the claim.
    source, data : str
        As for a table.
    layout : str
        ``large`` (one drawing, full width), ``strip`` (one, the caption beside), ``medium``,
        ``small`` or ``dose``.
    legend : list of tuple
        Mark and meaning; the marks are names the style sheet knows.
    """

    title: str
    panels: list[Panel]
    alt: str
    look_for: str
    falsify: str
    source: str
    data: str
    layout: str = "large"
    legend: list[tuple[str, str]] = field(default_factory=list)
    kind: str = "figure"


@dataclass(frozen=True)
class Heading:
    """A heading between blocks, with a sentence below it; ``anchor`` names it for links."""

    title: str
    text: str = ""
    anchor: str = ""
    kind: str = "heading"


@dataclass(frozen=True)
class Prose:
    """Sentences under a bold lead each: lead and text, the lead may be empty."""

    lines: list[tuple[str, str]]
    kind: str = "prose"


@dataclass(frozen=True)
class Fold:
    """A table that is shown on request."""

    title: str
    table: Table
    kind: str = "fold"


@dataclass(frozen=True)
class Pointer:
    """A sentence that leads to another page: its path is relative to the report."""

    text: str
    path: str
    kind: str = "pointer"


@dataclass(frozen=True)
class Token:
    """A token of a passage.

    Attributes
    ----------
    text : str
        The token, with what cannot be printed written out.
    gap : str
        The spaces that it begins with.
    shade : str
        How strongly it is shaded, a name that the style sheet knows; empty for not at all.
    value : str
        Its activity.
    peak : bool
        Whether it is the one that the passage is about: framed, its number shown.
    aloud : bool
        Whether its number is there for those who do not see the shade.
    """

    text: str
    gap: str
    shade: str
    value: str
    peak: bool = False
    aloud: bool = False


@dataclass(frozen=True)
class Passage:
    """Tokens of a trial around one of them.

    Attributes
    ----------
    tokens : list of Token
        In reading order.
    about, trial : str
        What kind of trial; its name.
    cut_before, cut_after : bool
        Whether the trial has more tokens.
    """

    tokens: list[Token]
    about: str
    trial: str
    cut_before: bool
    cut_after: bool


@dataclass(frozen=True)
class Facet:
    """Passages that are alike, under a title."""

    title: str
    passages: list[Passage]


@dataclass(frozen=True)
class UnitExamples:
    """Facets of one unit, with a line on what they are of; shown on request or at once."""

    anchor: str
    title: str
    brief: str
    text: str
    facets: list[Facet]
    open: bool = False
    kind: str = "examples"


@dataclass(frozen=True)
class Link:
    """A page beside the report."""

    title: str
    path: str


@dataclass(frozen=True)
class Leaf:
    """A page of its own beside the report.

    Attributes
    ----------
    path : str
        Relative to the report.
    study : str
        Name of the study.
    eyebrow, title, question, answer : str
        What the page is about; what was asked; what the numbers say.
    role : str
        That of the contrast, or empty.
    blocks : list of Figure, Table, Heading, Prose, Fold, Pointer or UnitExamples
        In reading order.
    """

    path: str
    study: str
    eyebrow: str
    title: str
    question: str
    answer: str
    role: str
    blocks: list[Figure | Table | Heading | Prose | Fold | Pointer | UnitExamples]


@dataclass(frozen=True)
class Section:
    """One contrast of one subject.

    Attributes
    ----------
    anchor : str
        Identifier in the page.
    title, question, answer : str
        Its name, what was asked, and what the numbers say.
    role : str
        ``hypothesis``, ``exploratory`` or ``negative_control``.
    verdict : str
        The verdict by its name for people, empty for what decides nothing.
    blocks : list of Figure, Table, Heading or Prose
        In reading order.
    leaf : str
        The page of its contrast over all subjects, relative to the report; empty without one.
    further : str
        What else that page shows.
    """

    anchor: str
    title: str
    question: str
    answer: str
    role: str
    verdict: str
    blocks: list[Figure | Table | Heading | Prose]
    leaf: str = ""
    further: str = ""


@dataclass(frozen=True)
class SubjectView:
    """All sections of one subject."""

    anchor: str
    name: str
    lines: list[str]
    sections: list[Section]


@dataclass(frozen=True)
class Page:
    """The whole report.

    Attributes
    ----------
    study, question, explanation, answer : str
        Name of the study; what was asked; how it was tested; what was found and whether it held.
    illustrations : list of str
        Notes on subjects that were chosen after the fact.
    verdicts : Table
        The headline table.
    overview : Figure or None
        The maps of all subjects side by side.
    subjects : list of SubjectView
        In the order of the configuration.
    methods : list of str
        Paragraphs.
    provenance : list of Table
        Where everything came from.
    settings : str
        The configuration as JSON.
    problems : Table
        Errors and warnings.
    leaves : list of Link
        Pages of contrasts over all subjects, and of heads.
    """

    study: str
    question: str
    explanation: str
    answer: str
    illustrations: list[str]
    verdicts: Table
    overview: Figure | None
    subjects: list[SubjectView]
    methods: list[str]
    provenance: list[Table]
    settings: str
    problems: Table
    leaves: list[Link]
