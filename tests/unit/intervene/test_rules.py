"""What activity becomes in each mode: known answers, and the same in every batch."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import tiny_model

from lmri.anatomy import Subject, dense_activations, dense_outputs, describe, expert_groups
from lmri.errors import LmriError
from lmri.intervene import (
    INTACT,
    Plan,
    check_plan,
    donor_activity,
    donors_of,
    feasible,
    intervened,
    preactivation_statistics,
    respond,
    tapped_experts,
)
from lmri.intervene.rules import RULES, Place, uniform
from lmri.intervene.session import trial_keys

PROMPTS = [[1, *(3 + (7 * row + 3 * i) % 100 for i in range(4 + row % 3))] for row in range(12)]
ADJUST = (3.0, 2.0, 0.0, 0.5)
"""Mean and deviation in the target and in retained trials, as in the notes on the method."""


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


def place(tokens, keys=(0,), first=0):
    keys = torch.tensor(keys).unsqueeze(1)
    positions = first + torch.arange(tokens).expand(len(keys), -1)
    return Place(torch.zeros_like(keys), keys, positions, layer=1)


def changed(mode, values, activity, at):
    return RULES[mode](torch.tensor(values), at, activity)


def test_neuron_adjust_maps_to_the_retained_distribution_and_mirrors():
    values = torch.tensor(ADJUST).view(1, 4, 1)
    at = place(400)
    x = torch.full((1, 400, 1), 5.0)
    assert (RULES["adjust"](values, at, x) == -0.5).all()  # with variances -0.125
    # What looks like the retained trials is never moved: p_r > p_f at 0.
    assert not RULES["adjust"](values, at, torch.zeros(1, 400, 1)).any()
    far = torch.full((1, 400, 1), 500.0)  # both densities are 0 as numbers
    assert (RULES["adjust"](values, at, far) == -0.5 * (500 - 3) / 2).all()


def test_neuron_adjust_moves_by_the_share_of_the_target():
    # Equal deviations, means 3 and 0: at 1.8 p_r / (p_r + p_f) is 1 / (1 + exp(0.9)).
    values = torch.tensor((3.0, 1.0, 0.0, 1.0)).view(1, 4, 1).expand(1, 4, 8)
    x = torch.full((1, 5000, 8), 1.8)
    moved = (RULES["adjust"](values, place(5000), x) != x).double()
    assert moved.mean() == pytest.approx(1 - 1 / (1 + np.exp(0.9)), abs=0.01)
    # One draw for each token and each neuron.
    assert np.abs(np.corrcoef(moved[0].T) - np.eye(8)).max() < 0.06


def test_uniform_numbers_are_uniform_and_belong_to_their_place():
    drawn = uniform(place(500, keys=(1, 2)), 64)
    assert drawn.min() >= 0 and drawn.max() < 1
    counts = torch.histc(drawn, 20, 0, 1)
    assert (counts / counts.mean() - 1).abs().max() < 0.1
    assert torch.equal(uniform(place(1, keys=(2,), first=7), 64)[0], drawn[1, 7:8])
    assert len(drawn.unique()) > 63000


def test_flip_gain_and_clamp():
    x = torch.arange(6.0).view(1, 3, 2)
    assert torch.equal(changed("flip", [[[-1.0, -1.0]]], x, place(3)), -x)
    assert torch.equal(changed("gain", [[[0.5, 2.0]]], x, place(3)), x * torch.tensor([0.5, 2]))
    values = [[[9.0, 8.0], [7.0, 6.0]]]
    got = changed("clamp", values, x, place(3))
    assert got.tolist() == [[[9, 8], [7, 6], [4, 5]]]
    # A step of decoding comes after the tokens that have values; padding before them has none.
    assert torch.equal(changed("clamp", values, x, place(3, first=5)), x)
    assert changed("clamp", values, x, place(3, first=-2)).tolist() == [[[0, 1], [2, 3], [9, 8]]]


def test_a_trial_has_one_donor_for_all_units_and_tokens():
    donors = torch.arange(10.0).view(1, 5, 2)
    keys = trial_keys(PROMPTS)
    got = RULES["resample"](donors, place(3, keys=keys.tolist()), torch.zeros(12, 3, 2))
    pairs = {tuple(row) for row in got.reshape(-1, 2).tolist()}
    assert pairs <= {(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)}
    assert len(pairs) > 1


def plans(subject):
    neurons = tuple((0, neuron) for neuron in range(0, 48, 2))
    donors = donors_of(donor_activity(subject, PROMPTS, "neuron", 4, 6, 0), neurons)
    return [
        INTACT,
        Plan.of("resample", neurons, "neuron", donors),
        Plan.of("adjust", neurons, "neuron", dict.fromkeys(neurons, (0.2, 1.0, -0.5, 0.7))),
        Plan.of("gain", neurons, "neuron", dict.fromkeys(neurons, (3.0,))),
        Plan("flip", neurons, "neuron"),
        Plan.of("clamp", neurons, "neuron", dict.fromkeys(neurons, (0.5, -0.5))),
    ]


def test_responses_do_not_depend_on_the_batch(subject):
    own = plans(subject)
    prompts = [prompt for prompt in PROMPTS for _ in own]
    options = {"plans": own, "max_new_tokens": 6}
    plan_of_row = [row % len(own) for row in range(len(prompts))]
    watched = [3] * len(prompts)
    every = [
        respond(subject, prompts, watched, plan_of_row=plan_of_row, **options, **batch)
        for batch in ({"rows": 128}, {"rows": 7}, {"rows": 128, "padding": 0.9})
    ]
    for other in every[1:]:
        np.testing.assert_allclose(other.onset_margin, every[0].onset_margin, atol=1e-3)
        for first, second in zip(every[0].tokens, other.tokens, strict=True):
            assert first.tolist() == second.tolist()
    margins = every[0].onset_margin.reshape(-1, len(own))
    assert (np.abs(margins[:, 1:] - margins[:, :1]).max(0) > 1e-3).all()


def test_a_resampled_unit_has_the_value_of_another_trial(subject):
    unit = (0, 5)
    donors = donors_of(donor_activity(subject, PROMPTS[:4], "neuron", 4, 6, 0), [unit])
    seen = []
    hook = dense_outputs(subject.model)[0].register_forward_pre_hook(
        lambda module, arguments: seen.append(arguments[0][..., 5].clone())
    )
    prompts = [prompt for prompt in PROMPTS[4:] if len(prompt) == 5]
    with intervened(subject, [Plan.of("resample", [unit], "neuron", donors)]) as session:
        session.rows = torch.zeros(len(prompts), dtype=torch.int64)
        session.keys = trial_keys(prompts)
        subject.model(input_ids=torch.tensor(prompts))
    hook.remove()
    (values,) = seen
    assert all(len(row.unique()) == 1 for row in values)
    known = torch.tensor(donors[unit])
    assert all((known == value).any() for value in values.unique())


@pytest.mark.parametrize("kind", ["neuron", "expert_neuron", "head", "layer", "residual"])
def test_donors_are_drawn_by_the_seed_whatever_the_batch(subject, kind):
    found, same, other = (
        donor_activity(subject, PROMPTS, kind, rows, 5, seed)
        for rows, seed in ((2, 0), (64, 0), (64, 1))
    )
    for layer, values in found.items():
        np.testing.assert_allclose(values, same[layer], atol=1e-4)
        assert len(values) == 5
    assert not all(np.allclose(found[layer], other[layer]) for layer in found)
    few = donor_activity(subject, [[1, 5]], kind, 4, 5, 0)
    last = max(few)
    np.testing.assert_array_equal(few[last][0], few[last][2])  # two tokens, in turn


def test_statistics_are_of_what_the_activation_function_reads(subject):
    seen = []
    hook = dense_activations(subject.model)[0].register_forward_pre_hook(
        lambda module, arguments: seen.append(arguments[0].flatten(0, -2).double())
    )
    found = preactivation_statistics(subject, PROMPTS, rows=5)
    hook.remove()
    every = torch.cat(seen).numpy()
    assert list(found) == [0] and len(every) == sum(map(len, PROMPTS))
    np.testing.assert_allclose(found[0][:, 0], every.mean(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found[0][:, 1], every.std(0, ddof=1), rtol=1e-6)


def test_neuron_adjust_is_made_before_the_activation_function(subject):
    mean, deviation, _ = preactivation_statistics(subject, PROMPTS, rows=5)[0][7]
    seen = []
    hook = dense_activations(subject.model)[0].register_forward_pre_hook(
        lambda module, arguments: seen.append(arguments[0][..., 7].clone())
    )
    # A target so wide that everything looks like it becomes the mirrored retained distribution.
    values = {(0, 7): (mean, deviation, 40.0, 1e-3)}
    ids = torch.tensor([PROMPTS[0]])
    with intervened(subject, [INTACT, Plan.of("adjust", [(0, 7)], "neuron", values)]) as session:
        for row in (0, 1):
            session.rows = torch.tensor([row])
            subject.model(input_ids=ids)
    hook.remove()
    expected = 40.0 - 1e-3 * (seen[0] - mean) / deviation
    torch.testing.assert_close(seen[1], expected.to(seen[1].dtype))


def gates_of(subject, ids):
    """What activation functions of the experts of layer 1 read, by (token, expert)."""
    seen, experts = {}, expert_groups(subject.model)[1]

    def keep(layer, neurons, chosen):
        if layer == 1:
            seen["chosen"] = chosen

    hook = experts.register_forward_pre_hook(lambda _, given: seen.update(hidden=given[0]))
    with tapped_experts(subject.model, keep):
        subject.model(input_ids=torch.tensor([ids]))
    hook.remove()
    hidden, size = seen["hidden"].view(len(ids), -1), subject.anatomy.expert_size
    return {
        (token, int(expert)): experts.gate_up_proj[expert, :size] @ hidden[token]
        for token, own in enumerate(seen["chosen"])
        for expert in own
    }


def test_statistics_of_experts_are_over_the_tokens_that_they_read(subject):
    found = preactivation_statistics(subject, PROMPTS, rows=5, kind="expert_neuron")
    gates = [gates_of(subject, prompt) for prompt in PROMPTS]
    assert list(found) == [1] and found[1].shape == (8, 16, 3)
    for expert in range(8):
        own = [gate for each in gates for (_, by), gate in each.items() if by == expert]
        assert (found[1][expert, :, 2] == len(own)).all()
        every = torch.stack(own).double().numpy()
        np.testing.assert_allclose(found[1][expert, :, 0], every.mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found[1][expert, :, 1], every.std(0, ddof=1), rtol=1e-4)


def test_neurons_of_experts_are_adjusted_before_the_activation_function(subject):
    before = gates_of(subject, PROMPTS[0])
    _, expert = next(iter(before))
    seen = {}

    def keep(layer, neurons, chosen):
        seen[layer] = neurons, chosen

    # A target so wide that everything looks like it becomes the mirrored retained distribution.
    values = {(1, expert, 3): (0.5, 2.0, 40.0, 1e-3)}
    ids = torch.tensor([PROMPTS[0]])
    neurons = {}
    plans = [INTACT, Plan.of("adjust", list(values), "expert_neuron", values)]
    with intervened(subject, plans) as session, tapped_experts(subject.model, keep):
        for row in (0, 1):
            session.rows = torch.tensor([row])
            subject.model(input_ids=ids)
            neurons[row] = seen[1][0].clone()
    tokens, slots = (seen[1][1] == expert).nonzero(as_tuple=True)
    moved = neurons[1] != neurons[0]
    assert moved.any() and not moved[..., [i for i in range(16) if i != 3]].any()
    for token, slot in zip(tokens.tolist(), slots.tolist(), strict=True):
        own = before[token, expert][3]
        mirrored = 40.0 - 1e-3 * (own - 0.5) / 2.0
        silu = torch.nn.functional.silu
        wanted = neurons[0][token, slot, 3] / silu(own) * silu(mirrored)
        torch.testing.assert_close(neurons[1][token, slot, 3], wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan("adjust", ((0, 1),), "head", ((1.0,) * 4,)), "'mode' of .* kind 'head' must be"),
        (Plan("adjust", ((0, 1),), "neuron", ((1.0, 0.0, 1.0, 1.0),)), "deviations .* above 0"),
        (Plan("adjust", ((0, 1),), "neuron", ((1.0, 1.0),)), "must be 4 numbers for each of 1"),
        (Plan("gain", ((0, 1),), "neuron", ((float("nan"),),)), "must be finite"),
        (Plan("gain", ((0, 1),), "neuron"), "must be 1 numbers for each of 1 units. Got 0"),
        (Plan("flip", ((0, 1),), "neuron", ((1.0,),)), "'flip' must be none"),
        (Plan("clamp", ((0, 1),), "head", ((1.0,) * 9,)), "16 numbers, or sets of as many"),
        (Plan("resample", ((0, 1), (0, 2)), "neuron", ((1.0,), (1.0, 2.0))), "Got 3 numbers"),
        (Plan("clamp", ((0, 1),), "expert", ((1.0,),)), "one of 'force', 'gain', 'mask'"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(subject, plan, words):
    assert not feasible(plan, subject.anatomy)
    with pytest.raises(LmriError, match=words):
        check_plan(plan, subject.anatomy)
    with pytest.raises(LmriError, match=r"The mode 'gain' .* needs the factor of every unit"):
        Plan.of("gain", [(0, 1)], "neuron")
