"""The pages on interventions and scoring: their code runs, and their tables are whole."""

import re

import pytest
import torch

from lmri.intervene import KINDS, PHASES
from lmri.score import SCORERS
from lmri.score.responses import SAVED


@pytest.fixture
def pages(repository):
    names = ("interventions", "scoring")
    return {name: (repository / f"docs/{name}.md").read_text(encoding="utf-8") for name in names}


def test_the_code_of_the_page_runs_in_order(pages, tiny_model_folder, tmp_path, monkeypatch):
    folder = tmp_path / "results/my_study/subjects"
    folder.mkdir(parents=True)
    (folder / "my_model").symlink_to(tiny_model_folder)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    with torch.inference_mode():
        for block in re.findall(r"^```python\n(.*?)^```", pages["interventions"], re.M | re.S):
            exec(compile(block, "docs/interventions.md", "exec"), names)
    divergence = names["curve"]["divergence"].mean("prompt").values
    assert divergence[0] == 0 < divergence[1] < divergence[-1]
    assert names["report"].rank == names["report"].width == 32
    assert names["report"].kept == pytest.approx(1, abs=1e-3)
    assert names["clamped"].shape[:2] == (2, 7)


def test_every_kind_mode_and_phase_is_on_the_page(pages):
    page = pages["interventions"]
    for name in (*KINDS, *PHASES, *(mode for kind in KINDS.values() for mode in kind.modes)):
        assert f"`{name}`" in page, name


def test_every_scorer_and_saved_column_is_on_the_page(pages):
    page = pages["scoring"]
    table = page.partition("## Scorers")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|", table, re.M)
    assert {name for name, _ in rows} == set(SCORERS)
    for name, needs in rows:
        own = {need.strip().replace(" ", "_") for need in needs.split(",")}
        assert own == set(SCORERS[name].needs) - {"tokens"}, name
    for name in SAVED:
        assert f"`{name}`" in page, name
