"""The atlas in a real browser: it answers to mouse and keyboard, and fetches nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from report_files import HOSTILE

from lmri.store import read_map

pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
ATLAS = "pages/atlas.html"
PHONE = {"viewport": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def browser(chromium) -> Browser:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(pages) -> Path:
    return pages["plain"].parents[1]


class Opened:
    """A page, with all it asked for and said."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page, self.path = page, path
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(path.as_uri())

    def rows(self) -> list[str]:
        return self.page.locator("#atlas-rows th button").all_inner_texts()

    def status(self) -> str:
        return self.page.locator("#atlas-status").inner_text()


@pytest.fixture
def opened(browser, folder):
    contexts = []

    def open_page(path: str, **view: object) -> Opened:
        contexts.append(browser.new_context(**view))
        return Opened(contexts[-1].new_page(), folder / path)

    yield open_page
    for context in contexts:
        context.close()


def test_it_opens_from_a_file_without_a_word_or_a_request(opened):
    atlas = opened(f"plain/{ATLAS}")
    assert atlas.page.title() == "lmri report: fixture, atlas"
    assert atlas.asked == [atlas.path.as_uri()]
    assert atlas.said == []
    assert atlas.status() == "96 of 96 units shown."
    assert atlas.page.locator("#atlas-plot svg.main-svg").count() > 0
    assert atlas.path.stat().st_size < 5e6


def test_the_table_begins_with_the_strongest_unit_of_the_map(opened, plain):
    atlas = opened(f"plain/{ATLAS}")
    path = atlas.page.locator("#atlas-path").inner_text()
    score = abs(read_map(plain / path)["score"])
    best = score.where(score == score.max(), drop=True)
    assert atlas.rows()[0] == f"{int(best['layer'][0])}:{int(best['expert'][0])}"


def test_a_threshold_leaves_the_units_beyond_it(opened):
    atlas = opened(f"plain/{ATLAS}")
    before = len(atlas.rows())
    atlas.page.locator("#atlas-threshold").fill("60")
    shown = len(atlas.rows())
    assert 0 < shown < before
    assert atlas.status().startswith(f"{shown} of 96")
    limit = float(atlas.page.locator("#atlas-limit").inner_text().removeprefix("≥ "))
    first = atlas.page.locator("#atlas-rows tr td:nth-child(2)").all_inner_texts()
    assert min(abs(float(text)) for text in first) >= limit * 0.999


def test_a_threshold_on_p_keeps_the_small_ones(opened):
    atlas = opened(f"plain/{ATLAS}")
    atlas.page.locator("#atlas-column").select_option(label="p corrected by the maximum")
    everything = len(atlas.rows())
    atlas.page.locator("#atlas-threshold").fill("10")
    cells = atlas.page.locator("#atlas-rows tr td:last-child").all_inner_texts()
    assert 0 < len(cells) < everything
    assert atlas.page.locator("#atlas-limit").inner_text().startswith("≤ ")
    assert max(map(float, cells)) <= 0.1 + 1e-9


def test_search_and_the_finding_narrow_the_table(opened):
    atlas = opened(f"plain/{ATLAS}")
    atlas.page.locator("#atlas-search").fill("2:1")
    assert atlas.rows()
    assert all(name.startswith("2:1") for name in atlas.rows())
    atlas.page.locator("#atlas-search").fill("99:99")
    assert atlas.rows() == []
    atlas.page.locator("#atlas-search").fill("")
    atlas.page.locator("#atlas-found").check()
    assert 0 < len(atlas.rows()) < 20
    assert atlas.page.locator("#atlas-rows small").count() == len(atlas.rows())


def test_columns_are_sorted_by_key_and_say_so(opened):
    atlas = opened(f"plain/{ATLAS}")
    head = atlas.page.locator("#atlas-head th:nth-child(2)")
    assert head.get_attribute("aria-sort") == "descending"
    descending = atlas.rows()
    head.locator("button").focus()
    atlas.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert atlas.rows() != descending
    # Whoever sorts by key stays where they were.
    assert atlas.page.evaluate("document.activeElement.closest('th').cellIndex") == 1


def test_a_unit_is_chosen_by_key_and_by_mouse(opened):
    atlas = opened(f"plain/{ATLAS}")
    button = atlas.page.locator("#atlas-rows th button").first
    name = button.inner_text()
    button.focus()
    atlas.page.keyboard.press("Enter")
    assert f"chosen: {name}." in atlas.status()
    assert atlas.page.locator("#atlas-rows tr.chosen th button").inner_text() == name
    atlas.page.keyboard.press("Enter")
    assert "chosen" not in atlas.status()
    middle = atlas.page.locator("#atlas-plot .nsewdrag").first
    middle.hover()
    atlas.page.locator("#atlas-plot .hovertext").wait_for()  # clicks go to what is hovered over
    middle.click()
    expect(atlas.page.locator("#atlas-status")).to_contain_text("chosen")
    chosen = re.search(r"chosen: (1:1\d)\.", atlas.status())
    assert chosen  # the middle of three layers and 32 experts
    assert atlas.page.locator("#atlas-rows tr.chosen th button").inner_text() == chosen.group(1)


def test_every_map_of_every_subject_can_be_shown(opened):
    atlas = opened(f"plain/{ATLAS}")
    shown = set()
    for subject in atlas.page.locator("#atlas-subject option").all_inner_texts():
        atlas.page.locator("#atlas-subject").select_option(label=subject)
        for contrast in atlas.page.locator("#atlas-contrast option").all_inner_texts():
            atlas.page.locator("#atlas-contrast").select_option(label=contrast)
            for own in atlas.page.locator("#atlas-map option").all_inner_texts():
                atlas.page.locator("#atlas-map").select_option(label=own)
                assert atlas.rows()
                shown.add((subject, contrast, own))
    assert f"{len(shown)} maps" in atlas.page.locator(".eyebrow").inner_text().lower()
    assert atlas.said == []


def test_a_hostile_study_runs_nothing(opened):
    atlas = opened(f"hostile/{ATLAS}")
    assert "INJECTED" not in atlas.page.title()
    assert atlas.page.evaluate("window.INJECTED === undefined")
    assert atlas.page.locator("#atlas-plot a").count() == 0
    assert atlas.asked == [atlas.path.as_uri()]
    assert atlas.said == []
    assert HOSTILE  # what the study is full of


def test_no_script_may_be_added(opened):
    atlas = opened(f"plain/{ATLAS}")
    atlas.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.added = 1';"
        " document.body.append(s); }"
    )
    assert atlas.page.evaluate("window.added === undefined")


def test_the_atlas_does_not_scroll_sideways_on_a_phone(opened):
    atlas = opened(f"plain/{ATLAS}", **PHONE)
    assert atlas.page.evaluate("document.documentElement.scrollWidth") <= 390
