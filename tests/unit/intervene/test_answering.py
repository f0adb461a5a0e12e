"""Probabilities of answers under many plans are those of single rows."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import tiny_model

from lmri.anatomy import Subject, describe
from lmri.intervene import (
    INTACT,
    Plan,
    answer_scores,
    continuation_log_probabilities,
    respond,
    says_exactly,
)

PROMPTS = [[1, *(3 + (7 * row + 3 * i) % 100 for i in range(4 + row % 3))] for row in range(7)]
PLANS = [INTACT, Plan("mask", ((0, 1), (1, 2))), INTACT, Plan("zero", ((1, 0),), "head")]


@pytest.fixture(scope="module")
def subject():
    model = tiny_model("mixtral")
    return Subject("tiny", model, SimpleNamespace(eos_token_id=127), describe(model))


@pytest.fixture(scope="module")
def references(subject):
    """What the subject says to the first prompts, and something else."""
    said = respond(subject, PROMPTS, [0] * len(PROMPTS), max_new_tokens=3, rows=4).tokens
    return [own.tolist() if row < 4 else [5, 6] for row, own in enumerate(said)]


def test_they_are_those_of_single_rows(subject, references):
    likely, said = answer_scores(subject, PROMPTS, references, PLANS, rows=16)
    for place, plan in enumerate(PLANS):
        own = {"plans": [plan], "rows": 4}
        tokens = continuation_log_probabilities(subject, PROMPTS, references, **own)
        wanted = [float(row.sum()) for row in tokens]
        np.testing.assert_allclose(likely[place], wanted, rtol=1e-4, atol=1e-4)
        exact = says_exactly(subject, PROMPTS, references, plan_of_row=[0] * 7, **own)
        assert said[place].tolist() == exact.tolist()
    assert said[0].tolist() == [True] * 4 + [False] * 3


def test_plans_that_do_the_same_have_the_same_bits(subject, references):
    likely, said = answer_scores(subject, PROMPTS, references, PLANS, rows=16)
    assert (likely[0] == likely[2]).all() and (said[0] == said[2]).all()
    assert not np.allclose(likely[0], likely[1])
    assert torch.isfinite(torch.from_numpy(likely)).all()
