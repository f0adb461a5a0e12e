"""The bars of ``benchmarks.decode`` judge what was measured, of the tasks of the study."""

import json
from pathlib import Path

import pytest

from benchmarks import decode
from benchmarks.decoding import probing
from lmri.config import StudyConfig, load_study

MEASURED = {"wall": 60.0, "cpu": 70.0, "cells": 156, "tasks": 4, "draws": 199, "peak": 600.0}


@pytest.mark.parametrize(
    ("changed", "failed"),
    [({}, []), ({"wall": 121.0}, ["one thread"]), ({"peak": 2100.0}, ["peak memory"])],
)
def test_bars_judge_the_best_round(changed, failed, monkeypatch):
    rounds = iter([{**MEASURED, "wall": 500.0, **changed}, {**MEASURED, **changed}])
    said = "recorded\n{}\n"
    monkeypatch.setattr(decode, "run", lambda *_, **__: said.format(json.dumps(next(rounds))))
    rows = list(decode.PARTS["probing"](2))
    missed = [row.figure for row in rows if row.status == "failed"]
    assert len(missed) == len(failed)
    assert all(end in figure for end, figure in zip(failed, missed, strict=True))


def test_all_tasks_of_the_default_study_are_probed(repository, tmp_path, monkeypatch):
    study = load_study(repository / "config/config.yaml")
    tables, stores = [], []
    monkeypatch.setattr(probing, "install_embedded", lambda state, out: None)
    monkeypatch.setattr(probing, "write_stimuli", lambda **own: tables.append(own["task"]))
    monkeypatch.setattr(probing, "record_task", lambda **own: stores.append(own["options"]))
    probing.record(tmp_path, study)
    assert tables == list(study.tasks)
    assert all("residual" in own.full for own in stores)
    assert isinstance(study, StudyConfig)
    assert Path("config/config.yaml") == probing.STUDY
