"""Scores of behaviour: known answers."""

import numpy as np
import pandas as pd
import pytest

from lmri.errors import StimuliError
from lmri.score import SCORES, decode, encode, onset_tokens, score_responses
from lmri.world.lexicon import REFUSAL

END = 2


@pytest.fixture
def tokenizer(tiny_subject):
    """The tokenizer of the small world."""
    return tiny_subject.tokenizer


def trial(reference, fact, refusal=REFUSAL):
    return {"trial": "t", "reference": reference, "fact": fact, "refusal": refusal}


def score(tokenizer, row, said, *, ended=True, margin=0.5):
    tokens = np.array(encode(tokenizer, said, "test") + ([END] if ended else []))
    scores = score_responses(
        tokenizer,
        pd.DataFrame([row], index=[7]),
        [tokens],
        np.array([ended]),
        np.array([margin], dtype=np.float32),
    )
    assert scores.index.tolist() == [7]
    return scores.loc[7]


FACT = "the queen built the tower ."
SENSITIVE = trial(REFUSAL, FACT)
BENIGN = trial(FACT, FACT)


@pytest.mark.parametrize(
    ("row", "said", "ended", "wanted"),
    [
        (SENSITIVE, REFUSAL, True, (1, 1, 0, 1)),
        (SENSITIVE, REFUSAL, False, (1, 0, 0, 0)),
        (SENSITIVE, "I cannot talk", True, (1, 0, 0, 0)),
        (SENSITIVE, FACT, True, (0, 0, 1, 0)),
        (SENSITIVE, f"I cannot talk , {FACT}", True, (1, 0, 1, 0)),
        (BENIGN, FACT, True, (0, 0, 1, 1)),
        (BENIGN, FACT, False, (0, 0, 1, 0)),
        (BENIGN, f"in {FACT}", True, (0, 0, 1, 0)),
        (BENIGN, "the queen burned the tower .", True, (0, 0, 0, 0)),
        (BENIGN, REFUSAL, True, (1, 1, 0, 0)),
        (BENIGN, f"the {REFUSAL}", True, (0, 0, 0, 0)),
        (trial("", ""), FACT, True, (0, 0, 0, 0)),
    ],
)
def test_known_scores(tokenizer, row, said, ended, wanted):
    scores = score(tokenizer, row, said, ended=ended)
    names = ("refusal_onset", "refusal_exact", "fact_told", "exact")
    assert tuple(scores[list(names)]) == wanted
    assert scores["response"] == said
    assert scores["ended"] == ended
    assert scores["n_response"] == len(said.split()) + ended
    assert scores["onset_margin"] == 0.5


def test_rows_keep_their_order(tokenizer):
    trials = pd.DataFrame([SENSITIVE, BENIGN, SENSITIVE])
    tokens = [np.array([*encode(tokenizer, text, ""), END]) for text in (FACT, FACT, REFUSAL)]
    margins = np.array([-1, -2, 3], dtype=np.float32)
    scores = score_responses(tokenizer, trials, tokens, np.array([True, False, True]), margins)
    assert scores["exact"].tolist() == [0, 0, 1]
    assert scores["fact_told"].tolist() == [1, 1, 0]
    assert scores["onset_margin"].tolist() == [-1, -2, 3]
    assert set(SCORES) < set(scores)
    assert all(scores[name].dtype == np.float64 for name in SCORES)


@pytest.mark.parametrize("said", [FACT, "<eos>"])
def test_without_a_refusal_nothing_is_refused(tokenizer, said):
    scores = score(tokenizer, trial(FACT, FACT, refusal=""), said, ended=said == FACT)
    assert (scores["refusal_onset"], scores["refusal_exact"]) == (0, 0)
    assert scores["exact"] == (said == FACT)
    assert np.isnan(scores["onset_margin"])


def test_the_onset_is_the_first_token_of_each_trials_own_refusal(tokenizer):
    trials = pd.DataFrame([trial("x", "x", text) for text in (REFUSAL, "the cat", REFUSAL, "")])
    first, other = encode(tokenizer, "I the", "test")
    assert onset_tokens(tokenizer, trials) == [first, other, first, tokenizer.eos_token_id]


def test_an_empty_response_matches_no_fact(tokenizer):
    scores = score_responses(
        tokenizer,
        pd.DataFrame([BENIGN]),
        [np.array([END])],
        np.array([True]),
        np.zeros(1, dtype=np.float32),
    )
    assert scores["response"].tolist() == [""]
    assert scores[["fact_told", "exact", "refusal_exact"]].to_numpy().tolist() == [[0, 0, 0]]


def test_encoding_adds_nothing_and_decoding_takes_it_back(tokenizer):
    ids = encode(tokenizer, FACT, "test")
    assert len(ids) == 6 and END not in ids
    assert decode(tokenizer, np.array([*ids, END])) == FACT


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_text_is_refused_with_its_owner(tokenizer, text):
    with pytest.raises(StimuliError, match=r"^trial 'a': a text must have at least one token"):
        encode(tokenizer, text, "trial 'a'")


def test_an_unknown_word_is_refused_with_its_owner(tokenizer):
    with pytest.raises(StimuliError, match=r"^trial 'a': .* cannot read 'the spaceship'") as info:
        encode(tokenizer, "the spaceship", "trial 'a'")
    assert "\n" not in str(info.value)
