"""From the artefacts of a study to HTML: the report, and the pages beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lmri.report import assets, words
from lmri.report.answers import answer_study, ask_study, explain_study
from lmri.report.atlas.page import Atlas
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.leaves import leaf_links
from lmri.report.map_figures import Limits
from lmri.report.methods import describe_methods
from lmri.report.provenance import provenance_tables
from lmri.report.redaction import redact_settings
from lmri.report.sections import overview, subject_view
from lmri.report.tables import problem_table, verdict_table
from lmri.report.view import Leaf, Link, Page

# Nothing may be fetched and no script may run, whatever a stimulus or a response says; the atlas
# adds its own scripts by their hashes. Browsers count the drawings' own style attributes as
# inline styles.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)


def build_page(inputs: StudyInputs, limits: Limits, provenance: Mapping, files: Files) -> Page:
    """Put the report together.

    Parameters
    ----------
    inputs : StudyInputs
        What was read.
    limits : mapping of str to float
        Score of the strongest colour, by statistic.
    provenance : mapping
        Versions, hashes and seeds of the report itself.
    files : Files
        Takes the data behind figures and tables.

    Returns
    -------
    Page
        Free of markup but for the drawings.
    """
    config = inputs.config
    noun = inputs.noun
    data = files.add("verdicts", inputs.verdicts)
    return Page(
        study=config.study,
        question=ask_study(config, noun),
        explanation=explain_study(config, noun),
        answer=answer_study(inputs.verdicts),
        illustrations=_illustrations(inputs),
        verdicts=verdict_table(inputs.verdicts, data, noun),
        overview=overview(inputs, limits, data),
        subjects=[subject_view(subject, config, limits, files) for subject in inputs.subjects],
        methods=describe_methods(inputs),
        provenance=provenance_tables(inputs, provenance),
        settings=json.dumps(
            redact_settings(config.to_dict(), config.report.redact), indent=2, ensure_ascii=False
        ),
        problems=problem_table(inputs.problems),
        leaves=leaf_links(inputs),
    )


def render_page(page: Page) -> str:
    """Render the report.

    Parameters
    ----------
    page : Page
        The page.

    Returns
    -------
    str
        HTML that needs no other file.
    """
    return _render("report.html.jinja", page=page, root="")


def render_leaf(leaf: Leaf, links: Sequence[Link]) -> str:
    """Render a page beside the report.

    Parameters
    ----------
    leaf : Leaf
        The page.
    links : sequence of Link
        All pages beside the report, for its bar.

    Returns
    -------
    str
        HTML that needs no other file.
    """
    return _render("leaf.html.jinja", page=leaf, leaves=links, root="../" * leaf.path.count("/"))


def render_atlas(atlas: Atlas, links: Sequence[Link]) -> str:
    """Render the atlas.

    Parameters
    ----------
    atlas : Atlas
        The page.
    links : sequence of Link
        All pages beside the report, for its bar.

    Returns
    -------
    str
        HTML that needs no other file.
    """
    policy = f"{POLICY}; script-src {atlas.policy}"
    return _render("atlas.html.jinja", policy, page=atlas, leaves=links, root="../")


def _render(template: str, policy: str = POLICY, **values: object) -> str:
    sheet = resources.files(assets).joinpath("report.css")
    return (
        _environment()
        .get_template(template)
        .render(css=Markup(sheet.read_text(encoding="utf-8")), policy=policy, **values)
    )


@cache
def _environment() -> Environment:
    """Make the environment once: each one compiles all templates anew."""
    return Environment(
        loader=PackageLoader("lmri.report", "assets"),
        # Explicitly for every template: the default goes by the suffix and would leave it off.
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_without_directions,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _without_directions(value: object) -> object:
    """Write out what would turn the words behind a text around; drawings are left alone."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return words.written_out(value)
    return value


def _illustrations(inputs: StudyInputs) -> list[str]:
    """Notes of subjects chosen after the fact, each once, with the rate over all bases."""
    lines: dict[str, None] = {}
    for subject in inputs.subjects:
        illustration = subject.card.get("illustration")
        if not isinstance(illustration, dict):
            continue
        rate = illustration.get("rate", "")
        rate = rate.get("text", "") if isinstance(rate, dict) else rate
        line = " ".join(str(part) for part in (rate, illustration.get("note", "")) if part)
        if line:
            lines[line] = None
    return list(lines)
