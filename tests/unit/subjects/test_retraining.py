"""A base trained once more: the same bits with nothing in force, others with a head held."""

import json
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from tiny_recipe import TINY
from transformers import AutoModelForCausalLM

from lmri.anatomy import Subject, describe
from lmri.intervene import clamped_patterns
from lmri.subjects import train_base
from lmri.subjects.retraining import retrain_base, training_of

LONGER = replace(TINY, base_steps=6, base_checkpoints=(3,))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("subjects") / "base"
    train_base(path, base_seed=1, world_seed=0, recipe=LONGER, world_size="small")
    return path


def free(model, batch):
    return nullcontext()


def held(model, batch):
    subject = Subject("held", model, None, describe(model))
    return clamped_patterns(subject, {(1, 0): torch.eye(batch.input_ids.shape[1])[None]})


def same(model, folder):
    saved, own = AutoModelForCausalLM.from_pretrained(folder).state_dict(), model.state_dict()
    return all(torch.equal(own[name], values) for name, values in saved.items())


def test_with_nothing_in_force_it_is_the_base_again(base, tmp_path):
    seen = {}

    def see(step, model):
        seen[step] = model.state_dict()["model.norm.weight"].clone()
        if step == 3:
            seen["checkpoint"] = same(model, base / "checkpoints/step_00003")

    model = retrain_base(training_of(base), around=free, steps=(0, 3, 6), see=see)
    assert same(model, base)
    assert seen.pop("checkpoint")
    assert list(seen) == [0, 3, 6]
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_force_is_in_force_in_training(base):
    train = partial(retrain_base, training_of(base), steps=(), see=lambda step, model: None)
    assert not same(train(around=held), base)


def test_only_a_finished_base_says_how_it_was_trained(base, tmp_path):
    known = training_of(base)
    assert (known.recipe, known.base_seed, known.world_size) == (LONGER, 1, "small")
    assert training_of(tmp_path) is None
    assert training_of(base / "checkpoints/step_00003") is None
    (tmp_path / "card.json").write_text(json.dumps({"kind": "state"}))
    assert training_of(tmp_path) is None
