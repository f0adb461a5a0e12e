"""Every policy makes a plan that is written, read and run, in every architecture it is for."""

import pytest
import torch
from families import (
    FAMILIES,
    MIXTURES,
    configuration,
    random_model,
    tiny_model,
    tokens,
)

from lmri.sparse.plan_file import read_plan, write_plan
from lmri.sparse.policies import POLICIES, Runs, calibrate
from lmri.sparse.runtime import sparse

OPTIONS = {
    "statistical_top_k": {"keys": 4},
    "cache_heads": {"heads": [[0, 1]], "window": 4, "sinks": 1},
    "keep_heads": {"heads": [[0, 1], [1, 2]]},
    "keep_units": {"finding": {"kind": "head", "units": [{"layer": 0, "head": 1}]}},
    "ppl_search": {"tries": 4},
}
NO_CACHE = ("bert", "deepseek_v2", "deepseek_v3")
RUNS = Runs(perplexity=lambda plan: 1.0 + 0.01 * len(plan.rules))


def has(kind, policy):
    if policy == "skip_experts":
        return kind in MIXTURES and kind != "llama4_text"
    return policy != "cache_heads" or kind not in NO_CACHE


CASES = [(kind, policy) for kind in FAMILIES for policy in POLICIES if has(kind, policy)]


@pytest.mark.parametrize(("kind", "policy"), CASES)
def test_a_plan_is_made_written_read_and_run(tmp_path, reading, kind, policy):
    activity = reading(kind, subject="ab" * 32)
    plan = calibrate(policy, activity, OPTIONS.get(policy), runs=RUNS, dense_tokens=1)
    assert len(plan.achieved) == len(plan.rules) > 0
    assert plan.calibration == activity.calibration and plan.dense_tokens == 1
    write_plan(tmp_path / f"{policy}.json", plan)
    read = read_plan(tmp_path / f"{policy}.json", "ab" * 32, activity.subject.anatomy)
    model, ids = tiny_model(kind), tokens(kind, 1, 8)
    with torch.inference_mode():
        with sparse(model, plan, "reference", subject_hash="ab" * 32):
            first = model(ids).logits
        with sparse(model, read, "reference", subject_hash="ab" * 32):
            assert torch.equal(model(ids).logits, first)
    assert first.isfinite().all()


def test_the_same_calibration_gives_the_same_file(tmp_path, reading):
    hashes = set()
    for name in ("a", "b"):
        plan = calibrate("chess", reading("qwen3_moe"))
        hashes.add(write_plan(tmp_path / name / "chess.json", plan)["hash"])
    assert len(hashes) == 1


@pytest.mark.parametrize("policy", ["teal", "wina", "chess", "cett", "fatrelu", "top_k"])
def test_a_subject_in_bfloat16_is_calibrated(reading, policy):
    model = random_model(configuration("qwen3_moe")).to(torch.bfloat16)
    activity = reading("qwen3_moe", model=model)
    plan = calibrate(policy, activity)
    asked = [own for own in plan.achieved if own.asked is not None]
    # Few bits, so many equal values: what is achieved is told, not what was asked.
    assert all(own.achieved == pytest.approx(own.asked, abs=0.03) for own in asked)
    with torch.inference_mode(), sparse(model, plan, "reference"):
        assert model(tokens("qwen3_moe", 1, 8)).logits.isfinite().all()
