"""The pages on interventions and scoring: their code runs, and their tables are whole."""

import re

import pytest
import torch

from lmri.anatomy import load_subject
from lmri.config import load_study
from lmri.intervene import KINDS, PHASES, last_states, mean_difference, onsets, steering_plan
from lmri.score import SCORERS, encode, onset_tokens
from lmri.score.responses import SAVED
from lmri.stimuli import make_stimuli
from lmri.subjects.packaged import install_embedded


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


@pytest.mark.parametrize("state", ["localised", "distributed"])
def test_steering_does_to_the_packaged_subjects_what_the_page_says(
    pages, repository, tmp_path, state
):
    study = load_study(repository / "config/config.yaml")
    own = {"splits": study.splits, "world": study.world, "seed": study.seed}
    trials = make_stimuli(task="events", options=study.tasks["events"], **own)
    install_embedded(state, tmp_path / state)
    subject = load_subject(tmp_path / state, state)
    tables = {}
    for condition in ("sensitive", "benign"):
        mine = trials[trials["condition"] == condition]
        for split, count in (("selection", 56), ("evaluation", 40)):
            tables[condition, split] = mine[mine["split"] == split][:count]

    def ids(condition, split):
        prompts = tables[condition, split]["prompt"]
        return [encode(subject.tokenizer, prompt, "test") for prompt in prompts]

    states = [last_states(subject, ids(name, "selection"), 64) for name in ("sensitive", "benign")]
    layer = subject.anatomy.layers - 1
    vector = mean_difference(*states)[layer]
    columns = {"localised": (0, 1), "distributed": (2, 3)}[state]
    table = pages["interventions"].partition("| scale |")[2]
    rows = re.findall(r"^\| (-?[\d.]+) \| (.*) \|$", table, re.M)
    assert len(rows) == 5
    for line in rows:
        scale, told = float(line[0]), [float(cell) for cell in line[1].split(" | ")]
        plan = steering_plan(subject.anatomy, {layer: vector}, scale, phase="prompt_last")
        for column, condition in zip(columns, ("sensitive", "benign"), strict=True):
            watched = onset_tokens(subject.tokenizer, tables[condition, "evaluation"])
            said, _ = onsets(subject, ids(condition, "evaluation"), watched, [plan], 64)
            assert (said[0] == watched).mean() == pytest.approx(told[column], abs=0.006), (
                line,
                condition,
            )
