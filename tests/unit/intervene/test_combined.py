"""Plans that act together: as one after the other where they are apart, refused where not."""

import numpy as np
import pytest
import torch
from families import FAMILIES, tiny_model, tokens

from lmri.anatomy import Subject, blocks, describe, output_of_router, routers
from lmri.errors import LmriError
from lmri.intervene import INTACT, Combined, Plan, can_reroute, check_plan, feasible, intervened


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


def subject_of(family):
    model = tiny_model(family)
    return Subject(family, model, None, describe(model))


def logits(subject, *plans, rows=(0, 0, 0)):
    with intervened(subject, plans) as session:
        session.rows, session.prompts = torch.tensor(rows), torch.tensor([9] * 3)
        return subject.model(input_ids=tokens(subject.name)).logits


def often_chosen(subject, layer):
    """Experts of a layer, those of most tokens first."""
    seen = []

    def keep(module, arguments, output):
        seen.append(output_of_router(subject.anatomy.routing, output, subject.anatomy.top_k)[2])

    hook = routers(subject.model)[layer].register_forward_hook(keep)
    logits(subject, INTACT)
    hook.remove()
    return torch.bincount(seen[0].flatten(), minlength=8).argsort(descending=True).tolist()


def apart(subject):
    """Plans on places that do not touch."""
    anatomy = subject.anatomy
    plans = [
        Plan("zero", ((0, 1),), "head"),
        Plan.of("gain", [(0, 2)], "head", {(0, 2): [1.5]}),
        Plan("uniform", ((1, 3),), "head"),
        Plan.of("mean", [(1, 5)], "residual", {(1, 5): [0.7]}),
        Plan.of("gain", [(0,)], "layer", {(0,): [0.5]}),
        Plan.of("mean", [(0, 4)], "residual", {(0, 4): [0.2]}),
    ]
    if can_reroute(anatomy):
        layer = anatomy.moe_layers[-1]
        masked, inside, off, *rest = often_chosen(subject, layer)
        plans += [Plan("mask", ((layer, masked),)), Plan("zero", ((layer, off),))]
        neurons = tuple((layer, inside, neuron) for neuron in range(16))
        plans.append(Plan("zero", neurons, "expert_neuron"))
        scaled = [(layer, expert) for expert in rest]
        plans.append(Plan.of("gain", scaled, "expert", {key: [2.0] for key in scaled}))
    return plans


@pytest.mark.parametrize("family", FAMILIES)
def test_together_they_are_as_one_within_the_other(family):
    subject = subject_of(family)
    plans = apart(subject)
    together = logits(subject, INTACT, Combined(tuple(plans)), rows=(0, 1, 0))
    intact = logits(subject, INTACT)
    rounding = 1e-5 if subject.anatomy.moe_layers else 0
    torch.testing.assert_close(together[[0, 2]], intact[[0, 2]], rtol=rounding, atol=rounding)
    every = logits(subject, Combined(tuple(plans)))
    torch.testing.assert_close(every[1], together[1], rtol=1e-5, atol=1e-5)
    for part in plans:
        left = Combined(tuple(own for own in plans if own != part))
        assert (logits(subject, left) - every).abs().max() > 1e-4, part
    # A merged plan of one kind is the same as two plans.
    heads = Combined((Plan("zero", ((0, 1),), "head"), Plan("zero", ((1, 2),), "head")))
    merged = Plan("zero", ((0, 1), (1, 2)), "head")
    assert torch.equal(logits(subject, heads), logits(subject, merged))
    assert heads.units == merged.units
    assert torch.equal(logits(subject, Combined(())), intact)
    assert torch.equal(logits(subject, INTACT), intact)
    assert torch.equal(logits(subject, Combined((merged,))), logits(subject, merged))


