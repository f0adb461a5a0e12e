"""Gains of experts: the stated weights, and nothing else."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from families import MIXTURES, tiny_model, tokens

from lmri.anatomy import Subject, describe, expert_groups, route
from lmri.errors import LmriError
from lmri.intervene import INTACT, Combined, Plan, check_plan, intervened
from lmri.intervene.routing import Session, _reroute
from lmri.intervene.tables import compile_plans

ROUTED = [family for family in MIXTURES if family != "llama4_text"]


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


def gain(factor, *units):
    return Plan.of("gain", list(units), "expert", {key: [factor] for key in units})


def rerouted(anatomy, *plans):
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    router = SimpleNamespace(top_k=2, norm_topk_prob=False)
    session = Session(compile_plans([Combined(plans)], anatomy), anatomy)
    _, weights, ids = _reroute(
        session, 0, router, (), (logits, *route(router, anatomy.routing, logits))
    )
    return [round(weight, 3) for weight in weights[0].tolist()], ids[0].tolist()


def test_known_weights(tiny_subject):
    four = replace(tiny_subject.anatomy, experts=4, top_k=2)
    assert rerouted(four) == ([0.644, 0.237], [0, 1])
    assert rerouted(four, gain(2.0, (0, 1))) == ([0.644, 0.474], [0, 1])
    assert rerouted(four, gain(0.0, (0, 0), (0, 3))) == ([0.0, 0.237], [0, 1])
    assert rerouted(four, gain(-1.0, (0, 0))) == ([-0.644, 0.237], [0, 1])
    # After the choice: another expert that is off or forced changes what is multiplied.
    assert rerouted(four, Plan("mask", ((0, 0),)), gain(2.0, (0, 2))) == ([0.665, 0.489], [1, 2])
    assert rerouted(four, Plan("zero", ((0, 0),)), gain(3.0, (0, 1))) == ([0.0, 0.711], [4, 1])


@pytest.mark.parametrize("family", ROUTED)
def test_a_gain_of_one_keeps_every_bit_and_of_two_is_twice_the_output(family):
    model = tiny_model(family)
    subject, seen = Subject(family, model, None, describe(model)), []
    layer = subject.anatomy.moe_layers[-1]
    units = [(layer, expert) for expert in range(8)]

    def logits(*plans, rows=(0, 0, 0)):
        with intervened(subject, plans) as session:
            session.rows = torch.tensor(rows)
            return model(input_ids=tokens(family)).logits

    hook = expert_groups(model)[layer].register_forward_hook(lambda *call: seen.append(call[2]))
    intact = logits(INTACT)
    assert torch.equal(logits(gain(1.0, *units)), intact)
    found = logits(INTACT, gain(2.0, *units), rows=(0, 1, 0))
    hook.remove()
    assert torch.equal(found[[0, 2]], intact[[0, 2]])
    before, _, after = (own.view(3, 14, -1) for own in seen)
    torch.testing.assert_close(after[1], 2 * before[1], rtol=1e-5, atol=1e-5)
    assert (found[1] - intact[1]).abs().max() > 1e-3
    # Gain 0 is the mode zero, but for how many experts are run.
    torch.testing.assert_close(
        logits(gain(0.0, *units)), logits(Plan("zero", tuple(units))), rtol=1e-5, atol=1e-5
    )


def test_factors_that_do_not_fit_are_refused(tiny_subject):
    with pytest.raises(LmriError, match="'gain' must be 1 numbers for each of 1 units"):
        check_plan(Plan("gain", ((0, 1),)), tiny_subject.anatomy)
    with pytest.raises(LmriError, match="must be finite"):
        check_plan(gain(float("inf"), (0, 1)), tiny_subject.anatomy)
    llama4 = describe(tiny_model("llama4_text"))
    with pytest.raises(LmriError, match="chooses among and runs one by one"):
        check_plan(gain(2.0, (llama4.moe_layers[0], 1)), llama4)
