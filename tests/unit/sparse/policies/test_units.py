"""A finding as a policy: its units only, or all but them."""

import pytest
import torch
from families import tiny_model, tokens

from lmri.errors import LmriError, SparseError
from lmri.intervene import Plan, intervened
from lmri.sparse.policies import calibrate
from lmri.sparse.runtime import sparse


def finding(kind, units, **more):
    return {"kind": kind, "status": "testable", "units": units, **more}


def rules_of(reading, kind, own, **options):
    return calibrate("keep_units", reading(kind), {"finding": own, **options}).rules


def test_only_the_neurons_of_a_finding_are_kept(reading):
    own = finding("neuron", [{"layer": 0, "neuron": 5}, {"layer": 0, "neuron": 2}])
    rules = rules_of(reading, "llama", own)
    assert [(r.layer, r.group, r.neurons) for r in rules] == [
        (0, "dense", (2, 5)),
        (1, "dense", ()),
    ]
    (off,) = rules_of(reading, "llama", own, keep="off")
    assert off.layer == 0 and off.neurons == tuple(sorted(set(range(48)) - {2, 5}))
    (one,) = rules_of(reading, "llama", own, keep="off", dose=1)
    assert one.neurons == tuple(sorted(set(range(48)) - {5}))  # the strongest comes first


def test_units_of_the_endpoint_come_before_those_of_the_map(reading):
    own = finding(
        "head", [{"layer": 1, "head": 3}], primary_endpoint={"units": [[0, 1]], "mode": "zero"}
    )
    assert [(r.layer, r.heads) for r in rules_of(reading, "llama", own)] == [(0, (1,)), (1, ())]


def test_neurons_of_experts_are_kept_expert_by_expert(reading):
    own = finding("expert_neuron", [{"layer": 1, "expert": 3, "neuron": 7}])
    rules = rules_of(reading, "qwen3_moe", own)
    assert [r.expert for r in rules] == list(range(8))
    assert [r.neurons for r in rules] == [(7,) if expert == 3 else () for expert in range(8)]
    (off,) = rules_of(reading, "qwen3_moe", own, keep="off")
    assert (off.expert, off.neurons) == (3, tuple(i for i in range(16) if i != 7))


def test_experts_are_off_in_the_mode_of_the_finding(reading):
    own = finding(
        "expert", [], primary_endpoint={"units": [[1, 2], [0, 4]], "mode": "zero_renormalise"}
    )
    off = rules_of(reading, "olmoe", own, keep="off")
    assert [(r.layer, r.experts, r.mode) for r in off] == [
        (0, (4,), "zero_renormalise"),
        (1, (2,), "zero_renormalise"),
    ]
    only = rules_of(reading, "olmoe", own)
    assert [r.mode for r in only] == ["zero", "zero"]
    assert [set(range(8)) - set(r.experts) for r in only] == [{4}, {2}]


@pytest.mark.parametrize(
    ("kind", "unit", "names"),
    [
        ("neuron", (0, 5), ("layer", "neuron")),
        ("expert_neuron", (1, 3, 7), ("layer", "expert", "neuron")),
        ("head", (1, 2), ("layer", "head")),
        ("expert", (1, 3), ("layer", "expert")),
    ],
)
def test_a_unit_that_is_off_is_the_intervention_that_sets_it_to_zero(reading, kind, unit, names):
    activity = reading("qwen3_moe")
    own = finding(kind, [dict(zip(names, unit, strict=True))])
    plan = calibrate("keep_units", activity, {"finding": own, "keep": "off"})
    model, ids = tiny_model("qwen3_moe"), tokens("qwen3_moe")
    mode = "mask" if kind == "expert" else "zero"
    with torch.inference_mode():
        with intervened(activity.subject, [Plan(mode, (unit,), kind)]) as session:
            session.rows = torch.zeros(len(ids), dtype=torch.int64)
            expected = model(ids).logits
        with sparse(model, plan, "reference"):
            torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-5)
        assert not torch.equal(model(ids).logits, expected)


@pytest.mark.parametrize(
    ("own", "options", "message"),
    [
        (finding("residual", [{"layer": 0, "dimension": 1}]), {}, "'kind' of the finding"),
        (finding("neuron", []), {}, "must have units"),
        (finding("neuron", [{"layer": 0, "neuron": 48}]), {}, "neurons of dense MLPs"),
        (finding("expert", [{"layer": 0, "expert": 1}]), {}, "which has none"),
        (finding("neuron", [{"layer": 0, "neuron": 1}]), {"keep": "some"}, "'keep'"),
        (finding("neuron", [{"layer": 0, "neuron": 1}]), {"dose": 0}, "'dose'"),
    ],
)
def test_a_finding_that_no_rule_can_be_for_is_refused(reading, own, options, message):
    with pytest.raises(LmriError, match=message):
        rules_of(reading, "llama", own, **options)


def test_too_few_experts_left_are_refused(reading):
    own = finding(
        "expert", [], primary_endpoint={"units": [[0, i] for i in range(7)], "mode": "mask"}
    )
    with pytest.raises((LmriError, SparseError), match="at most 6 experts"):
        rules_of(reading, "olmoe", own, keep="off")
