"""What is refused, before anything of the model is changed."""

import pytest
import torch
from families import configuration, random_model, tiny_model, tokens
from sparse_cases import plan_for, plan_of

from lmri.anatomy import Subject, describe
from lmri.errors import SparseError
from lmri.intervene import Plan, intervened
from lmri.sparse.plan import SparsePlan
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
    Rule,
    SkippedExperts,
)
from lmri.sparse.runtime import sparse

HALF = torch.tensor(0.5)

BAD = [
    ("llama", InputThreshold(2, "up", HALF), r"'layer' .* must be in \[0, 1\]. Got 2"),
    ("llama", InputThreshold(0, "expert_up", HALF), "Layer 0 has no projection 'expert_up'"),
    ("deepseek_v2", InputThreshold(0, "value", HALF), "Layer 0 has no projection 'value'"),
    ("llama", InputThreshold(0, "up", torch.ones(5)), r"shape \(32,\) or \(\).*\(5,\)"),
    ("mixtral", InputThreshold(0, "expert_up", torch.ones(32)), r"shape \(8, 32\) or \(\)"),
    ("llama", InputThreshold(0, "up", torch.tensor(-1.0)), "at least 0"),
    ("llama", InputThreshold(0, "up", torch.tensor(float("nan"))), "at least 0"),
    ("llama", InputTopK(0, "up", 0), "'kept'.*Got 0"),
    ("llama", InputTopK(0, "up", 33), "'kept'.*Got 33"),
    ("llama", InputTopK(0, "up", 3, torch.tensor(1.0)), "'scale'"),
    ("llama", NeuronThreshold(0, "expert", HALF), "Layer 0 has no group 'expert'"),
    ("llama", GateCutoff(0, "dense", "sign"), "'cutoff'.*'sign'"),
    ("llama", GateCutoff(0, "dense", "shifted_relu", 0.0), "must be above 0"),
    ("llama", KeptNeurons(0, "dense", (3, 2)), "ascend"),
    ("llama", KeptNeurons(0, "dense", (48,)), r"\[0, 47\]"),
    ("llama", KeptNeurons(0, "dense", (1,), 0), "'expert'"),
    ("mixtral", KeptNeurons(0, "expert", (1,)), "'expert'"),
    ("mixtral", KeptNeurons(0, "expert", (1,), 8), "'expert'.*Got 8"),
    ("llama", KeptHeads(0, (4,)), r"\[0, 3\]"),
    ("llama", SkippedExperts(0, (1,)), "Layer 0 has no experts"),
    ("llama4_text", SkippedExperts(1, (1,)), "none can be skipped"),
    ("mixtral", SkippedExperts(0, (1,), "force"), "'mode'"),
    ("mixtral", SkippedExperts(0, tuple(range(7))), "must leave 2"),
    ("mixtral", ExpertRatio(0, 1.0), "'ratio'"),
    ("llama4_text", ExpertRatio(1, 0.5), "none can be skipped"),
    ("llama", AttentionTopK(0, 0), "'kept'"),
    ("llama", CacheHeads(0, (2,)), r"\[0, 1\]"),
    ("llama", CacheHeads(0, (), window=0), "'window'"),
    ("deepseek_v3", CacheHeads(0, ()), "one latent"),
    ("bert", CacheHeads(0, ()), "no cache"),
    ("llama", Rule(0), "must be one of"),
]


@pytest.mark.parametrize(("kind", "rule", "message"), BAD)
def test_rules_that_do_not_fit(kind, rule, message):
    with pytest.raises(SparseError, match=message), sparse(tiny_model(kind), plan_of(rule)):
        pass


def test_two_rules_for_one_place():
    rules = InputThreshold(0, "up", HALF), InputTopK(0, "up", 3)
    with (
        pytest.raises(SparseError, match="Got two of 'input_top_k'"),
        sparse(tiny_model("llama"), plan_of(*rules)),
    ):
        pass


@pytest.mark.parametrize("own", ["", "b" * 64])
def test_a_plan_of_another_subject(own):
    plan = SparsePlan("teal", "a" * 64)
    with (
        pytest.raises(SparseError, match="'aaaaaaaaaaaa'"),
        sparse(tiny_model("llama"), plan, subject_hash=own),
    ):
        pass
    with sparse(tiny_model("llama"), plan, subject_hash="a" * 64) as session:
        assert session.counts.rules() == []


def test_one_session_at_a_time():
    model = tiny_model("llama")
    plan = plan_for("llama", "input_threshold")
    with sparse(model, plan):
        with pytest.raises(SparseError, match="one sparse plan at a time"), sparse(model, plan):
            pass
        model(tokens("llama"))
    with sparse(model, plan):
        pass


def test_dtype_training_and_backend():
    model = random_model(configuration("llama"))
    plan = plan_for("llama", "input_threshold")
    with pytest.raises(SparseError, match="'backend'"), sparse(model, plan, "cuda"):
        pass
    with pytest.raises(SparseError, match="eval"), sparse(model.train(), plan):
        pass
    model = model.eval().to(torch.float16)
    with pytest.raises(SparseError, match=r"torch\.float16"), sparse(model, plan):
        pass


def test_another_device_is_refused():
    model = random_model(configuration("llama")).to("meta")
    with (
        pytest.raises(SparseError, match=r"device 'cpu'\. Got meta"),
        sparse(model, plan_for("llama", "input_threshold")),
    ):
        pass


def test_nothing_changes_before_a_refusal():
    model = random_model(configuration("llama"))
    own = model.model.layers[0].mlp.down_proj.weight
    rules = [InputThreshold(0, "down", HALF), KeptHeads(1, (9,))]
    with pytest.raises(SparseError), sparse(model, plan_of(*rules)):
        pass
    assert own.is_contiguous()
    assert not hasattr(model, "lmri_sparse_session")


def test_no_compiler_is_the_reference(monkeypatch):
    """The documented fallback of the backend shows in the session."""
    from lmri.sparse.kernels.reference import Reference
    from lmri.sparse.runtime import session as module

    monkeypatch.setattr(module, "backend_of", lambda name: Reference())
    model, ids = tiny_model("llama"), tokens("llama", 1, 4)
    with torch.inference_mode():
        with sparse(model, plan_for("llama", "mixed")) as session:
            assert session.backend == "reference"
            got = model(ids).logits
        monkeypatch.undo()
        with sparse(model, plan_for("llama", "mixed"), "reference"):
            assert torch.equal(got, model(ids).logits)


@pytest.mark.parametrize("order", ["inside", "outside"])
def test_two_choices_of_experts(order):
    """Experts that a plan skips cannot be switched by an intervention as well."""
    model, ids = tiny_model("mixtral"), tokens("mixtral", 1, 4)
    subject = Subject("tiny", model, None, describe(model))
    plan = plan_of(SkippedExperts(0, (1,), "zero"))
    other = Plan("zero", ((1, 3),))
    with torch.inference_mode(), sparse(model, plan), intervened(subject, [other]):
        model(ids)
    contexts = [sparse(model, plan), intervened(subject, [Plan("zero", ((0, 3),))])]
    first, second = contexts if order == "inside" else contexts[::-1]
    with first, second, pytest.raises(SparseError, match="Experts of layer 0"):
        model(ids)
