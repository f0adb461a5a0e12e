"""Setting units in every family: the same as a model whose weights are without them."""

import copy
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from families import FAMILIES, MIXTURES, tiny_model, tokens
from torch import nn

from lmri.anatomy import (
    Subject,
    attention_outputs,
    blocks,
    dense_outputs,
    describe,
    expert_groups,
    shared_outputs,
)
from lmri.intervene import INTACT, KINDS, Plan, intervened, mean_activity, tapped_experts

# Whole states and features are those of test_states.py.
SET_KINDS = tuple(kind for kind in KINDS if kind not in {"expert", "residual_site", "feature"})
DENSE = tuple(
    kind for kind in FAMILIES if kind not in {"gpt_oss", "granitemoe", "mixtral", "olmoe"}
)


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


def subject_of(family):
    model = tiny_model(family)
    return Subject(family, model, None, describe(model))


def logits(model, family):
    return model(input_ids=tokens(family)).logits


def under(subject, *plans, rows):
    with intervened(subject, plans) as session:
        session.rows = torch.tensor(rows)
        return logits(subject.model, subject.name)


def without_columns(projection, columns):
    """Set the weights of some inputs of a projection to zero; its bias stays."""
    transposed = type(projection).__name__ == "Conv1D"
    (projection.weight.data if transposed else projection.weight.data.T)[columns] = 0


def check_rows(subject, plan, lesioned):
    """The plan's row is as in the lesioned model, and no other row changes."""
    intact = logits(subject.model, subject.name)
    changed = under(subject, INTACT, plan, rows=[0, 1, 0])
    # How many tokens an expert is run on together decides its last bits.
    rounding = 1e-5 if subject.anatomy.moe_layers else 0
    torch.testing.assert_close(changed[[0, 2]], intact[[0, 2]], rtol=rounding, atol=rounding)
    torch.testing.assert_close(changed[1], logits(lesioned, subject.name)[1], rtol=1e-5, atol=1e-5)
    assert (changed[1] - intact[1]).abs().max() > 1e-3
    assert torch.equal(logits(subject.model, subject.name), intact)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_its_heads_attention_adds_its_bias_only(family):
    subject = subject_of(family)
    lesioned = copy.deepcopy(subject.model)
    without_columns(attention_outputs(lesioned)[1], slice(None))
    heads = tuple((1, head) for head in range(subject.anatomy.heads))
    check_rows(subject, Plan("zero", heads, "head"), lesioned)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_is_its_columns_of_the_output_projection(family):
    subject = subject_of(family)
    lesioned, size = copy.deepcopy(subject.model), subject.anatomy.head_size
    without_columns(attention_outputs(lesioned)[0], slice(2 * size, 3 * size))
    check_rows(subject, Plan("zero", ((0, 2),), "head"), lesioned)


@pytest.mark.parametrize("family", DENSE)
def test_neurons_are_columns_of_the_down_projection(family):
    subject = subject_of(family)
    lesioned, layer = copy.deepcopy(subject.model), subject.anatomy.dense_layers[0]
    without_columns(dense_outputs(lesioned)[layer], [3, 40])
    check_rows(subject, Plan("zero", ((layer, 3), (layer, 40)), "neuron"), lesioned)


@pytest.mark.parametrize("family", MIXTURES)
def test_neurons_of_experts_are_columns_of_their_down_projections(family):
    subject = subject_of(family)
    lesioned = copy.deepcopy(subject.model)
    down = expert_groups(lesioned)[1].down_proj.data  # (experts, hidden, size) or transposed
    down = down if family in {"gpt_oss", "llama4_text"} else down.transpose(1, 2)
    units = tuple((1, expert, neuron) for expert in range(8) for neuron in (0, 7, 15))
    for _, expert, neuron in units:
        down[expert, neuron] = 0
    check_rows(subject, Plan("zero", units, "expert_neuron"), lesioned)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_skipped_last_layer_is_a_model_without_it(family):
    subject = subject_of(family)
    lesioned = copy.deepcopy(subject.model)
    layers = next(m for m in lesioned.modules() if isinstance(m, nn.ModuleList) and len(m) == 2)
    assert layers[1] is blocks(lesioned)[1]
    del layers[1]
    trunk = next(m for m in lesioned.modules() if layers in m.children())
    trunk.config = copy.deepcopy(trunk.config)
    trunk.config.num_hidden_layers = 1
    check_rows(subject, Plan("zero", ((1,),), "layer"), lesioned)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_skipped_first_layer_hands_on_what_it_was_given(family):
    subject, seen = subject_of(family), {}
    first, second = blocks(subject.model)
    hooks = [
        first.register_forward_pre_hook(lambda _, args: seen.update(before=args[0])),
        second.register_forward_pre_hook(lambda _, args: seen.update(after=args[0])),
    ]
    under(subject, INTACT, Plan("zero", ((0,),), "layer"), rows=[0, 1, 0])
    for hook in hooks:
        hook.remove()
    assert torch.equal(seen["after"][1], seen["before"][1])
    assert not torch.equal(seen["after"][0], seen["before"][0])


