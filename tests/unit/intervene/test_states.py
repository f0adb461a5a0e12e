"""Whole states of the residual and features of a dictionary, in every family."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, tiny_model, tokens

from lmri.anatomy import Dictionary, Subject, after_attention, blocks, describe, with_dictionary
from lmri.errors import LmriError
from lmri.intervene import (
    INTACT,
    KINDS,
    Plan,
    feasible,
    intervened,
    mean_activity,
)
from lmri.intervene.means import _watched

FEATURES = 24
DECODERS = tuple(family for family in FAMILIES if family != "bert")
WITH_MID = tuple(family for family in DECODERS if family not in {"gpt_neox", "phi"})
PLACES = ("before", "mid", "after")


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


def subject_of(family, place="after"):
    """The family's model with a random dictionary of its second layer."""
    model = tiny_model(family)
    subject = Subject(family, model, None, describe(model))
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = (
        torch.randn(shape, generator=generator) for shape in ((32, FEATURES), (FEATURES, 32))
    )
    bias = torch.full((FEATURES,), 4.0)
    return with_dictionary(subject, Dictionary(Path("d"), 1, place, encoder, bias, decoder))


def logits(subject, *plans, rows=(0, 0, 0)):
    with intervened(subject, plans or (INTACT,)) as session:
        session.rows = torch.tensor(rows)
        return subject.model(input_ids=tokens(subject.name)).logits


def states(subject, *plans, rows=(0, 0, 0), layer=1):
    """Residual of a layer by place, as its readers get it."""
    model, seen = subject.model, {}

    def keep(name):
        def hook(module, arguments, options):
            seen[name] = (arguments or tuple(options.values()))[0].view(3, 14, -1)

        return hook

    def keep_after(module, arguments, output):
        seen["after"] = output[0] if isinstance(output, tuple) else output

    with intervened(subject, plans or (INTACT,)) as session:
        session.rows = torch.tensor(rows)
        block = blocks(model)[layer]
        hooks = [block.register_forward_pre_hook(keep("before"), with_kwargs=True)]
        hooks.append(block.register_forward_hook(keep_after))
        for module in [after_attention(model)[layer]] if "mid" in subject.anatomy.places else []:
            hooks.append(module.register_forward_pre_hook(keep("mid"), with_kwargs=True))
        model(input_ids=tokens(subject.name))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("family", WITH_MID)
def test_a_state_is_set_where_its_readers_read_it(family, place):
    subject = subject_of(family)
    unit = (1, PLACES.index(place))
    mean = tuple(float(i) for i in range(32))
    intact = states(subject)[place]
    got = states(subject, INTACT, Plan("mean", (unit,), "residual_site", (mean,)), rows=(0, 1, 0))
    torch.testing.assert_close(got[place][1], torch.tensor(mean).expand(14, -1), rtol=0, atol=1e-4)
    rounding = 1e-5 if subject.anatomy.moe_layers else 0
    torch.testing.assert_close(got[place][[0, 2]], intact[[0, 2]], rtol=rounding, atol=rounding)


@pytest.mark.parametrize("family", ["gpt_neox", "phi"])
def test_parallel_blocks_have_two_places(family):
    subject = subject_of(family)
    plan = Plan("mean", ((1, 1),), "residual_site", ((2.0,) * 32,))
    assert (states(subject, plan)["after"] == 2).all()
    assert not feasible(Plan("mean", ((1, 2),), "residual_site", ((2.0,) * 32,)), subject.anatomy)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("family", WITH_MID)
def test_a_feature_moves_its_direction_by_what_its_activity_lacks(family, place):
    subject = subject_of(family, place)
    dictionary, units, wanted = subject.dictionary, ((1, 3), (1, 20)), (0.0, 2.5)
    intact = states(subject)[place]
    plan = Plan("mean", units, "feature", tuple((value,) for value in wanted))
    got = states(subject, INTACT, plan, rows=(0, 1, 0))[place]
    expected = intact.clone()
    for (_, feature), value in zip(units, wanted, strict=True):
        activity = torch.relu(intact @ dictionary.encoder[:, feature] + 4.0)
        lacking = (value - activity)[1, :, None]
        expected[1] += lacking * dictionary.decoder[feature]
    assert (expected[1] - intact[1]).abs().max() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["residual_site", "feature"])
