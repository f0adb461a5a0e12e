"""All pages of all reports in a real browser: no error, no request, readable by everybody."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from lmri.report.leaves import STUDY_PAGES

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
VIEWS = {
    "light": {"viewport": {"width": 1280, "height": 1000}},
    "dark": {"viewport": {"width": 1280, "height": 1000}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}
EVERY = {
    "index.html",
    *(f"contrasts/{name}.html" for name in ("refusal", "refusal-simple", "null-places")),
    *(f"pages/{name}.html" for name in ("atlas", "examples", "heads", "sparsity")),
}
"""Pages of the study of the fixtures."""

SEEN = {
    "plain": EVERY,
    "causal": {"index.html", "contrasts/refusal-simple.html", "pages/layers.html"},
    "analysed": {
        *(f"pages/{name}.html" for name in ("evidence", "encoding", "decoding", "connectivity")),
        *(f"pages/{name}.html" for name in ("alignment", "information", "bottleneck")),
        "pages/experiments.html",
    },
}
"""Pages that are looked at, by study; together there is one of every kind."""

MOST_PIXELS = 6000
"""Height of a picture."""

TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What changes the direction of the words behind it."""

MIXED = """() => {
  const leftwards = /[\\u0590-\\u08ff]/, found = [];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!leftwards.test(node.data) || node.parentElement.closest("svg, script")) continue;
    let own = node.parentElement, apart = false;
    for (; getComputedStyle(own).display.startsWith("inline"); own = own.parentElement)
      apart ||= /isolate|plaintext/.test(getComputedStyle(own).unicodeBidi);
    const alone = own.textContent.trim() === node.data.trim();
    if (!apart && !alone) found.push(own.outerHTML.slice(0, 200));
  }
  return found;
}"""
"""Lines in which letters that run to the left stand beside other words with nothing between."""


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shots(tmp_path_factory) -> Path:
    """Where screenshots are saved: for those who look, where LMRI_SCREENSHOTS says."""
    folder = os.environ.get("LMRI_SCREENSHOTS")
    made = Path(folder) if folder else tmp_path_factory.mktemp("screenshots")
    made.mkdir(parents=True, exist_ok=True)
    return made


def paths_of(report: Path) -> list[str]:
    """All pages of a report, relative to it."""
    return sorted(path.relative_to(report).as_posix() for path in report.rglob("*.html"))


def visited(
    browser: Browser, report: Path, view: str, paths: set[str]
) -> Iterator[tuple[str, Page]]:
    """Open pages of a report, and assert that none says anything or asks for anything."""
    context = browser.new_context(**VIEWS[view])
    for path in sorted(paths):
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto((report / path).as_uri())
        yield path, page
        assert said == [], path
        assert asked == [(report / path).as_uri()], path
        page.close()
    context.close()


def width(page: Page) -> int:
    return page.evaluate("document.documentElement.scrollWidth")


def open_all(page: Page) -> None:
    """Show what is folded."""
    page.evaluate("document.querySelectorAll('details').forEach(own => own.open = true)")


def photograph(page: Page, picture: Path) -> Path:
    """Save the page from its head on, as far as a picture of it can be looked at."""
    height = page.evaluate("document.documentElement.scrollHeight")
    size = {"width": page.viewport_size["width"], "height": min(height, MOST_PIXELS)}
    page.screenshot(path=picture, full_page=True, clip={"x": 0, "y": 0, **size})
    return picture


def test_no_page_is_left_out(pages):
    assert set(paths_of(pages["plain"].parent)) == EVERY
    for study, paths in SEEN.items():
        assert paths <= set(paths_of(pages[study].parent)), study
    kinds = {page.path for page in STUDY_PAGES}
    assert kinds <= set().union(*SEEN.values())


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("study", SEEN)
def test_pages_are_readable_by_everybody(browser, pages, shots, study, view):
    for path, page in visited(browser, pages[study].parent, view, SEEN[study]):
        found = Axe().run(page)
        assert found.violations_count == 0, f"{path}: {found.generate_report()}"
        assert width(page) <= VIEWS[view]["viewport"]["width"], path
        name = path.removesuffix(".html").replace("/", "_")
        picture = photograph(page, shots / f"{study}_{name}_{view}.png")
        assert_painted(picture, dark=view == "dark")
        open_all(page)
        assert width(page) <= VIEWS[view]["viewport"]["width"], f"{path}, opened"


@pytest.mark.parametrize("view", VIEWS)
def test_hostile_pages_are_inert_and_stay_where_they_are(browser, pages, shots, view):
    report = pages["hostile"].parent
    assert set(paths_of(report)) == EVERY
    for path, page in visited(browser, report, view, EVERY):
        assert page.title().startswith("lmri report: fixture"), path
        photograph(page, shots / f"hostile_{Path(path).stem}_{view}.png")
        open_all(page)
        assert width(page) <= VIEWS[view]["viewport"]["width"], path
        assert not TURNING.search(page.locator("main").inner_text()), path
        assert page.evaluate(MIXED) == [], path
        outside = page.locator("main img, main iframe, main object, main [onerror]")
        assert outside.count() == 0, path
    assert {path.name for path in report.parent.iterdir()} == set(pages)


def test_a_link_into_a_folded_unit_opens_it(browser, pages):
    page = browser.new_page()
    report = pages["plain"].parent
    page.goto(f"{(report / 'pages/examples.html').as_uri()}#units-localised-expert-rate-1-4")
    opened = page.locator("details.unit[open]:has(:target)")
    assert opened.count() == 1
    assert opened.locator("summary").inner_text().startswith("Expert 1:4")
    page.close()


def assert_painted(picture: Path, *, dark: bool) -> None:
    image = pytest.importorskip("PIL.Image")
    with image.open(picture) as shot:
        corner = shot.convert("L").getpixel((2, shot.height - 2))
        colours = len(shot.convert("RGB").getcolors(maxcolors=10**7))
    assert (corner < 60) == dark, picture.name
    assert colours > 100, picture.name
