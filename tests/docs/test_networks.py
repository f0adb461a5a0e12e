"""The pages of networks and alignments: their code is that of the package, and runs."""

import ast
import importlib
import re

import numpy as np
import pytest


def python_of(repository, page):
    text = (repository / f"docs/{page}.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def test_the_code_of_alignment_runs_and_says_what_the_page_says(repository):
    (block,) = python_of(repository, "alignment")
    names: dict = {}
    exec(compile(block, "docs/alignment.md", "exec"), names)
    response, shared = names["found"].response, names["shared"]
    told = np.linalg.lstsq(response, shared - shared.mean(axis=0), rcond=None)[0]
    left = shared - shared.mean(axis=0) - response @ told
    assert np.sqrt(1 - (left**2).sum() / ((shared - shared.mean(axis=0)) ** 2).sum()) > 0.97
    assert names["debiased_alignment"](names["one"], names["other"]) > 0.5


@pytest.mark.parametrize("page", ["networks", "alignment"])
def test_what_the_code_imports_is_there(repository, page):
    for block in python_of(repository, page):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("lmri"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_functions_that_the_table_names_are_exported(repository):
    text = (repository / "docs/alignment.md").read_text(encoding="utf-8")
    table = text.split("| analysis |")[1].split("\n\n")[0]
    align = importlib.import_module("lmri.align")
    named = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row)]
    assert len(named) > 6
    assert [name for name in named if not hasattr(align, name)] == []
