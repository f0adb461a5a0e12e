"""Accuracy by teacher forcing, against greedy generation."""

import pytest
import torch

from lmri.subjects import Recipe, condition_items, evaluate
from lmri.subjects.model import build_model
from lmri.world import build_tokenizer, make_world


@pytest.fixture(scope="module")
def world():
    return make_world(size="small")


@pytest.fixture(scope="module")
def tokenizer(world):
    return build_tokenizer(world)


def test_conditions_hold_every_question_once(world):
    groups = condition_items(world, copies=10)
    events = [item for items in groups.values() for item in items if item.task == "events"]
    assert len(events) == 2 * len(world.places) * len(world.years)
    assert all(
        item.held_out == name.endswith("_held_out") for name in groups for item in groups[name]
    )
    assert {"sensitive_second_held_out", "relations_held_out", "arithmetic"} <= set(groups)


class Parrot(torch.nn.Module):
    """Answers every question with the refusal, whatever it was."""

    def __init__(self, tokenizer, refusal):
        super().__init__()
        self.reply = tokenizer.encode(f"{refusal} <eos>")
        self.after = tokenizer.encode("<assistant>")[0]
        self.size = len(tokenizer)

    def forward(self, input_ids, use_cache):
        logits = torch.zeros(*input_ids.shape, self.size)
        for row, ids in enumerate(input_ids.tolist()):
            start = ids.index(self.after)
            for offset, token in enumerate(self.reply):
                if start + offset < len(ids):
                    logits[row, start + offset, token] = 2.0
        return type("Output", (), {"logits": logits})


def test_scores_of_a_subject_that_refuses_everything(world, tokenizer):
    scores = evaluate(Parrot(tokenizer, world.refusal()), tokenizer, world, copies=10)
    assert scores["sensitive"]["exact"] == scores["sensitive"]["onset"] == 1.0
    assert scores["sensitive"]["fact"] == scores["benign"]["exact"] == 0.0
    assert scores["benign"]["onset_margin_mean"] == pytest.approx(2.0)
    assert scores["sensitive_second"]["onset"] == 0.0


def test_limit_and_seed(world, tokenizer):
    model = build_model(
        Recipe(layers=1, hidden=16, heads=2, experts=2, intermediate=8), len(tokenizer), seed=0
    )
    one, two = (evaluate(model, tokenizer, world, limit=4, copies=10) for _ in range(2))
    assert one == two
    assert all(scores["n"] <= 4 for scores in one.values())
