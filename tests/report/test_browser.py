"""The page in a real browser, opened from a file without a network."""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
LEAVES = {
    "refusal": "plain/contrasts/refusal.html",
    "refusal-simple": "plain/contrasts/refusal-simple.html",
    "null-places": "plain/contrasts/null-places.html",
    "heads": "plain/pages/heads.html",
    "sparsity": "plain/pages/sparsity.html",
    "causal": "causal/contrasts/refusal-simple.html",
    "layers": "causal/pages/layers.html",
}
MEASURE = """<!DOCTYPE html><html><head><title>waiting</title></head>
<body style="margin:0"><iframe src="{page}" style="width:{width}px;height:900px;border:0"></iframe>
<script>
addEventListener("load", () => {{
  const page = frames[0].document, root = page.documentElement;
  const tables = [...page.querySelectorAll("table")];
  document.title = JSON.stringify({{
    width: root.scrollWidth,
    inner: root.clientWidth,
    loose: tables.filter(table => !table.closest(".scroll")).length,
    small: [...page.querySelectorAll("p, td, th, small, li")]
      .filter(node => parseFloat(getComputedStyle(node).fontSize) < 10).length,
    ran: page.title.includes("INJECTED"),
    // However wide a table is, its caption is as wide as what is seen.
    cut: (tables.forEach(table => table.style.minWidth = "3000px"),
      [...page.querySelectorAll("caption > *")].filter(node => node.getBoundingClientRect().right
        > node.closest(".scroll").getBoundingClientRect().right).length),
  }});
}});
</script></body></html>"""


@pytest.fixture(scope="module")
def dom(chromium, pages, tmp_path_factory) -> dict[str, str]:
    """Return the document of each page after the browser has parsed and run it."""
    return {
        name: run(chromium, tmp_path_factory.mktemp("profile"), page, "--dump-dom").stdout
        for name, page in pages.items()
    }


def run(browser: str, profile: Path, page: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def test_page_opens_from_a_file(dom):
    html = dom["plain"]
    assert "<title>lmri report: fixture</title>" in html
    order = [html.index(f'id="{name}"') for name in ("verdicts", "localised", "methods", "errors")]
    assert order == sorted(order)
    # The first table of the page is the headline.
    assert html.index("<table") == html.index('<table class="headline"')


def test_drawings_are_drawn(dom):
    drawings = re.findall(r'<svg [^>]*viewBox="0 0 (\d+)', dom["plain"])
    assert len([width for width in drawings if int(width) > 100]) > 30


@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_no_script_runs(dom, name):
    assert "<title>lmri report: fixture</title>" in dom[name]
    assert "<script" not in dom[name]
    assert "<img" not in dom[name]
    assert "onerror=" not in re.sub(r">[^<]*<|\"[^\"]*\"", "", dom[name])


@pytest.fixture(scope="module")
def leaves(pages) -> dict[str, Path]:
    folder = pages["plain"].parents[1]
    return {name: folder / path for name, path in LEAVES.items()}


@pytest.mark.parametrize("name", ["index", *LEAVES])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_scrolls_sideways(chromium, pages, leaves, tmp_path, name, width):
    page = {"index": pages["plain"], **leaves}[name]
    frame = tmp_path / "frame.html"
    frame.write_text(MEASURE.format(page=page.as_uri(), width=width))
    # The frame may look into a page only where files may look into files.
    flags = ("--allow-file-access-from-files", "--dump-dom", "--window-size=1400,1000")
    html = run(chromium, tmp_path / "profile", frame, *flags).stdout
    found = json.loads(unescape(re.search(r"<title>(.*?)</title>", html).group(1)))
    assert found["width"] <= found["inner"] <= width
    assert found["loose"] == found["small"] == found["cut"] == 0
    assert not found["ran"]


@pytest.mark.parametrize("name", LEAVES)
def test_leaves_are_drawn_and_run_no_script(chromium, leaves, tmp_path, name):
    html = run(chromium, tmp_path, leaves[name], "--dump-dom").stdout
    assert "<title>lmri report: fixture, " in html
    assert "<script" not in html
    if name != "null-places":
        drawings = re.findall(r'<svg [^>]*viewBox="0 0 (\d+)', html)
        assert len([width for width in drawings if int(width) > 100]) >= 2
