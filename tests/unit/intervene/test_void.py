"""Void layers: the published example, and layers that are passed over in truth."""

import pytest
import torch
from families import FAMILIES, tiny_model, tokens

from lmri.anatomy import Subject, blocks, describe
from lmri.errors import LmriError
from lmri.intervene import INTACT, Plan, check_plan, intervened
from lmri.intervene.session import Session
from lmri.intervene.tables import compile_plans
from lmri.intervene.void import VoidLayers


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


def subject_of(family):
    model = tiny_model(family)
    return Subject(family, model, None, describe(model))


def void(alpha, *layers, phase="both"):
    units = [(layer,) for layer in layers]
    return Plan.of("void", units, "layer", {key: [alpha] for key in units}, phase)


def judged(start, norms, alpha=0.8):
    """Which layers of a stream of states (norms along one axis) are passed on."""
    anatomy = subject_of("llama").anatomy
    anatomy = type(anatomy)(**{**vars(anatomy), "layers": len(norms), "hidden": 2})
    session = Session(compile_plans([void(alpha, *range(len(norms)))], anatomy), anatomy)
    layers = VoidLayers(session, session.plans.of("layer"))
    before, active = torch.tensor([[[start, 0.0]]]), []
    for layer in layers.layers:
        after = torch.tensor([[[norms[layer], 0.0]]])
        passed = layers.change(layer)(before, after)
        active.append(torch.equal(passed, after))
        assert active[-1] or torch.equal(passed, before)
        before = after  # as published: the stream itself is not changed
    return active


def test_the_published_example():
    norms = [2, 2.1, 4.1, 4.2, 4.3, 8.3]
    assert judged(1.0, norms) == [True, True, True, False, False, True]
    assert judged(1.0, [0.5, 0.6, 0.7]) == [False, True, False]
    assert judged(10.0, [10 * n for n in norms]) == judged(1.0, norms)


def passes(subject, *plans, rows):
    """What goes into each block and comes out of it, and how much longer it would have become."""
    seen = []

    def keep(block, arguments, output):
        seen.append((arguments[0], output[0] if isinstance(output, tuple) else output))

    hooks = [block.register_forward_hook(keep) for block in blocks(subject.model)]
    with intervened(subject, plans) as session:
        session.rows = torch.tensor(rows)
        subject.model(input_ids=tokens(subject.name))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_that_is_void_passes_on_what_it_was_given(family):
    subject = subject_of(family)
    intact = passes(subject, INTACT, rows=(0, 0, 0))
    (before, after), _ = intact
    shrinks = after.norm(dim=-1) < before.norm(dim=-1)  # below the first threshold, of 0
    for alpha in (0.0, 1e6):
        first, second = passes(subject, INTACT, void(alpha, 0, 1), rows=(0, 1, 0))
        rounding = 1e-5 if subject.anatomy.moe_layers else 0
        for own, other in ((first, intact[0]), (second, intact[1])):
            torch.testing.assert_close(
                own[1][[0, 2]], other[1][[0, 2]], rtol=rounding, atol=rounding
            )
        skipped = (first[1] == first[0]).all(-1)
        assert skipped[1].tolist() == shrinks[1].tolist()
        assert not skipped[[0, 2]].any()
        assert torch.equal(second[0], first[1])


def test_layers_that_are_not_named_are_kept_and_phases_hold():
    subject, ids = subject_of("llama"), tokens("llama")
    intact = subject.model(input_ids=ids).logits
    with intervened(subject, [void(1e6, 1, phase="response")]) as session:
        session.rows, session.prompts = torch.zeros(3, dtype=torch.int64), torch.tensor([5] * 3)
        found = subject.model(input_ids=ids).logits
    assert torch.equal(found[:, :5], intact[:, :5])
    # The range of one value is 0: what is void is what shrinks.
    with intervened(subject, [Plan("zero", ((1,),), "layer")]) as session:
        session.rows = torch.zeros(3, dtype=torch.int64)
        skipped = subject.model(input_ids=ids).logits
    changed = (found != intact).any(-1)
    assert torch.equal(found[changed], skipped[changed])
    assert torch.equal(subject.model(input_ids=ids).logits, intact)


def test_a_share_below_0_is_refused():
    with pytest.raises(LmriError, match="'void' must be at least 0"):
        check_plan(void(-0.5, 0), subject_of("llama").anatomy)