@pytest.mark.parametrize("family", FAMILIES)
def test_dimensions_of_the_residual_are_set_after_the_block(family):
    subject, seen = subject_of(family), {}
    units = ((0, 5),)
    plans = (INTACT, Plan("zero", units, "residual"), Plan("mean", units, "residual", ((3.5,),)))
    hook = blocks(subject.model)[1].register_forward_pre_hook(
        lambda _, args: seen.update(after=args[0])
    )
    logits(subject.model, family)
    intact = seen["after"]
    under(subject, *plans, rows=[0, 1, 2])
    hook.remove()
    wanted = intact.clone()
    wanted[1, :, 5], wanted[2, :, 5] = 0, 3.5
    assert torch.equal(seen["after"], wanted)


def first_and_last(kind, anatomy):
    """Two units of the last layer that has any; of layers there is one."""
    own = KINDS[kind]
    layers, shape = own.layers(anatomy)[-1:], own.shape(anatomy)
    ends = [[0] * len(shape), [count - 1 for count in shape]]
    return list(dict.fromkeys((layer, *end) for layer in layers for end in ends))


@pytest.mark.parametrize("kind", SET_KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_units_set_to_a_mean_have_it_at_every_token(family, kind):
    subject = subject_of(family)
    units = first_and_last(kind, subject.anatomy)
    width = KINDS[kind].width(subject.anatomy)
    means = {unit: [i + channel / 10 for channel in range(width)] for i, unit in enumerate(units)}
    plans = [INTACT, Plan.of("mean", units, kind, means)]
    before = activity(subject, kind, plans, [0, 0, 0])
    after = activity(subject, kind, plans, [0, 1, 0])
    assert before.keys() == after.keys() == {unit[0] for unit in units}
    for layer, values in after.items():
        wanted = before[layer].clone()
        for unit in units:
            if kind == "expert_neuron":  # a token that is not routed to the expert has NaN
                own = wanted[1, :, unit[1], unit[2]]
                own[~own.isnan()] = means[unit][0]
            else:
                place = unit[1] if unit[1:] else 0
                wanted[1, :, place * width : (place + 1) * width] = torch.tensor(means[unit])
        torch.testing.assert_close(values, wanted, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("kind", SET_KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_means_are_those_over_all_tokens(family, kind):
    subject = subject_of(family)
    found = mean_activity(subject, tokens(family).tolist(), kind, rows=2)
    own, anatomy = KINDS[kind], subject.anatomy
    assert tuple(found) == own.layers(anatomy)
    for layer, values in activity(subject, kind, [INTACT], [0, 0, 0]).items():
        wanted = values.nanmean(dim=(0, 1)).nan_to_num(0).numpy()
        assert found[layer].shape == (*own.shape(anatomy), own.width(anatomy))
        np.testing.assert_allclose(found[layer].reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-5)


def activity(subject, kind, plans, rows):
    """Activity (batch, tokens, ...) by layer as hooks that are set last see it, last layer only."""
    model, layer, seen = subject.model, KINDS[kind].layers(subject.anatomy)[-1:], {}

    def keep_input(module, arguments):
        seen[layer[0]] = arguments[0].view(3, 14, -1)

    def keep_output(module, arguments, output):
        output = output[0] if isinstance(output, tuple) else output
        seen[layer[0]] = output - arguments[0] if kind == "layer" else output

    def keep_experts(at, neurons, ids):
        pairs = torch.full((42, 8, neurons.shape[-1]), float("nan"))
        pairs.scatter_(1, ids.unsqueeze(-1).expand_as(neurons), neurons)
        seen[at] = pairs.unflatten(0, (3, 14))

    with intervened(subject, plans) as session, ExitStack() as stack:
        session.rows = torch.tensor(rows)
        if kind == "expert_neuron":
            stack.enter_context(tapped_experts(model, keep_experts))
        elif layer:
            sites = {"neuron": dense_outputs, "head": attention_outputs}
            sites["shared_neuron"] = shared_outputs
            if kind in sites:
                hook = sites[kind](model)[layer[0]].register_forward_pre_hook(keep_input)
            else:
                hook = blocks(model)[layer[0]].register_forward_hook(keep_output)
            stack.callback(hook.remove)
        logits(model, subject.name)
    return {at: values for at, values in seen.items() if at in layer}


@pytest.mark.parametrize("kind", SET_KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_no_plan_and_plans_of_no_unit_keep_every_bit(family, kind):
    subject = subject_of(family)
    intact = logits(subject.model, family)
    units = tuple(first_and_last(kind, subject.anatomy))
    plans = [INTACT, Plan("zero", units, kind), Plan("zero", (), kind)]
    assert torch.equal(under(subject, *plans, rows=[0, 2, 0]), intact)
    assert torch.equal(under(subject, plans[2], rows=[0, 0, 0]), intact)
    assert torch.equal(logits(subject.model, family), intact)
