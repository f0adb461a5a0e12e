"""Plans on directions taken apart by what reads them: dormant paths are illusions."""

import json

import numpy as np
import pytest
import torch
from families import FAMILIES, tiny_model
from transformers import LlamaConfig, LlamaForCausalLM

from lmri.anatomy import Subject, describe
from lmri.errors import LmriError
from lmri.intervene import (
    Plan,
    ablation_plan,
    intervened,
    read_out,
    row_space_report,
    split_directions,
    steering_plan,
)
from lmri.intervene.row_space import _later

UNREAD, IDLE, REFUSE = 12, 13, 14


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def subject():
    """One block that adds nothing: word 3 is read off dimensions 13 and 14, 12 is never read.

    In the words 6 to 9 dimension 14 is 3 and moves 12 along; 13 is always 0. So a patch along
    (12, 13) uses what 12 knows to wake what 13 could do: a dormant path.
    """
    config = LlamaConfig(
        vocab_size=22,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        for name, weight in model.named_parameters():
            if "proj" in name:
                weight.zero_()
        embeddings, head = model.model.embed_tokens.weight, model.lm_head.weight
        embeddings.normal_(0, 0.3)
        embeddings[:, 12:] = 0
        embeddings[6:10, REFUSE] = embeddings[6:10, UNREAD] = 3
        head.normal_(0, 0.01)
        head[:, UNREAD] = 0
        head[3, REFUSE] = head[3, IDLE] = 2
    return Subject("toy", model.eval().requires_grad_(False), None, describe(model))


def direction(*dimensions):
    vector = np.zeros(16)
    vector[list(dimensions)] = 1.0
    return vector


def fall(subject):
    """Fall of the logit of word 3 after the words in which it is said."""
    ids = torch.tensor([[6], [7], [8], [9]])

    def said(*plans):
        with intervened(subject, plans) as session:
            session.rows = torch.zeros(4, dtype=torch.int64)
            return subject.model(input_ids=ids).logits[:, -1, 3].mean().item()

    intact = said(Plan())
    return lambda plan: intact - said(plan)


def ablation(subject, *directions):
    return ablation_plan(subject.anatomy, {0: np.array(directions)})


def test_a_dormant_path_is_flagged(subject):
    plan = ablation(subject, direction(UNREAD, IDLE))
    found = row_space_report(subject, plan, fall(subject))
    assert found.effect > 1, "looks like the mechanism"
    # Dimension 13 is 0 as it is, and nothing reads 12 but the scale of the normalisation.
    assert abs(found.row_effect) < 1e-6
    assert (found.rank, found.width) == (15, 16)
    assert (found.row_norm, found.null_norm) == pytest.approx((0.5**0.5, 0.5**0.5))
    assert found.kept == pytest.approx(0, abs=1e-6)
    assert found.illusory is True
    assert json.loads(json.dumps(found.record()))["illusory"] is True


def test_the_direction_that_is_read_is_none(subject):
    found = row_space_report(subject, ablation(subject, direction(REFUSE)), fall(subject))
    assert found.effect > 1
    assert (found.kept, found.null_norm, found.null_effect) == pytest.approx((1, 0, 0), abs=1e-6)
    assert found.illusory is False


def test_a_subspace_is_taken_apart_as_a_whole(subject):
    plan = ablation(subject, direction(REFUSE), direction(UNREAD, IDLE))
    found = row_space_report(subject, plan, fall(subject))
    alone = row_space_report(subject, ablation(subject, direction(REFUSE)), fall(subject))
    assert found.row_effect == pytest.approx(alone.row_effect, rel=0.05)
    assert (found.row_norm, found.null_norm) == pytest.approx((0.75**0.5, 0.5))


def test_a_vector_that_is_added_falls_into_its_parts(subject):
    plan = steering_plan(subject.anatomy, {0: direction(UNREAD, IDLE)}, -2.0)
    seen = []

    def effect(part):
        seen.append(np.array(part.values[0]))
        return fall(subject)(part)

    found = row_space_report(subject, plan, effect)
    whole, row, null = seen
    np.testing.assert_allclose(row + null, whole, atol=1e-9)
    np.testing.assert_allclose(row, -2 * direction(IDLE), atol=1e-3)
    # What is read acts; what is not only adds to the length that the normalisation divides by.
    assert found.kept > 0.8
    assert found.null_ratio < 0
    assert found.illusory is False


def test_without_an_effect_nothing_is_told(subject):
    plan = ablation(subject, direction(3))
    for least, effect in ((0.1, lambda plan: 0.05), (0.0, lambda plan: 0.0)):
        found = row_space_report(subject, plan, effect, least_effect=least)
        assert (found.kept, found.null_ratio, found.illusory) == (None, None, None)


@pytest.mark.parametrize(("kept", "illusory"), [(0.29, True), (0.91, False)])
def test_the_published_ratios_fall_on_their_sides(subject, kept, illusory):
    effects = iter([45.87, 45.87 * kept, 0.0])
    plan = ablation(subject, direction(UNREAD, IDLE))
    assert row_space_report(subject, plan, lambda part: next(effects)).illusory is illusory


def test_phases_and_origins_are_those_of_the_plan(subject):
    origin = np.arange(16.0)
    plan = ablation_plan(
        subject.anatomy, {0: direction(UNREAD, IDLE)}, {0: origin}, place="mid", phase="prompt"
    )
    seen = []
    row_space_report(subject, plan, lambda part: seen.append(part) or 1.0)
    assert {(part.mode, part.kind, part.phase, part.units) for part in seen} == {
        ("ablate", "residual_site", "prompt", ((0, 1),))
    }
    assert all(part.values[0][:16] == tuple(origin) for part in seen)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan("zero", ((0, 1),), "head"), "of mode add or ablate with a site. Got the mode 'zero'"),
        (Plan("add", (), "residual_site"), "on 0 units"),
        (Plan("add", ((0, 2),), "residual_site", ((0.0,) * 16,)), "of length 0 in layer 0"),
        (Plan("ablate", ((0, 2),), "residual_site", ((0.0,) * 32,)), "of length 0 in layer 0"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(subject, plan, words):
    with pytest.raises(LmriError, match=words):
        row_space_report(subject, plan, lambda part: 1.0)


def test_parts_are_orthonormal_and_span_what_was_given():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 3)))[0].T
    directions = np.concatenate([rng.normal(size=(2, 6)), basis[:1]])
    whole, row, null = split_directions(directions, basis)
    for part in (whole, row, null):
        np.testing.assert_allclose(part @ part.T, np.eye(len(part)), atol=1e-12)
    np.testing.assert_allclose(null @ basis.T, 0, atol=1e-12)
    np.testing.assert_allclose(row @ basis.T @ basis, row, atol=1e-12)
    assert [len(part) for part in (whole, row, null)] == [3, 3, 2]
    assert [len(part) for part in split_directions(basis[:1], basis)] == [1, 1, 0]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "bert"])
def test_every_family_reads_its_residual(family):
    model = tiny_model(family)
    read = list(_later(model, 0, None, 32))
    # Queries, keys and values; an MLP, or router and experts.
    assert len(read) >= 2 * (2 if family in {"gpt2", "gpt_neox", "phi3"} else 4)
    assert {weight.shape[1] for weight in read} == {32}
    assert len(list(_later(model, 2, None, 32))) == 0
    half, whole = (len(list(_later(model, 2, half, 32))) for half in (1, None))
    assert whole == 0 < half < len(list(_later(model, 1, None, 32)))
    subject = Subject(family, model, None, describe(model))
    assert read_out(subject, 1, "after").shape == (32, 32)
