"""Plans as files: what is written is read, and what was changed or does not fit is refused."""

import json
from dataclasses import fields

import pytest
import torch
from families import tiny_model

from lmri.anatomy import describe
from lmri.errors import SparseError
from lmri.sparse.plan import Achieved, Calibration, SparsePlan
from lmri.sparse.plan_file import plan_hash, read_plan, write_plan
from lmri.sparse.rules import (
    AttentionTopK,
    CacheHeads,
    ExpertRatio,
    GateCutoff,
    InputThreshold,
    InputTopK,
    KeptHeads,
    KeptNeurons,
    NeuronThreshold,
    SkippedExperts,
)

SUBJECT = "ab" * 32
RULES = (
    InputThreshold(0, "query", torch.tensor(0.1)),
    InputThreshold(1, "expert_down", torch.rand(8, 16)),
    InputThreshold(0, "key", torch.tensor(float("inf"))),
    InputTopK(0, "down", 5, torch.rand(48)),
    InputTopK(0, "up", 5),
    NeuronThreshold(0, "dense", torch.rand(48)),
    GateCutoff(0, "dense", "shifted_relu", 0.25),
    KeptNeurons(0, "dense", ()),
    KeptNeurons(1, "expert", (1, 4), expert=3),
    KeptHeads(0, (0, 3)),
    SkippedExperts(1, (2, 5), "zero"),
    ExpertRatio(1, 0.5, renormalise=True),
    AttentionTopK(0, 16),
    CacheHeads(1, (0,), window=8),
)


def a_plan(*rules):
    return SparsePlan(
        policy="teal",
        subject=SUBJECT,
        rules=rules or RULES,
        parameters={"sparsity": 0.5},
        dense_tokens=2,
        calibration=Calibration(("events/1", "events/2"), 300, 1),
        achieved=(Achieved(0, "input_threshold", "query", 0.5, 0.5, "channels", 1024, 512.0),),
    )


def anatomy():
    return describe(tiny_model("qwen3_moe"))  # layer 0 is dense, layer 1 has 8 experts


def test_what_is_written_is_read(tmp_path):
    written = a_plan()
    write_plan(tmp_path / "teal.json", written)
    read = read_plan(tmp_path / "teal.json", SUBJECT, anatomy())
    for name in ("policy", "subject", "parameters", "dense_tokens", "calibration", "achieved"):
        assert getattr(read, name) == getattr(written, name)
    for old, new in zip(written.rules, read.rules, strict=True):
        assert type(new) is type(old)
        for field in fields(old):
            before, after = getattr(old, field.name), getattr(new, field.name)
            if isinstance(before, torch.Tensor):
                assert torch.equal(before, after) and after.dtype is torch.float32
            else:
                assert before == after


def test_a_plan_without_rules_has_no_tensors(tmp_path):
    write_plan(tmp_path / "dense.json", a_plan())
    write_plan(tmp_path / "dense.json", SparsePlan("dense", SUBJECT))
    assert [path.name for path in tmp_path.iterdir()] == ["dense.json"]
    assert read_plan(tmp_path / "dense.json").rules == ()


def test_the_hash_does_not_depend_on_the_time(tmp_path):
    first = write_plan(tmp_path / "a" / "teal.json", a_plan())
    second = write_plan(tmp_path / "b" / "teal.json", a_plan())
    assert first["hash"] == second["hash"]


def test_an_altered_plan_is_refused(tmp_path):
    path = tmp_path / "teal.json"
    content = write_plan(path, a_plan())
    content["rules"][0]["threshold"] = 0.2
    path.write_text(json.dumps(content))
    with pytest.raises(SparseError, match=r"teal\.json.*was changed.*calibrate again"):
        read_plan(path)


def test_altered_and_missing_tensors_are_refused(tmp_path):
    path = tmp_path / "teal.json"
    write_plan(path, a_plan())
    beside = tmp_path / "teal.safetensors"
    data = bytearray(beside.read_bytes())
    data[-1] ^= 1
    beside.write_bytes(data)
    with pytest.raises(SparseError, match=r"teal\.safetensors.*was changed"):
        read_plan(path)
    beside.unlink()
    with pytest.raises(SparseError, match=r"tensors.*missing"):
        read_plan(path)


