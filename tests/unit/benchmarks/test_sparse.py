"""A small version of ``benchmarks.sparse``: products are timed, and bars judge."""

import pytest
import torch

from benchmarks import sparse
from benchmarks.sparsity import products
from lmri.sparse.kernels import backend

NAMES = {"mv", "linear", "read"} | {
    f"{side} {sparsity}" for side in ("input", "output", "mlp") for sparsity in products.SPARSITIES
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_product_is_timed_in_every_round(dtype):
    before = torch.get_num_threads()
    measured = products.measure(dtype, 40, 100, 2, 3, before)
    for clock in ("cpu", "wall"):
        assert {name: len(all_) for name, all_ in measured[clock].items()} == dict.fromkeys(
            NAMES, 3
        )
    assert measured["bytes"] == 40 * 100 * dtype.itemsize


def test_exactly_the_share_that_is_named_is_skipped():
    data = products.Data.make(torch.bfloat16, 40, 200, 1, backend("reference"))
    for sparsity in products.SPARSITIES:
        for x, index in zip(data.inputs[sparsity], data.indices[sparsity], strict=True):
            assert (x.abs() <= products.THRESHOLD).sum() == 2 * sparsity
            assert len(index) == 40 - 40 * sparsity // 100


def canned(dtype, rounds, threads):
    dense = {"mv": 12.0, "linear": 10.0, "read": 10.0 / threads}
    inputs = {"input 0": 10.0, "input 50": 5.0, "input 75": 2.5, "input 90": 2.0}
    outputs = {name.replace("input", side): 1.0 for name in inputs for side in ("output", "mlp")}
    seconds = {name: [value / threads, 99.0] for name, value in inputs.items()}
    seconds["input 75"] = [2.5, 2.5]
    seconds |= {name: [value] for name, value in (dense | outputs).items()}
    return {"bytes": 1e9, "backend": "cpu", "cpu": seconds, "wall": seconds}


def missed(rows):
    return [(row.figure.partition(", ")[2], row.status) for row in rows if row.status != "held"]


def test_bars_judge_the_least_of_the_rounds(monkeypatch):
    monkeypatch.setattr(sparse, "_measured", canned)
    assert missed(sparse.one_thread("float32", 1)) == [
        ("90 % of inputs skipped, against dense", "failed"),
        ("90 % of inputs skipped, read a second", "failed"),
    ]


@pytest.mark.parametrize(("load", "status"), [(0.0, "failed"), (2.0, "not_measured")])
def test_a_second_thread_is_judged_on_an_idle_machine(load, status, monkeypatch):
    monkeypatch.setattr(sparse, "_measured", canned)
    monkeypatch.setattr(sparse.os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(sparse.os, "sched_getaffinity", lambda _: {0, 1})
    expected = ("75 % of inputs skipped, two against one", status)
    assert missed(sparse.threads(1)) == [expected] * 2


def test_nothing_is_measured_without_kernels(monkeypatch):
    monkeypatch.setattr(sparse, "_measured", lambda *_: canned(*_) | {"backend": "reference"})
    with pytest.raises(SystemExit, match="could not be built"):
        list(sparse.one_thread("float32", 1))


def test_bars_of_a_gpu_judge_the_median(monkeypatch):
    spent = {"mv": [3.0, 2.0, 9.0], "linear": [4.0], "copy": [2.0]}
    spent |= {f"input {sparsity}": [1.5, 2.0, 1.0] for sparsity in products.SPARSITIES}
    monkeypatch.setattr(sparse.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sparse, "measure", lambda *_: spent)
    rows = {row.figure.partition(", ")[2]: row for row in sparse.gpu(3)}
    assert rows["50 % of inputs skipped, against mv"].status == "held"
    read = rows["50 % of inputs skipped, read a second, against a copy"]
    assert (read.ratio, read.status) == (pytest.approx(1 / 3), "failed")


def test_without_a_gpu_it_is_not_measured(monkeypatch):
    monkeypatch.setattr(sparse.torch.cuda, "is_available", lambda: False)
    assert [row.status for row in sparse.gpu(3)] == ["not_measured"]
