"""Interventions on routing: known answers, by-hand blocks, rows under different plans."""

from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from lmri.anatomy import blocks, expert_groups, route, routers
from lmri.intervene import INTACT, MODES, OFF_MODES, Plan, intervened
from lmri.intervene.routing import Session, _reroute
from lmri.intervene.tables import compile_plans

UNITS = ((0, 0), (0, 3), (1, 6))  # often chosen by the tiny subject
PLANS = (INTACT, *(Plan(mode, UNITS) for mode in MODES), Plan("zero", ((1, 0),)))


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


@pytest.fixture
def four(tiny_subject):
    """Anatomy of a router over 4 experts, top-2."""
    return replace(tiny_subject.anatomy, experts=4, top_k=2)


def rerouted(anatomy, mode, *off, normalised=False):
    """Weights and experts of one token, rounded; layer 0, experts ``off``."""
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    router = SimpleNamespace(top_k=2, norm_topk_prob=normalised)
    session = Session(compile_plans([Plan(mode, tuple((0, e) for e in off))], anatomy), anatomy)
    own = route(router, anatomy.routing, logits)
    _, weights, ids = _reroute(session, 0, router, (), (logits, *own))
    return [round(weight, 3) for weight in weights[0].tolist()], ids[0].tolist()


def run(subject, ids, plans, rows):
    with intervened(subject, plans) as session:
        session.rows = torch.tensor(rows)
        return subject.model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize(
    ("mode", "off", "weights", "ids"),
    [
        ("mask", (), [0.644, 0.237], [0, 1]),
        ("mask", (0,), [0.665, 0.245], [1, 2]),
        ("mask", (3,), [0.665, 0.245], [0, 1]),
        ("zero", (0,), [0.0, 0.237], [4, 1]),
        ("zero", (0, 1), [0.0, 0.0], [4, 4]),
        ("zero", (2, 3), [0.644, 0.237], [0, 1]),
        ("zero_renormalise", (0,), [0.0, 0.881], [4, 1]),
        ("zero_renormalise", (1,), [0.881, 0.0], [0, 4]),
        ("zero_renormalise", (0, 1), [0.0, 0.0], [4, 4]),
        ("zero_renormalise", (2, 3), [0.644, 0.237], [0, 1]),
        ("force", (3,), [0.402, 0.398], [3, 0]),
        ("force", (2, 3), [0.298, 0.298], [2, 3]),
        ("force", (0,), [0.646, 0.235], [0, 1]),
    ],
)
def test_known_weights_of_a_router_that_does_not_normalise(four, mode, off, weights, ids):
    got, chosen = rerouted(four, mode, *off)
    assert got == pytest.approx(weights, abs=0.0006)
    assert chosen == ids


@pytest.mark.parametrize(
    ("mode", "weights", "ids"),
    [
        ("mask", [0.731, 0.269], [1, 2]),
        ("zero", [0.0, 0.269], [4, 1]),
        ("zero_renormalise", [0.0, 1.0], [4, 1]),
    ],
)
def test_known_weights_of_a_router_that_normalises(four, mode, weights, ids):
    assert rerouted(four, mode, normalised=True) == ([0.731, 0.269], [0, 1])
    assert rerouted(four, mode, 0, normalised=True) == (weights, ids)


def chosen_by_hand(logits, mode, units):
    """Explicit loop over the experts of one token; returns (weight, expert) pairs."""
    values = logits.tolist()
    if mode == "mask":
        values = [float("-inf") if e in units else v for e, v in enumerate(values)]
    if mode == "force":
        values = [max(values) + 0.01 if e in units else v for e, v in enumerate(values)]
    weights = torch.softmax(torch.tensor(values), 0).tolist()
    pairs = sorted(((weight, e) for e, weight in enumerate(weights)), reverse=True)[:2]
    kept = [pair for pair in pairs if not (mode.startswith("zero") and pair[1] in units)]
    if mode == "zero_renormalise" and kept:
        scale = sum(weight for weight, _ in pairs) / sum(weight for weight, _ in kept)
        kept = [(weight * scale, e) for weight, e in kept]
    return kept


@pytest.mark.parametrize("mode", MODES)
def test_blocks_give_what_a_loop_by_hand_gives(tiny_subject, prompts, mode):
    passes = {}
    with ExitStack() as stack:
        for layer, block in enumerate(blocks(tiny_subject.model)):
            hook = block.mlp.register_forward_hook(
                lambda _, inputs, output, layer=layer: passes.update({layer: (inputs[0], output)})
            )
            stack.callback(hook.remove)
        run(tiny_subject, torch.tensor(prompts[:2]), [Plan(mode, UNITS)], [0, 0])
    for layer, (inputs, output) in passes.items():
        mlp = blocks(tiny_subject.model)[layer].mlp
        units = {expert for where, expert in UNITS if where == layer}
        for token, got in zip(inputs.flatten(0, 1), output.flatten(0, 1), strict=True):
            wanted = torch.zeros(32)
            for weight, expert in chosen_by_hand(mlp.gate.weight @ token, mode, units):
                gate, up = (mlp.experts.gate_up_proj[expert] @ token).chunk(2)
                wanted += weight * (mlp.experts.down_proj[expert] @ (F.silu(gate) * up))
            torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "plans",
    [[INTACT], [Plan("zero")], [Plan("mask"), Plan("mask", UNITS)], [INTACT, Plan("zero", UNITS)]],
)
def test_the_identity_leaves_logits_as_they_were_to_the_bit(tiny_subject, prompts, plans):
    ids = torch.tensor(prompts[:10])
    before = tiny_subject.model(input_ids=ids, use_cache=False).logits
    assert torch.equal(run(tiny_subject, ids, plans, [0] * 10), before)


