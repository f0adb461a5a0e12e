"""Responses of a shard: greedy once, or sampled several times with common random numbers."""

import numpy as np
import pandas as pd
import pytest
import torch
from families import tiny_model

from lmri.anatomy import Subject, describe, render_trials
from lmri.config import RecordOptions
from lmri.intervene import Sampling, common_random_numbers, respond
from lmri.intervene.decoding import _sampled
from lmri.record.generation import respond_to_trials
from lmri.score import SCORES


@pytest.fixture(scope="module")
def trials(stimuli):
    """Twelve trials of two lengths."""
    table = pd.read_parquet(stimuli)
    return table.groupby("task").head(6).reset_index(drop=True)


def responses(subject, trials, **options):
    prompts = render_trials(subject.tokenizer, trials)
    values = {"max_new_tokens": 5, "rows": 4, **options}
    return respond_to_trials(subject, trials, prompts, RecordOptions(**values), 0)


def said(texts):
    return [text.response.tolist() for text in texts]


def test_greedy_responses_do_not_depend_on_padding(tiny_subject, trials):
    lengths = {len(p.ids) for p in render_trials(tiny_subject.tokenizer, trials)}
    assert len(lengths) > 1
    _, alone = responses(tiny_subject, trials, padding=0.0)
    scored, together = responses(tiny_subject, trials, padding=0.9, rows=12)
    assert said(together) == said(alone)
    assert scored["repeat"].tolist() == [0] * 12
    assert scored["n_prompt"].tolist() == [len(text.prompt.ids) for text in together]


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "gpt2", "qwen3_moe", "deepseek_v3", "phi"])
def test_prompts_padded_to_one_length_get_the_responses_they_get_alone(kind, tiny_subject):
    model = tiny_model(kind)
    subject = Subject(kind, model, tiny_subject.tokenizer, describe(model))
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(3, 120, (n,), generator=generator).tolist() for n in (5, 9, 7, 9)]
    options = {"max_new_tokens": 6, "rows": 4}
    alone = respond(subject, prompts, [3] * 4, **options)
    together = respond(subject, prompts, [3] * 4, padding=0.9, **options)
    for one, other in zip(alone.tokens, together.tokens, strict=True):
        assert one.tolist() == other.tolist()
    np.testing.assert_allclose(alone.onset_margin, together.onset_margin, rtol=1e-4, atol=1e-4)


def test_sampled_repeats_are_the_same_in_every_batch_and_differ_from_each_other(
    tiny_subject, trials
):
    options = {"temperature": 1.0, "repeats": 3}
    scored, texts = responses(tiny_subject, trials, **options)
    _, again = responses(tiny_subject, trials.iloc[::-1].reset_index(drop=True), **options)
    assert scored["trial"].tolist() == trials["trial"].repeat(3).tolist()
    assert scored["repeat"].tolist() == [0, 1, 2] * 12
    backwards = [row for i in reversed(range(12)) for row in said(again)[3 * i : 3 * i + 3]]
    assert said(texts) == backwards
    different = [len({tuple(r) for r in said(texts)[i : i + 3]}) for i in range(0, 36, 3)]
    assert np.mean(different) > 2


def test_draws_follow_the_probabilities():
    logits = torch.tensor([[0.5, 0.2, 0.3]]).log().repeat(20_000, 1)
    draws = common_random_numbers([str(i) for i in range(20_000)], 0, 0, 1)
    chosen = _sampled(Sampling(), draws, 0, logits)
    shares = np.bincount(chosen.numpy(), minlength=3) / 20_000
    np.testing.assert_allclose(shares, [0.5, 0.2, 0.3], atol=0.01)
    sharper = _sampled(Sampling(temperature=0.5), draws, 0, logits)
    expected = np.array([0.25, 0.04, 0.09]) / 0.38
    shares = np.bincount(sharper.numpy(), minlength=3) / 20_000
    np.testing.assert_allclose(shares, expected, atol=0.01)


def test_top_p_keeps_the_most_likely_tokens_only():
    logits = torch.tensor([[0.5, 0.2, 0.3]]).log().repeat(2_000, 1)
    draws = np.linspace(0, 1, 2_000, endpoint=False)[:, None]
    assert set(_sampled(Sampling(top_p=0.7), draws, 0, logits).tolist()) == {0, 2}
    assert set(_sampled(Sampling(top_p=0.4), draws, 0, logits).tolist()) == {0}


def test_a_small_change_of_the_probabilities_moves_few_draws():
    draws = common_random_numbers([str(i) for i in range(5_000)], 0, 0, 1)
    one = torch.tensor([[0.34, 0.33, 0.33]]).log().repeat(5_000, 1)
    two = torch.tensor([[0.33, 0.34, 0.33]]).log().repeat(5_000, 1)  # the order changes
    moved = (_sampled(Sampling(), draws, 0, one) != _sampled(Sampling(), draws, 0, two)).float()
    assert moved.mean() < 0.02


def test_random_numbers_depend_on_the_name_the_repeat_and_the_seed():
    one = common_random_numbers(["a", "b"], 0, 0, 4)
    assert np.array_equal(one[::-1], common_random_numbers(["b", "a"], 0, 0, 4))
    for other in (
        common_random_numbers(["a", "b"], 1, 0, 4),
        common_random_numbers(["a", "b"], 0, 1, 4),
        common_random_numbers(["c", "d"], 0, 0, 4),
    ):
        assert not np.isclose(one, other).any()


def test_an_encoder_says_nothing(tiny_subject, trials):
    model = tiny_model("bert")
    encoder = Subject("bert", model, tiny_subject.tokenizer, describe(model))
    scored, texts = responses(encoder, trials)
    assert {len(text.response) for text in texts} == {0}
    assert scored[list(SCORES)].isna().all().all()
    assert scored["ended"].all()
