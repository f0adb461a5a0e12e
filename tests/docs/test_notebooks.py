"""The notebooks run from their first cell to their last on a small study, and bring no outputs."""

import ast
import json

import matplotlib as mpl
import nbformat
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from network_recordings import random_subject, record_events, write_events

from lmri.config import ExampleOptions
from lmri.examples import find_examples
from lmri.report.inputs import VERDICTS
from lmri.store import open_recordings, write_finding, write_map, write_table

CONDITIONS = ("sensitive", "near_miss_place", "near_miss_year", "benign")
MAP = "refusal.prompt_last/expert.resonance"


@pytest.fixture(scope="module")
def notebook(repository):
    return nbformat.read(repository / "docs/notebooks/first_look.ipynb", as_version=4)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a study of one random subject: real recordings, a map and a verdict by hand."""
    root = tmp_path_factory.mktemp("notebook")
    study, subject = root / "results/default", "localised"
    model, stimuli = random_subject(root / "model"), write_events(root / "events.parquet")
    record_events(stimuli, model, study / "recordings" / subject, subject, ("router",))
    score = np.random.default_rng(0).normal(0, 0.1, (2, 8))
    score[1, 5] = 0.9
    made = xr.Dataset(
        {"score": (("layer", "expert"), score)}, {"layer": [0, 1], "expert": range(8)}
    )
    write_map(study / f"maps/{subject}/{MAP}.zarr", made)
    finding = {"stage": "localise", "subject": subject, "task": "events", "contrast": "refusal"}
    finding |= {"phase": "prompt_last", "kind": "expert", "method": "resonance"}
    finding |= {"role": "hypothesis", "status": "testable"}
    finding["units"] = [{"layer": 1, "expert": 5, "score": 0.9}]
    write_finding(study / f"findings/localise/{subject}/{MAP}.json", finding)
    checks = json.dumps([{"check": "coherent", "passed": True, "detail": "0.99"}])
    row = dict.fromkeys(VERDICTS, 0.5) | {"subject": subject, "role": "hypothesis"}
    row |= {"verdict": "confirmed", "units": "[[1, 5]]", "checks": checks}
    write_table(study / "verdicts.parquet", pd.DataFrame([row]))
    find_examples(
        subject=subject,
        model=model,
        recordings=study / "recordings" / subject,
        findings=study / "findings/localise" / subject,
        maps=study / "maps" / subject,
        out=study / "analyses/examples" / subject,
        tasks=["events"],
        contrasts=[{"name": "refusal", "task": "events", "conditions": CONDITIONS}],
        names=["expert.resonance"],
        phase="prompt_last",
        options=ExampleOptions(units=1),
        seed=0,
        provenance={},
    )
    return root


def shown(source: str, names: dict) -> object:
    """Run a cell as a kernel does; return the value of its last line if it has one."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "a cell", "exec"), names)
    return (
        None if last is None else eval(compile(ast.Expression(last.value), "a cell", "eval"), names)
    )


@pytest.fixture(scope="module")
def run(notebook, root):
    """What each cell shows, by its name, and all names after the last."""
    names: dict = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch, mpl.rc_context({"backend": "agg"}):
        patch.chdir(root)
        values = {
            cell["id"]: shown(cell["source"], names)
            for cell in notebook.cells
            if cell["cell_type"] == "code"
        }
    return values, names


def test_it_is_a_notebook_without_outputs(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell["cell_type"] == "code"]
    assert len(code) >= 6
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert all(set(cell["metadata"]) == set() for cell in notebook.cells)


def test_cells_show_what_the_files_hold(run):
    values, names = run
    assert values["verdicts"].loc["localised", "verdict"] == "confirmed"
    assert values["checks"]["passed"].tolist() == [True]
    assert values["maps"].index[0] == (1, 5)
    assert values["finding"] == [(1, 5)]
    assert set(values["recordings"].columns) == set(CONDITIONS)
    assert names["axes"] is not None


def test_rates_are_those_of_the_recording(run, root):
    rates = run[0]["rates"]
    tree = open_recordings(root / "results/default/recordings/localised/events")
    table, index = tree["trials"].dataset, tree["tokens/index"].dataset
    for condition in CONDITIONS:
        hits = []
        for row in np.flatnonzero(table["condition"].values == condition):
            if table["split"].values[row] != "calibration":
                continue
            own = np.flatnonzero(index["trial"].values == row)[int(table["n_prompt"][row]) - 1]
            hits.append(5 in tree["tokens/router"]["expert_id"].values[own, 1])
        assert rates.loc[condition, "size"] == len(hits)
        assert rates.loc[condition, "mean"] == np.mean(hits)


def test_examples_are_of_the_unit_that_was_found(run):
    assert run[0]["examples"]["examples"].sum() > 0
    assert set(run[1]["own"]["unit"]) == {"[1, 5]"}


def test_a_cell_that_fails_is_not_passed_over():
    with pytest.raises(KeyError):
        shown("values = {}\nvalues['nothing']", {})
