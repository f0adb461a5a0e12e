"""A direction is removed at the last prompt token of one layer, and nowhere else."""

import pytest
import torch

from lmri.anatomy import blocks
from lmri.intervene import ablated_direction, ablated_subspace, respond

DIRECTION, ORIGIN = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


def states(subject, ids, layer):
    """Residual after a block, as the next block reads it."""
    kept = []
    hook = blocks(subject.model)[layer].register_forward_hook(lambda *call: kept.append(call[2]))
    try:
        subject.model(input_ids=ids, use_cache=False)
    finally:
        hook.remove()
    return kept[0]


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("length", [1e-3, 1.0, 50.0])
def test_the_projection_is_that_of_the_origin_at_the_last_token_and_unchanged_elsewhere(
    tiny_subject, prompts, layer, length
):
    ids = torch.tensor(prompts[:4])
    unit = DIRECTION / DIRECTION.norm()
    before = states(tiny_subject, ids, layer)
    with ablated_direction(tiny_subject, layer, length * DIRECTION, ORIGIN):
        after = states(tiny_subject, ids, layer)
    assert ((before[:, -1] - ORIGIN) @ unit).abs().min() > 1e-2
    assert ((after[:, -1] - ORIGIN) @ unit).abs().max() < 1e-5
    assert torch.equal(after[:, :-1], before[:, :-1])
    # What is orthogonal to the direction stays.
    wanted = before[:, -1] - ((before[:, -1] - ORIGIN) @ unit)[:, None] * unit
    torch.testing.assert_close(after[:, -1], wanted, atol=1e-6, rtol=0)


def test_steps_of_decoding_are_left_alone(tiny_subject, prompts):
    ids = torch.tensor(prompts[:4])
    cache = tiny_subject.model(input_ids=ids[:, :-1], use_cache=True).past_key_values
    with ablated_direction(tiny_subject, 0, DIRECTION, ORIGIN):
        step = tiny_subject.model(input_ids=ids[:, -1:], past_key_values=cache).logits[:, -1]
        whole = tiny_subject.model(input_ids=ids).logits[:, -1]
    intact = tiny_subject.model(input_ids=ids).logits[:, -1]
    torch.testing.assert_close(step, intact, atol=1e-5, rtol=0)
    assert (whole - intact).abs().max() > 0.01


def test_responses_change_and_come_back(tiny_subject, prompts):
    watched = [20] * len(prompts)
    before = respond(tiny_subject, prompts, watched, max_new_tokens=2, rows=64).onset_margin
    with ablated_direction(tiny_subject, 0, DIRECTION, ORIGIN):
        during = respond(tiny_subject, prompts, watched, max_new_tokens=2, rows=64).onset_margin
    after = respond(tiny_subject, prompts, watched, max_new_tokens=2, rows=64).onset_margin
    assert abs(during - before).max() > 0.01
    assert (after == before).all()


def test_the_hook_is_removed_after_an_exception(tiny_subject):
    block = blocks(tiny_subject.model)[0]
    before = list(block._forward_hooks)  # transformers leaves some on a model that others used

    def fail():
        with ablated_direction(tiny_subject, 0, DIRECTION, ORIGIN):
            assert len(block._forward_hooks) == len(before) + 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(block._forward_hooks) == before


@pytest.mark.parametrize("layer", [0, 1])
def test_a_subspace_becomes_that_of_the_origin_and_the_rest_stays(tiny_subject, prompts, layer):
    ids = torch.tensor(prompts[:4])
    basis = torch.linalg.qr(torch.randn(32, 3, generator=torch.Generator().manual_seed(1)))[0]
    before = states(tiny_subject, ids, layer)
    with ablated_subspace(tiny_subject, layer, basis, ORIGIN):
        after = states(tiny_subject, ids, layer)
    assert ((before[:, -1] - ORIGIN) @ basis).abs().min() > 1e-2
    assert ((after[:, -1] - ORIGIN) @ basis).abs().max() < 1e-5
    assert torch.equal(after[:, :-1], before[:, :-1])
    rest = torch.eye(32) - basis @ basis.T
    torch.testing.assert_close(after[:, -1] @ rest, before[:, -1] @ rest, atol=1e-5, rtol=0)
    assert torch.equal(states(tiny_subject, ids, layer), before)


def test_a_subspace_of_one_direction_is_that_direction(tiny_subject, prompts):
    ids = torch.tensor(prompts[:4])
    unit = DIRECTION / DIRECTION.norm()
    with ablated_direction(tiny_subject, 0, DIRECTION, ORIGIN):
        one = tiny_subject.model(input_ids=ids).logits
    with ablated_subspace(tiny_subject, 0, unit[:, None], ORIGIN):
        other = tiny_subject.model(input_ids=ids).logits
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_a_subspace_of_a_token_that_others_follow(tiny_subject, prompts):
    ids = torch.tensor(prompts[:4])
    basis = torch.eye(32)[:, :5]
    before = states(tiny_subject, ids, 0)
    with ablated_subspace(tiny_subject, 0, basis, ORIGIN, place=-3):
        after = states(tiny_subject, ids, 0)
    assert after[:, -3, :5] == pytest.approx(ORIGIN[:5].expand(4, 5), abs=1e-6)
    others = [place for place in range(ids.shape[1]) if place != ids.shape[1] - 3]
    assert torch.equal(after[:, others], before[:, others])


def test_a_subspace_leaves_steps_of_decoding_alone(tiny_subject, prompts):
    ids = torch.tensor(prompts[:4])
    cache = tiny_subject.model(input_ids=ids[:, :-1], use_cache=True).past_key_values
    intact = tiny_subject.model(input_ids=ids).logits[:, -1]
    with ablated_subspace(tiny_subject, 0, torch.eye(32)[:, :5], ORIGIN):
        step = tiny_subject.model(input_ids=ids[:, -1:], past_key_values=cache).logits[:, -1]
    torch.testing.assert_close(step, intact, atol=1e-5, rtol=0)
