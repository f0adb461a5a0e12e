"""Void layers of a subject of which two of four layers write nothing."""

import numpy as np
import pytest
import torch
from planted_model import WORDS, make_subject

from lmri.config import VoidLayersOptions
from lmri.errors import EvidenceError
from lmri.experiment import void_layers
from lmri.experiment.measuring import trials_of
from lmri.experiment.void_layers.experiment import other_tokens, random_layers
from lmri.experiment.void_layers.passing import said_without, texts_of, void_tokens
from lmri.intervene import INTACT, Plan, continuation_log_probabilities

DEAD, PLANTED = (1, 2), (3, 7)
OPTIONS = VoidLayersOptions(tasks=("events",), draws=59, trials=40)


@pytest.fixture(scope="module")
def ground(make_ground):
    return make_ground(make_subject(layers=4, planted=PLANTED, dead=DEAD))


@pytest.fixture(scope="module")
def texts(ground):
    return texts_of(ground, trials_of(ground, "events", "evaluation", most=30))


def void(share, *layers):
    units = [(layer,) for layer in layers]
    return Plan.of("void", units, "layer", {unit: [share] for unit in units})


def likely(ground, texts, plan):
    """Of the answers, in nats a token, by the function that reads continuations under a plan."""
    prompts = [ids[:end] for ids, end in zip(texts.ids, texts.prompts, strict=True)]
    answers = [ids[end:] for ids, end in zip(texts.ids, texts.prompts, strict=True)]
    said = continuation_log_probabilities(
        ground.subject, prompts, answers, plans=[plan], rows=ground.rows
    )
    return np.array([own.mean() for own in said])


def test_passing_over_what_was_found_void_is_the_plan_itself(ground, texts):
    plan = void(0.8, 0, 1, 2, 3)
    masks = void_tokens(ground.subject, texts, plan, ground.rows)
    assert masks[0].shape == (4, len(texts.ids[0]) - 1)
    assert all(mask[list(DEAD)].all() for mask in masks)  # they add nothing, void or not
    refused = [
        ids[end] == WORDS.index("no") for ids, end in zip(texts.ids, texts.prompts, strict=True)
    ]
    decided = [mask[PLANTED[0], end - 1] for mask, end in zip(masks, texts.prompts, strict=True)]
    assert any(refused)
    assert not np.any(np.array(decided)[refused])  # the layer that refuses is not void there
    said = said_without(ground.subject, texts, masks, rows=7)
    np.testing.assert_allclose(said.log_probability, likely(ground, texts, plan), atol=1e-6)
    nothing = [np.zeros_like(mask) for mask in masks]
    said = said_without(ground.subject, texts, nothing, rows=7)
    np.testing.assert_allclose(said.log_probability, likely(ground, texts, INTACT), atol=1e-6)
    assert said.exact.all()


def test_a_layer_passed_over_everywhere_is_one_that_is_off(ground, texts):
    masks = [np.ones((4, len(ids) - 1), dtype=bool) for ids in texts.ids]
    for mask in masks:
        mask[:3] = False
    said = said_without(ground.subject, texts, masks, rows=7)
    off = Plan("zero", ((3,),), "layer")
    np.testing.assert_allclose(said.log_probability, likely(ground, texts, off), atol=1e-6)
    torch.testing.assert_close(
        torch.tensor(likely(ground, texts, INTACT)),
        torch.tensor(
            said_without(
                ground.subject, texts, [np.zeros_like(mask) for mask in masks], 7
            ).log_probability
        ),
    )


def test_controls_pass_over_as_much():
    rng = np.random.default_rng(0)
    mask = rng.random((5, 9)) < 0.3
    assert (random_layers(mask, 6, rng).sum(0) == mask.sum(0)).all()
    moved = other_tokens(mask, 6, rng)
    for part in (slice(5), slice(5, None)):
        assert (moved[:, part].sum(1) == mask[:, part].sum(1)).all()
    assert (random_layers(mask, 6, rng) != mask).any()
    assert (moved != mask).any()


def test_layers_that_write_nothing_are_dispensable_and_random_ones_are_not(ground):
    outcome = void_layers.run(ground, OPTIONS)
    claims = {own.claim: own for own in outcome.statements}
    assert list(claims) == ["beats_random_events", "beats_moved_events", "survives_events"]
    random, survives = claims["beats_random_events"], claims["survives_events"]
    assert random.low > 0
    assert 1 / 60 <= random.p < 0.05
    assert random.controls == "59 draws of as many random layers"
    assert (survives.effect, survives.threshold) == (0.0, -0.1)
    assert survives.p < 0.05
    runs = outcome.tables["runs"].set_index("arm")
    assert runs.loc["void layers", "cost"] == pytest.approx(0, abs=0.01)
    assert runs.loc["void layers", "passed_over"] >= 0.25
    assert (
        runs.loc["as many random layers", "passed_over"] == runs.loc["void layers", "passed_over"]
    )
    assert runs.loc["exit after layer 2", "cost"] > 0.1
    where = outcome.tables["where_void"].set_index(["phase", "layer"])["share"]
    assert (where.xs(2, level="layer") == 1).all()
    assert len(outcome.tables["draws"]) == 2 * 59
    again = void_layers.run(ground, OPTIONS)
    assert again.statements == outcome.statements
    for name, table in outcome.tables.items():
        assert table.equals(again.tables[name]), name


def test_where_nothing_is_void_nothing_is_tested(ground):
    grows = VoidLayersOptions(tasks=("events",), share=0.0, draws=59, trials=20)
    subject = make_subject(layers=2)
    with torch.no_grad():
        for number, layer in enumerate(subject.model.model.layers):
            # Writing to a dimension that nothing else writes to can only lengthen the residual.
            layer.mlp.down_proj.weight.zero_()
            layer.mlp.down_proj.weight[57 + number] = 1
    outcome = void_layers.run(ground_with(ground, subject), grows)
    assert {own.reason for own in outcome.statements} == {
        "no layer is void at any token of these trials"
    }
    assert "draws" not in outcome.tables


def ground_with(ground, subject):
    return type(ground)(**{**vars(ground), "subject": subject})


def test_a_task_that_is_not_there_is_named(ground):
    with pytest.raises(EvidenceError, match="'task'"):
        void_layers.run(ground, VoidLayersOptions(tasks=("poems",)))
