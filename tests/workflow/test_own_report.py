"""Snakemake's own report of a study: it is made, and no word of a prompt gets into it.

What it writes into its page is not escaped (a label with markup runs), so the workflow may give it
names that are slugs and nothing else.
"""

import re
import zipfile

import pytest

from lmri.checks import SLUG
from lmri.store import read_table

pytestmark = pytest.mark.slow


def test_it_is_made_of_slugs(finished, tmp_path):
    out = tmp_path / "own.zip"
    done = finished.run("--configfile", "small.yaml", "--report", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(out) as archive:
        pages = [name for name in archive.namelist() if name.endswith(".html")]
        texts = [archive.read(name).decode("utf-8") for name in pages]
    assert pages
    whole = "".join(texts)
    assert re.search(r"\bvalidate\b", whole)
    prompts = read_table(finished.root / "results/small/stimuli/events.parquet")["prompt"]
    assert not [prompt for prompt in prompts if prompt in whole]
    labels = re.findall(r'"labels"\s*:\s*\{(.*?)\}', whole, re.S)
    words = [word for found in labels for word in re.findall(r'"([^"]*)"', found)]
    assert [word for word in words if not SLUG.fullmatch(word)] == []


def test_no_rule_gives_it_a_label_that_is_no_slug(repository):
    """Labels and categories of a rule are written by hand or are wildcards, which are slugs."""
    for path in [repository / "Snakefile", *(repository / "workflow/rules").glob("*.smk")]:
        source = path.read_text(encoding="utf-8")
        for label in re.findall(r"(?:labels|category|subcategory|caption)\s*=\s*(.+)", source):
            assert re.fullmatch(r'(\{.*\}|"[a-z0-9_{}]*"|rst\(.*\)),?', label), f"{path}: {label}"
