"""The documentation as a site: what is generated is up to date, and nothing is left out."""

import re
import subprocess
import sys

import pytest
import yaml


@pytest.fixture(scope="module")
def navigation(repository):
    site = yaml.safe_load((repository / "mkdocs.yml").read_text(encoding="utf-8"))
    return re.findall(r"[\w/-]+\.md", yaml.safe_dump(site["nav"]))


def test_the_page_of_the_configuration_is_that_of_the_schema(repository, tmp_path):
    made = tmp_path / "configuration.md"
    subprocess.run([sys.executable, ".ci/configuration_page.py", made], cwd=repository, check=True)
    now = (repository / "docs/configuration.md").read_text(encoding="utf-8")
    assert made.read_text(encoding="utf-8") == now, "run: make docs"


def test_the_page_has_every_key_of_the_first_two_levels(repository):
    page = (repository / "docs/configuration.md").read_text(encoding="utf-8")
    default = yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))
    named = ("subjects", "tasks", "contrasts")
    keys = [
        f"`{name}.{key}`"
        for name, own in default.items()
        if isinstance(own, dict)
        for key in own
        if name not in named
    ]
    assert len(keys) > 20
    assert [key for key in keys if key not in page] == []


def test_every_page_is_in_the_navigation(repository, navigation):
    pages = {str(p.relative_to(repository / "docs")) for p in (repository / "docs").rglob("*.md")}
    assert set(navigation) == pages


def test_links_between_pages_lead_somewhere(repository, navigation):
    broken = []
    for name in [*navigation, "../README.md", "../CONTRIBUTING.md"]:
        page = repository / "docs" / name
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                broken.append((name, target))
    assert broken == []
