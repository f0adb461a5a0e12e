"""Thoughts are closed after their limit, answers after theirs, each row for itself."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from families import tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lmri.anatomy import Subject, answer_start, describe
from lmri.intervene import most_new_tokens, respond
from lmri.intervene.thinking_budget import ThinkingBudget
from lmri.score import score_responses

WORDS = ["<pad>", "<bos>", "<eos>", "<think>", "</think>", "a", "b", "c", "no", "\n"]
EOS, START, END, A, B, NO, LINE = 2, 3, 4, 5, 6, 8, 9


@pytest.fixture(scope="module")
def tokenizer():
    """Words, and the delimiters of thought."""
    words = WORDS + [f"w{i}" for i in range(128 - len(WORDS))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )


def budget(tokenizer, prompts, thought=3, answer=2):
    subject = SimpleNamespace(tokenizer=tokenizer, max_think_tokens=thought)
    return ThinkingBudget(subject, prompts, answer)


def said(counter, *steps):
    return [counter.step(torch.tensor(step)).tolist() for step in steps]


def test_a_long_thought_is_closed_and_the_answer_has_its_own_limit(tokenizer):
    counter = budget(tokenizer, [[A]])
    steps = said(counter, [START], [A], [A], [A], [A], [B], [B], [B])
    assert [step[0] for step in steps[:7]] == [START, A, A, A, END, B, B]
    assert counter.lengths == [7]
    assert counter.done == [True]


def test_rows_are_counted_apart(tokenizer):
    # The first thinks, the second answers at once, the third was asked inside a thought.
    counter = budget(tokenizer, [[A], [A], [A, START]])
    steps = said(counter, *[[START, B, A]], *[[A, B, A]] * 5)
    first, second, third = zip(*steps, strict=True)
    assert first == (START, A, A, A, END, A)
    assert second[:2] == (B, B)
    assert third[:5] == (A, A, A, END, A)
    assert counter.lengths == [6, 2, 6]


def test_a_short_thought_is_left_alone(tokenizer):
    counter = budget(tokenizer, [[A]])
    assert [s[0] for s in said(counter, [START], [A], [END], [B], [B])] == [START, A, END, B, B]
    assert counter.done == [True]


def test_a_second_thought_gets_what_the_first_left(tokenizer):
    counter = budget(tokenizer, [[A]], thought=3, answer=9)
    steps = said(counter, [START], [A], [A], [END], [B], [START], [A], [A], [B], [START], [B], [B])
    assert [step[0] for step in steps] == [
        *[START, A, A, END, B],
        *[START, A, END, B],  # one was left
        *[START, END, B],  # none was left
    ]


def subject_of(tokenizer, **options):
    model = tiny_model("llama")
    return Subject("thinker", model, tokenizer, describe(model), **options)


def test_without_a_limit_nothing_changes(tokenizer):
    plain, prompts = subject_of(tokenizer), [[1, A, B], [1, B]]
    assert most_new_tokens(plain, 6) == 6
    assert ThinkingBudget.of(plain, prompts, 6) is None
    limited = subject_of(tokenizer, max_think_tokens=4)
    assert most_new_tokens(limited, 6) == 14  # four of thought, delimiters of two thoughts
    # The tiny model never thinks by itself.
    options = {"watched": [A, A], "max_new_tokens": 6, "rows": 2}
    for one, other in zip(
        respond(plain, prompts, **options).tokens,
        respond(limited, prompts, **options).tokens,
        strict=True,
    ):
        assert one.tolist() == other.tolist()


def test_a_subject_that_was_asked_inside_a_thought_is_made_to_answer(tokenizer):
    limited = subject_of(tokenizer, max_think_tokens=3)
    [tokens] = respond(limited, [[1, A, START]], [A], max_new_tokens=2, rows=1).tokens
    assert tokens[3] == END
    assert len(tokens) == 6
    assert START not in tokens[4:]


@pytest.mark.parametrize(
    ("response", "start"),
    [
        ([A, B], 0),
        ([START, A, END, B], 3),
        ([START, A, END, LINE, LINE, B], 5),
        ([A, END, B], 2),  # the prompt began the thought
        ([START, A, END, START, A, END, B], 6),
        ([START, A], 2),
        ([START, A, END, LINE], 4),
    ],
)
def test_where_the_answer_begins(tokenizer, response, start):
    assert answer_start(tokenizer, response) == start


def test_the_answer_is_scored_and_not_the_thought(tokenizer):
    trials = pd.DataFrame(
        {
            "trial": ["thinks", "answers", "never ends"],
            "refusal": ["no"] * 3,
            "reference": ["no"] * 3,
            "fact": ["a"] * 3,
        }
    )
    tokens = [np.array(row) for row in ([START, A, END, NO, EOS], [NO, EOS], [START, NO])]
    ended = np.array([True, True, False])
    scores = score_responses(tokenizer, trials, tokens, ended, np.ones(3, np.float32))
    assert scores["refusal_onset"].tolist() == [1.0, 1.0, 0.0]
    assert scores["exact"].tolist() == [1.0, 1.0, 0.0]
    assert scores["fact_told"].tolist() == [0.0, 0.0, 0.0]  # "a" was thought, not told
    assert scores["onset_margin"].isna().tolist() == [True, False, True]
    assert "a" in scores["response"][0]
