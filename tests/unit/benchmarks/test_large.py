"""A small version of ``benchmarks.recording.large``: it measures on a CPU, and asks for a GPU."""

import json

import torch
from transformers import AutoModelForCausalLM

from benchmarks.recording import large
from lmri.config import load_study


def test_a_small_model_is_recorded_on_a_cpu(tmp_path, monkeypatch, capsys):
    asked = []

    def record(subject, trials, options, folder):
        asked.append((str(subject.dtype), len(trials), options.quantities))
        return measured(subject, trials, options, folder)

    measured = large.record
    monkeypatch.setattr(large, "record", record)
    out = tmp_path / "rows.json"
    monkeypatch.setattr("sys.argv", ["large", "--tiny", "--json", str(out)])
    assert large.main() == 0
    study = load_study(large.STUDY).record
    assert asked == [("torch.bfloat16", 6, study.quantities)] * 2
    rows = {row["figure"].partition(" 6 ")[0]: row for row in json.loads(out.read_text())}
    assert list(rows) == [
        "parameters",
        "answering",
        "recording",
        "both",
        "peak memory of the process",
        "store",
    ]
    assert all(row["ours"] > 0 for row in rows.values())
    assert "tokens/s" in capsys.readouterr().out


def test_the_large_model_is_olmoe_1b_7b():
    config = large.large(100).config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert round(sum(p.numel() for p in model.parameters()) / 1e9, 2) == 6.92


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["large"])
    assert large.main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "must run where torch finds a CUDA device. Found none" in said.err