@pytest.mark.parametrize("family", ["llama", "gpt2", "olmoe"])
def test_nested_runs_give_the_same_where_sites_are_disjoint(family):
    subject = subject_of(family)
    first = Plan("zero", ((0, 1),), "head")
    second = Plan.of("mean", [(1, 5)], "residual", {(1, 5): [0.7]})
    with intervened(subject, [second]) as outer:
        outer.rows = torch.zeros(3, dtype=torch.int64)
        nested = logits(subject, first)
    assert torch.equal(logits(subject, Combined((first, second))), nested)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_directions_of_one_place_follow_each_other_in_the_order_of_the_plans(place):
    subject = subject_of("llama")
    unit, hidden = (0, place), subject.anatomy.hidden
    v = np.zeros(hidden)
    v[3] = 2.0
    add = Plan.of("add", [unit], "residual_site", {unit: v})
    ablate = Plan.of("ablate", [unit], "residual_site", {unit: [*np.zeros(hidden), *v]})
    last = logits(subject, Combined((add, ablate)))
    torch.testing.assert_close(last, logits(subject, ablate), rtol=1e-5, atol=1e-5)
    first = logits(subject, Combined((ablate, add)))
    assert (first - last).abs().max() > 1e-3
    clamp = Plan.of("mean", [(0, 3)], "residual", {(0, 3): [2.0]})
    if place == 2:  # the dimension itself, set after the block
        torch.testing.assert_close(first, logits(subject, clamp), rtol=1e-5, atol=1e-5)


def test_what_a_block_adds_is_settled_before_its_dimensions():
    subject = subject_of("llama")
    seen = []
    hook = blocks(subject.model)[0].register_forward_hook(lambda *call: seen.append(call[2]))
    both = Combined(
        (Plan.of("mean", [(0, 4)], "residual", {(0, 4): [9.0]}), Plan("flip", ((0,),), "layer"))
    )
    logits(subject, both)
    logits(subject, Plan("flip", ((0,),), "layer"))
    hook.remove()
    together, flipped = seen
    assert (together[..., 4] == 9).all()
    assert torch.equal(together[..., :4], flipped[..., :4])


def head(*units, phase="both", mode="zero"):
    return Plan(mode, units, "head", phase=phase)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (head((0, 1)), head((0, 1), mode="uniform"), r"two of kind 'head' on \(0, 1\)"),
        (head((0, 1), phase="prompt"), head((0, 1), phase="prompt_last"), "two of kind 'head'"),
        (Plan("mask", ((1, 2),)), Plan("zero", ((1, 2),)), "two of kind 'expert'"),
        (Plan("zero", ((1,),), "layer"), head((1, 0)), "a layer passed over and, in it, the head"),
        (Plan("zero", ((1, 2),)), Plan("zero", ((1, 2, 0),), "expert_neuron"), "an expert that is"),
        (
            Plan("zero", ((1, 4),), "residual"),
            Plan("mean", ((1, 2),), "residual_site", ((0.5,) * 32,)),
            "a residual set and",
        ),
    ],
)
def test_plans_of_which_one_hides_the_other_are_refused(tiny_subject, first, second, words):
    for pair in ((first, second), (second, first)):
        plan = Combined(pair)
        assert not feasible(plan, tiny_subject.anatomy)
        with pytest.raises(LmriError, match=rf"must not undo or hide .* Got {words}") as info:
            check_plan(plan, tiny_subject.anatomy)
        assert "\n" not in str(info.value)


def test_phases_apart_may_share_units_and_counts(tiny_subject):
    anatomy = tiny_subject.anatomy
    check_plan(Combined((head((0, 1), phase="prompt"), head((0, 1), phase="response"))), anatomy)
    some, others = (tuple((0, e) for e in own) for own in (range(4), range(4, 8)))
    masks = Combined((Plan("mask", some, phase="prompt"), Plan("mask", others, phase="response")))
    check_plan(masks, anatomy)
    with pytest.raises(LmriError, match=r"'mask' must name at most 6 experts .* Got 8 in layer 0"):
        check_plan(Combined((Plan("mask", some), Plan("mask", others, phase="prompt"))), anatomy)
    with pytest.raises(LmriError, match="Got layer 9"):
        check_plan(Combined((INTACT, head((9, 0)))), anatomy)