def test_a_plan_of_another_subject_is_refused(tmp_path):
    write_plan(tmp_path / "teal.json", a_plan())
    with pytest.raises(SparseError, match=r"'subject' of the plan.*calibrate the policy 'teal'"):
        read_plan(tmp_path / "teal.json", "cd" * 32)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (InputThreshold(2, "query", torch.tensor(0.1)), "'layer'.*attention"),
        (InputThreshold(1, "down", torch.tensor(0.1)), "'layer'.*a dense MLP"),
        (InputThreshold(0, "shared_down", torch.tensor(0.1)), "'layer'.*shared experts"),
        (InputThreshold(0, "key", torch.zeros(7)), r"'threshold'.*\(32,\)"),
        (InputTopK(0, "down", 49), "'kept'.*48"),
        (NeuronThreshold(1, "expert", torch.zeros(16)), r"'threshold'.*\(8, 16\)"),
        (KeptNeurons(0, "dense", (48,)), "'neurons'.*below 48"),
        (KeptNeurons(1, "expert", (0,), expert=8), "'expert'.*below 8"),
        (KeptHeads(0, (4,)), "'heads'.*below 4"),
        (SkippedExperts(0, (1,)), "'layer'.*experts"),
    ],
)
def test_a_rule_for_a_site_that_the_subject_lacks_is_refused(tmp_path, rule, message):
    write_plan(tmp_path / "teal.json", a_plan(rule))
    read_plan(tmp_path / "teal.json")
    with pytest.raises(SparseError, match=message):
        read_plan(tmp_path / "teal.json", anatomy=anatomy())


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (InputThreshold(0, "gates", torch.tensor(0.1)), "'projection'.*'gate'"),
        (InputThreshold(0, "gate", torch.tensor(-0.1)), "'threshold'.*not below 0"),
        (InputThreshold(0, "gate", torch.tensor(float("nan"))), "'threshold'"),
        (InputTopK(0, "gate", 0), "'kept'"),
        (GateCutoff(0, "dense", "shifted_relu", 0.0), "'value'.*above 0"),
        (KeptHeads(0, (3, 1)), "'heads'.*ascending"),
        (KeptHeads(-1, (1,)), "'layer'"),
        (SkippedExperts(0, (1,), "force"), "'mode'"),
        (ExpertRatio(0, 1.0), "'ratio'"),
    ],
)
def test_a_rule_that_no_subject_can_follow_is_never_written(tmp_path, rule, message):
    with pytest.raises(SparseError, match=message):
        write_plan(tmp_path / "teal.json", a_plan(rule))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5])
def test_a_sparsity_outside_its_range_is_refused(tmp_path, sparsity):
    achieved = Achieved(0, "input_threshold", "query", sparsity, 0.5, "channels", 1, 0.5)
    with pytest.raises(SparseError, match=r"'sparsity'.*in \[0, 1\)"):
        write_plan(tmp_path / "teal.json", SparsePlan("teal", SUBJECT, achieved=(achieved,)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "lmri.plan/0"}, "'schema'"),
        ({"rules": None}, "'rules' of a plan must be list"),
        ({"rules": [{"rule": "guess"}]}, "'rule' of the plan"),
        ({"rules": [{"rule": "input_top_k", "layer": 0, "kept": 3}]}, "lacks its 'projection'"),
        ({"calibration": {"days": 3}}, "not a plan of this version"),
    ],
)
def test_a_plan_of_another_form_is_refused(tmp_path, change, message):
    path = tmp_path / "teal.json"
    content = {**write_plan(path, a_plan()), **change}
    path.write_text(json.dumps({**content, "hash": plan_hash(content)}))
    with pytest.raises(SparseError, match=message):
        read_plan(path)


def test_a_file_that_is_no_plan_is_refused(tmp_path):
    with pytest.raises(SparseError, match="no such plan"):
        read_plan(tmp_path / "teal.json")
    for text in ("{", '{"schema": "lmri.plan/1", "dense_tokens": NaN}'):
        (tmp_path / "teal.json").write_text(text)
        with pytest.raises(SparseError, match="not a readable plan"):
            read_plan(tmp_path / "teal.json")
