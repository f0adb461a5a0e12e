"""The scorers: old names and values, known answers of the new ones, clear refusals."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from lmri.errors import ScoreError
from lmri.score import (
    SCORERS,
    SCORES,
    Answers,
    Custom,
    PhraseList,
    Scorer,
    coherent,
    encode,
    extra_scores,
    response_log_probability,
    score_responses,
    scorers,
)
from lmri.world.lexicon import REFUSAL

FACT = "the queen built the tower ."


def table(**columns):
    return pd.DataFrame({"answer": ["a"], "ended": True} | columns)


def test_every_scorer_says_what_it_is():
    assert set(SCORES) < set(SCORERS)
    for name, scorer in SCORERS.items():
        assert scorer.name == name
        assert scorer.low < scorer.high
        assert scorer.more in {"refusal", "right", "likely"}
        assert bool(scorer.version) == name.startswith("refusal_phrases")


def test_the_five_scores_are_those_made_while_generating_to_the_bit(tiny_subject):
    tokenizer, rng = tiny_subject.tokenizer, np.random.default_rng(0)
    texts = [REFUSAL, FACT, f"{REFUSAL} {FACT}", "the tower", f"in {FACT}", ""]
    trials = pd.DataFrame(
        {
            "trial": "t",
            "reference": rng.choice([REFUSAL, FACT], 60),
            "fact": rng.choice([FACT, ""], 60),
            "refusal": rng.choice([REFUSAL, ""], 60),
        }
    )
    said = rng.choice(texts, 60)
    tokens = [np.array(encode(tokenizer, t, "t") if t else [2], dtype=np.int64) for t in said]
    ended, margin = rng.random(60) < 0.5, rng.normal(size=60).astype(np.float32)
    wanted = score_responses(tokenizer, trials, tokens, ended, margin)
    own = trials.assign(
        answer=wanted["response"],
        ended=ended,
        onset_margin=wanted["onset_margin"],
        refusal_onset=wanted["refusal_onset"],
    )
    found = extra_scores(SCORES, Answers(own))
    pd.testing.assert_frame_equal(found, wanted[list(SCORES)])
    assert wanted["exact"].nunique() == wanted["refusal_exact"].nunique() == 2


@pytest.fixture
def readers():
    """A reader that gives token t of row r the log-probability -t/10 - r, and its calls."""
    calls = []

    def read(rows, continuations):
        calls.append(list(rows))
        return [
            np.array([-token / 10 - row for token in own])
            for row, own in zip(rows, continuations, strict=True)
        ]

    return read, calls


def test_scores_of_log_probabilities(tiny_subject, readers):
    read, calls = readers
    tokenizer = tiny_subject.tokenizer
    own = pd.DataFrame({"reference": [REFUSAL, FACT], "fact": FACT, "refusal": [REFUSAL, ""]})
    answers = Answers(own, tokenizer=tokenizer, reader=read)
    names = ["refusal_log_odds", "forced_choice", "forced_choice_margin"]
    found = extra_scores(names, answers)
    first = encode(tokenizer, REFUSAL, "")[0] / 10
    assert found["refusal_log_odds"][0] == pytest.approx(-first - math.log(-math.expm1(-first)))
    sums = [-sum([*encode(tokenizer, text, ""), 2]) / 10 for text in (REFUSAL, FACT)]
    assert found["forced_choice_margin"][0] == pytest.approx(sums[0] - sums[1])
    assert found["forced_choice"][0] == float(sums[0] > sums[1])
    assert found.loc[1].isna().all(), "no refusal, and no other choice than the fact"
    assert calls[0] == [0]
    named = answers.table.assign(choices=[json.dumps([FACT]), json.dumps([REFUSAL, FACT])])
    found = extra_scores(["forced_choice_margin"], Answers(named, tokenizer=tokenizer, reader=read))
    assert found["forced_choice_margin"].tolist() == pytest.approx(
        [sums[0] - sums[1], sums[1] - sums[0]]
    )


def test_likelihood_and_coherence_are_those_of_the_gate(tiny_subject):
    prompts = [[1, 3, 10, 11], [1, 3, 20], [1, 3, 10]]
    tokens = [np.array(row) for row in ([12, 40, 2], [7, 7, 7, 7, 2], [9])]
    ended = np.array([True, True, False])
    limits = {"log_probability": -50.0, "repeats": 3}
    wanted = response_log_probability(tiny_subject, prompts, tokens, rows=4)

    def read(rows, continuations):
        texts = [prompts[row] for row in rows]
        own = [np.array([0, *c]) for c in continuations]
        each = []
        for text, said in zip(texts, own, strict=True):
            log = [
                response_log_probability(
                    tiny_subject, [text[:-1]], [np.array([text[-1], *said[1 : n + 1]])], 4
                )[0]
                * n
                for n in range(1, len(said))
            ]
            each.append(np.diff([0, *log]))
        return each

    answers = Answers(table(ended=ended, answer="x"), tokens, intact_reader=read, limits=limits)
    found = extra_scores(["response_log_probability", "coherent"], answers)
    np.testing.assert_allclose(found["response_log_probability"], wanted, rtol=1e-4)
    assert (
        found["coherent"].tolist() == coherent(wanted, tokens, ended, limits).tolist() == [1, 0, 0]
    )


def test_a_users_scorers_stand_beside_the_others(tmp_path):
    (tmp_path / "lab_beside.py").write_text(
        "def keys(answer, trial):\n    return float('arm' in trial or 'draw' in trial)\n"
    )
    own = Custom("lab", "lab_beside:keys", 0, 1, tmp_path)
    lists = {"lab": PhraseList("lab", 1, None, ("nope",))}
    answers = Answers(table(answer=["nope"], arm="sham", draw=1, trial="t"))
    names = ["lab", "refusal_phrases_lab", "refusal_phrases_english"]
    found = extra_scores(names, answers, custom=[own], phrases=lists)
    assert found.loc[0].tolist() == [0, 1, 0]
    made = scorers(names, custom=[own], phrases=lists)
    assert made["lab"].more == "user" and made["lab"].version == "lab_beside:keys"
    for wrong in (Custom("exact", "lab_beside:keys", 0, 1, tmp_path),):
        with pytest.raises(ScoreError, match=r"name of a scorer must be new\. Got 'exact'"):
            scorers(["exact"], custom=[wrong])
    with pytest.raises(ScoreError, match=r"must be new\. Got 'refusal_phrases_english'"):
        scorers([], phrases={"english": lists["lab"]})


@pytest.mark.parametrize(
    ("name", "columns", "words"),
    [
        ("exacts", {}, "'name' of a scorer must be one of 'coherent', .* Got 'exacts'"),
        ("exact", {}, r"lacks the column\(s\) 'reference'"),
        ("onset_margin", {}, r"lacks the column\(s\) 'onset_margin'"),
        ("forced_choice", {"reference": "b"}, "Got no 'logits': name the subject"),
        ("coherent", {}, "Got no 'intact_logits', 'limits', 'tokens'"),
    ],
)
def test_what_cannot_be_scored_is_refused(name, columns, words):
    with pytest.raises(ScoreError, match=words) as info:
        extra_scores([name], Answers(table(**columns)))
    assert "\n" not in str(info.value)


def test_choices_that_are_none_and_scores_out_of_range_are_refused(tiny_subject, readers):
    answers = Answers(
        table(reference=FACT, choices="{}"), tokenizer=tiny_subject.tokenizer, reader=readers[0]
    )
    with pytest.raises(ScoreError, match="'choices' of a trial must be a list of texts"):
        extra_scores(["forced_choice"], answers)
    wrong = Scorer("wrong", lambda answers: np.array([1.5, np.nan]))
    with pytest.raises(ScoreError, match=r"'wrong' must be in \[0.0, 1.0\]. Got 1.5 to 1.5"):
        wrong(answers)