@pytest.mark.parametrize("family", DECODERS)
def test_means_are_those_over_all_tokens(family, kind):
    places = describe(tiny_model(family)).places
    subject = subject_of(family, places[1])
    found = mean_activity(subject, tokens(family).tolist(), kind, rows=2)
    seen = states(subject)
    if kind == "feature":
        activity = subject.dictionary.encode(seen[places[1]])
        expected = activity.mean((0, 1))[:, None]
    else:
        expected = torch.stack([seen[place].mean((0, 1)) for place in places])
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-5)


def unit_of(kind, anatomy):
    own = KINDS[kind]
    return own.layers(anatomy)[-1], *(count - 1 for count in own.shape(anatomy))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "expert"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gain_of_one_and_rows_without_a_plan_keep_every_bit(family, kind):
    subject = subject_of(family)
    if not KINDS[kind].layers(subject.anatomy):
        return
    unit = unit_of(kind, subject.anatomy)
    identity, flip = Plan("gain", (unit,), kind, ((1.0,),)), Plan("flip", (unit,), kind)
    # The same code path and batch: an expert's last bits depend on both.
    intact = logits(subject)
    assert torch.equal(logits(subject, INTACT, identity, flip, rows=(1, 0, 1)), intact)
    others = logits(subject, INTACT, identity, flip, rows=(0, 2, 1))
    if "neuron" not in kind:
        assert not torch.equal(others[1], intact[1])
    doubled = Plan("gain", (unit,), kind, ((-1.0,),))
    assert torch.equal(logits(subject, doubled), logits(subject, flip))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "expert"])
@pytest.mark.parametrize("family", ["deepseek_v3", "granitemoe", "gpt2"])
def test_clamping_to_recorded_values_keeps_every_bit(family, kind):
    subject = subject_of(family)
    if not KINDS[kind].layers(subject.anatomy):
        return
    ids = tokens(family)[:1]
    unit = unit_of(kind, subject.anatomy)
    width = KINDS[kind].width(subject.anatomy)
    recorded = torch.zeros(14, width)

    def see(activity, groups, of):
        flat = activity.flatten(0, -2)
        group = torch.zeros(len(flat)).long() if groups is None else groups
        mine = group == (unit[1] if kind in {"expert_neuron", "residual_site"} else 0)
        if not mine.any():
            return
        at = torch.arange(14) if of is None else of[mine]
        place = unit[-1] if kind not in {"layer", "residual_site"} else 0
        recorded[at] = flat[mine].view(len(at), -1, width)[:, place]

    with intervened(subject, [INTACT]), ExitStack() as stack:
        for watched in _watched(subject, kind, unit[0], see):
            stack.enter_context(watched)
        subject.model(input_ids=ids)
    assert recorded.any()
    plans = [INTACT]
    for values in (recorded, recorded + 1):
        plans.append(Plan("clamp", (unit,), kind, (tuple(values.flatten().tolist()),)))
    intact, same, other = (clamped(subject, ids, plans, row) for row in range(3))
    assert torch.equal(same, intact)
    assert not torch.equal(other, intact)
    # Values are of the first tokens: those after them are left alone.
    first = Plan("clamp", (unit,), kind, (tuple(recorded[:2].flatten().tolist()),))
    assert torch.equal(clamped(subject, ids, [INTACT, first], 1), intact)


def clamped(subject, ids, plans, row):
    with intervened(subject, plans) as session:
        session.rows = torch.tensor([row])
        return subject.model(input_ids=ids).logits


def test_a_whole_state_at_zero_is_no_mode():
    anatomy = subject_of("llama").anatomy
    assert not feasible(Plan("zero", ((1, 0),), "residual_site"), anatomy)
    assert not feasible(Plan("mean", ((1, 0),), "residual_site", ((0.0,) * 32,)), describe_bert())


def describe_bert():
    return describe(tiny_model("bert"))


def test_features_need_a_dictionary():
    subject = Subject("llama", tiny_model("llama"), None, describe(tiny_model("llama")))
    with (
        pytest.raises(LmriError, match=r"features of a dictionary .* has none"),
        intervened(subject, [Plan("zero", ((1, 0),), "feature")]),
    ):
        pass
    with pytest.raises(LmriError, match=r"layers 1 to 1, features 0 to 23\).*feature 24"):
        logits(subject_of("llama"), Plan("zero", ((1, 24),), "feature"))
