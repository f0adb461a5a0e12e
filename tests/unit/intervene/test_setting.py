"""Setting units: with and without a cache, row by row, together with experts, restored after."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import tiny_model

from lmri.anatomy import Subject, blocks, describe
from lmri.errors import LmriError
from lmri.intervene import INTACT, Plan, intervened, mean_activity, respond, says_exactly

PLANS = (
    INTACT,
    Plan("zero", ((0, 1), (1, 2)), "head"),
    Plan("zero", tuple((0, neuron) for neuron in range(24)), "neuron"),
    Plan("zero", tuple((1, e, n) for e in range(8) for n in range(12)), "expert_neuron"),
    Plan("mean", ((0, 3), (1, 9)), "residual", ((2.5,), (-1.0,))),
    Plan("zero", ((1,),), "layer"),
    Plan("mask", ((1, 0), (1, 1))),
)
PROMPTS = [
    *([1, 4, 7, 9, row] for row in range(10, 17)),
    *([1, 5, 6, row] for row in range(10, 17)),
]
LIMIT = 6


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


@pytest.fixture
def subject():
    """A first layer with a dense MLP, a second with experts; responses never end."""
    model = tiny_model("qwen3_moe")
    return Subject("tiny", model, SimpleNamespace(eos_token_id=127), describe(model))


def run(subject, ids, plans, rows):
    with intervened(subject, plans) as session:
        session.rows = torch.tensor(rows)
        return subject.model(input_ids=ids).logits


def test_responses_are_those_of_a_loop_without_cache(subject):
    plan_of_row = [row % len(PLANS) for row in range(len(PROMPTS))]
    options = {"max_new_tokens": LIMIT, "rows": 64}
    ours = respond(
        subject, PROMPTS, [3] * 14, plans=PLANS, plan_of_row=plan_of_row, padding=0.5, **options
    )
    for prompt, plan, got in zip(PROMPTS, plan_of_row, ours.tokens, strict=True):
        text = list(prompt)
        with intervened(subject, [PLANS[plan]]):
            for _ in got:
                logits = subject.model(input_ids=torch.tensor([text]), use_cache=False).logits
                text.append(int(logits[0, -1].argmax()))
        assert text[len(prompt) :] == got.tolist()
    intact = respond(subject, PROMPTS, [3] * 14, **options).tokens
    same = [np.array_equal(a, b) for a, b in zip(ours.tokens, intact, strict=True)]
    # Every plan changes a response to one of its two prompts.
    assert all(same[:: len(PLANS)])
    assert [a and b for a, b in zip(same[1:7], same[8:], strict=True)] == [False] * 6


def test_says_exactly_what_is_said_under_each_plan(subject):
    plan_of_row = [row % len(PLANS) for row in range(len(PROMPTS))]
    options = {"plans": PLANS, "plan_of_row": plan_of_row, "rows": 5}
    said = respond(subject, PROMPTS, [3] * 14, max_new_tokens=LIMIT, **options).tokens
    references = [row.tolist() for row in said]
    assert says_exactly(subject, PROMPTS, references, **options).all()
    other = [0] * len(PROMPTS)
    exact = says_exactly(subject, PROMPTS, references, **options | {"plan_of_row": other})
    assert exact[:: len(PLANS)].all() and not exact.all()


def test_rows_of_one_batch_follow_their_own_plans(subject):
    ids, rows = torch.tensor(PROMPTS[:7]), [0, 1, 2, 3, 4, 5, 6]
    together = run(subject, ids, PLANS, rows)
    intact = subject.model(input_ids=ids).logits
    for row, plan in enumerate(rows):
        alone = run(subject, ids[[row]], [PLANS[plan]], [0])[0]
        torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)
        changed = (together[row] - intact[row]).abs().max().item()
        assert changed < 1e-4 if plan == 0 else changed > 0.01


def test_one_plan_for_all_rows_need_not_be_repeated(subject):
    ids = torch.tensor(PROMPTS[:7])
    for plan in PLANS:
        assert torch.equal(run(subject, ids, [plan], [0]), run(subject, ids, [plan], [0] * 7))


def test_a_dimension_is_set_after_a_layer_is_skipped(subject):
    seen = {}
    plans = [Plan("zero", ((0,),), "layer"), Plan("mean", ((0, 4),), "residual", ((9.0,),))]
    first, second = blocks(subject.model)
    hooks = [
        first.register_forward_pre_hook(lambda _, args: seen.update(before=args[0])),
        second.register_forward_pre_hook(lambda _, args: seen.update(after=args[0])),
    ]
    with intervened(subject, plans[1:]), intervened(subject, plans[:1]):
        subject.model(input_ids=torch.tensor(PROMPTS[:1]))
    inner_skips = seen["after"]
    run(subject, torch.tensor(PROMPTS[:2]), plans, [0, 1])
    for hook in hooks:
        hook.remove()
    assert torch.equal(seen["after"][0], seen["before"][0])
    assert (seen["after"][1, :, 4] == 9).all()
    wanted = seen["before"][:1].clone()
    wanted[..., 4] = 9
    assert torch.equal(inner_skips, wanted)


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_restored(subject, fails):
    model, ids = subject.model, torch.tensor(PROMPTS[:7])
    before, implementation = model(input_ids=ids).logits, model.get_experts_implementation()
    hooks = hooks_of(model)  # transformers leaves some of its own on a model that others used
    try:
        with intervened(subject, PLANS) as session:
            session.rows = torch.arange(7)
            assert not torch.equal(model(input_ids=ids).logits, before)
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert model.get_experts_implementation() == implementation
    assert hooks_of(model) == hooks
    assert not any(hasattr(module, "lmri_change") for module in model.modules())
    assert torch.equal(model(input_ids=ids).logits, before)


def hooks_of(model):
    own = [(module._forward_hooks, module._forward_pre_hooks) for module in model.modules()]
    return [[*after, *before] for after, before in own]


def test_experts_have_no_mean_activity(subject):
    with pytest.raises(LmriError, match="'kind' of mean activity must be one of 'expert_neuron'"):
        mean_activity(subject, PROMPTS, "expert", rows=8)