def test_rows_of_one_batch_follow_their_own_plans(tiny_subject, prompts):
    ids = torch.tensor(prompts[:10])
    rows = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1]
    together = run(tiny_subject, ids, PLANS, rows)
    intact = tiny_subject.model(input_ids=ids, use_cache=False).logits
    for row, plan in enumerate(rows):
        alone = run(tiny_subject, ids[[row]], [PLANS[plan]], [0])[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=0)
        assert torch.equal(together[row].argmax(-1), alone.argmax(-1))
        # A plan that did nothing would pass all the above.
        changed = (together[row] - intact[row]).abs().max().item()
        assert changed == 0 if plan == 0 else changed > 0.1


def test_a_layer_without_a_slot_adds_exactly_nothing(tiny_subject, prompts):
    outputs, everything = [], tuple((0, expert) for expert in range(8))
    hook = blocks(tiny_subject.model)[0].mlp.register_forward_hook(
        lambda *call: outputs.append(call[2])
    )
    try:
        for mode in ("zero", "zero_renormalise"):
            run(tiny_subject, torch.tensor(prompts[:2]), [INTACT, Plan(mode, everything)], [0, 1])
    finally:
        hook.remove()
    for output in outputs:
        assert output[1].abs().max() == 0
        assert output[0].abs().max() > 0.1


@pytest.mark.parametrize("unit", [(0, 1), (1, 5)])
def test_a_forced_expert_is_chosen_with_the_largest_weight(tiny_subject, prompts, unit):
    layer, expert = unit
    choices = []

    def keep(module, arguments):
        choices.append(arguments[1:3])

    hook = expert_groups(tiny_subject.model)[layer].register_forward_pre_hook(keep)
    try:
        ids = torch.tensor(prompts[:10])
        run(tiny_subject, ids, [INTACT, Plan("force", (unit,))], [0] * 5 + [1] * 5)
    finally:
        hook.remove()
    [(ids, weights)] = choices
    assert (ids[50:, 0] == expert).all()
    assert (weights[50:, 0] == weights[50:].max(dim=1).values).all()
    assert not (ids[:50, 0] == expert).all()


def executed(subject, monkeypatch, ids, plans, rows):
    """Rows of matrix products by (layer, expert), and the experts that the router chose."""
    owners = {
        group.gate_up_proj[expert].data_ptr(): (layer, expert)
        for layer, group in expert_groups(subject.model).items()
        for expert in range(8)
    }
    counts, multiply = dict.fromkeys(owners.values(), 0), torch.mm

    def spy(left, right, **kwargs):
        if right.data_ptr() in owners:
            counts[owners[right.data_ptr()]] += len(left)
        return multiply(left, right, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "mm", spy)
        run(subject, ids, plans, rows)
    return counts


@pytest.mark.parametrize("mode", OFF_MODES)
def test_experts_that_are_off_are_not_executed(tiny_subject, prompts, monkeypatch, mode):
    ids = torch.tensor(prompts[:10])
    plans = [INTACT, Plan(mode, UNITS)]
    intact = executed(tiny_subject, monkeypatch, ids, plans, [0] * 10)
    assert all(intact[unit] > 10 for unit in UNITS)
    assert sum(intact.values()) == 2 * 2 * 100  # layers x slots x tokens
    off = executed(tiny_subject, monkeypatch, ids, plans, [1] * 10)
    assert [off[unit] for unit in UNITS] == [0, 0, 0]
    first_layer = sum(count for (layer, _), count in off.items() if layer == 0)
    emptied = intact[0, 0] + intact[0, 3] if mode != "mask" else 0
    assert first_layer == 200 - emptied


@pytest.mark.parametrize("mode", OFF_MODES)
def test_experts_run_only_for_the_rows_that_keep_them(tiny_subject, prompts, monkeypatch, mode):
    ids, plans = torch.tensor(prompts[:10]), [INTACT, Plan(mode, UNITS)]
    half = executed(tiny_subject, monkeypatch, ids, plans, [0] * 5 + [1] * 5)
    alone = executed(tiny_subject, monkeypatch, ids[:5], plans, [0] * 5)
    assert [half[unit] for unit in UNITS] == [alone[unit] for unit in UNITS]


@pytest.mark.parametrize("fails", [False, True])
def test_hooks_and_experts_are_restored(tiny_subject, prompts, fails):
    model, ids = tiny_subject.model, torch.tensor(prompts[:3])
    before = model(input_ids=ids).logits
    implementation = model.get_experts_implementation()
    # transformers leaves some hooks of its own on a model that others used.
    hooks = [list(module._forward_hooks) for module in model.modules()]
    try:
        with intervened(tiny_subject, PLANS) as session:
            assert all(router._forward_hooks for router in routers(model).values())
            session.rows = torch.tensor([1, 2, 3])
            assert not torch.equal(model(input_ids=ids).logits, before)
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert model.get_experts_implementation() == implementation
    assert [list(module._forward_hooks) for module in model.modules()] == hooks
    assert torch.equal(model(input_ids=ids).logits, before)
