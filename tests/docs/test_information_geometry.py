"""The page on geometry and dynamics: its code runs on a tiny study."""

import re

import pytest

from lmri.config import RecordOptions, SplitOptions, TaskOptions, WorldOptions
from lmri.record import record_task
from lmri.stimuli import write_stimuli


@pytest.fixture(scope="module")
def study(tiny_model_folder, tmp_path_factory):
    """A folder with a prepared subject and its recording."""
    root = tmp_path_factory.mktemp("study")
    results = root / "results/my_study"
    write_stimuli(
        out=root / "copying.parquet",
        task="copying",
        options=TaskOptions("copying", "world", trials=20),
        splits=SplitOptions(0.4, 0.3, 0.3),
        world=WorldOptions(size="small"),
        seed=0,
        provenance={},
    )
    store = results / "recordings/my_model/my_task/0.zarr"
    record_task(
        out=store,
        manifest=store.with_name("0.zarr.manifest.json"),
        subject="my_model",
        model=tiny_model_folder,
        task="my_task",
        stimuli=root / "copying.parquet",
        shard=0,
        options=RecordOptions(max_new_tokens=4, quantities=("router", "residual", "attention")),
        seed=0,
        provenance={},
    )
    (results / "subjects").mkdir()
    (results / "subjects/my_model").symlink_to(tiny_model_folder)
    return root


def test_the_code_of_the_page_runs_in_order(repository, study, monkeypatch):
    page = (repository / "docs/information_geometry.md").read_text(encoding="utf-8")
    monkeypatch.chdir(study)
    names: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S):
        exec(compile(block, "docs/information_geometry.md", "exec"), names)
    assert names["profile"]["participation_ratio"].dims == ("scaling", "phase", "layer")
    assert float(names["profile"]["lens_divergence"].sel(phase="response")[-1]) < 1e-5
    assert names["attention"]["relative_entropy"].dims == ("measure", "phase", "layer", "head")
    assert "reduction" in names["classes"]
    assert names["changes"].after.tolist() == [1950]
    assert float(names["every"]["after"]) == 1950
    assert names["warning"]["step"].values.max() == 1950


def test_every_variable_of_the_table_is_written(repository, study, monkeypatch):
    from lmri.information.profiles import layer_profiles
    from lmri.store import Recording

    page = (repository / "docs/information_geometry.md").read_text(encoding="utf-8")
    section = page.partition("## What a spectrum says")[2].partition("\n- ")[0]
    named = {
        name
        for row in section.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    monkeypatch.chdir(study)
    found = layer_profiles([Recording(next(study.rglob("0.zarr")))], split=None)
    assert named - {"prompt_entropy"} <= set(found.data_vars)
    assert len(named) > 10
