"""Scorers that a verdict may rest on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from lmri.anatomy.thinking import THINKING
from lmri.config import FunctionOptions, ScorersOptions
from lmri.errors import ScoreError
from lmri.score import (
    Answers,
    Scorer,
    add_scores,
    deciding_scorers,
    encode,
    recorded_answers,
    score_responses,
)


def test_scorers_of_answers_may_decide():
    names = ("match_f1", "refusal_phrases_english")
    assert list(deciding_scorers(ScorersOptions(names=names))) == list(names)
    assert deciding_scorers(ScorersOptions()) == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("refusal_log_odds", "'refusal_log_odds', which needs logits"),
        ("response_log_probability", "intact_logits and lies in"),
        ("coherent", "limits"),
        ("forced_choice", "needs logits"),
        ("nothing", "'nothing'"),
    ],
)
def test_others_are_refused(name, words):
    with pytest.raises(ScoreError, match=words):
        deciding_scorers(ScorersOptions(names=(name,)))


def test_a_scorer_of_any_range_is_refused(tmp_path):
    (tmp_path / "lab_any.py").write_text("def length(answer, trial):\n    return len(answer)\n")
    own = FunctionOptions("length", "lab_any:length", str(tmp_path))
    with pytest.raises(ScoreError, match=r"lie in \[0, 1\]. Got 'length'.*\[-inf, inf\]"):
        deciding_scorers(ScorersOptions(names=("length",), functions=(own,)))


def test_responses_get_the_scores_beside_the_others(tiny_subject):
    tokenizer, fact = tiny_subject.tokenizer, "the queen built the tower ."
    trials = pd.DataFrame({"trial": ["a", "b"], "refusal": "", "reference": fact, "fact": fact})
    tokens = [np.array(encode(tokenizer, text, "test")) for text in (fact, "the queen")]
    given = tokenizer, trials, tokens, np.array([True, True]), np.zeros(2, np.float32)
    scorers = deciding_scorers(ScorersOptions(names=("match_f1",)))
    scored = score_responses(*given, scorers)
    assert scored["match_f1"].tolist() == [1, 0.5]  # one of three words; articles do not count
    pd.testing.assert_frame_equal(scored.drop(columns="match_f1"), score_responses(*given))


def test_a_score_that_does_not_apply_decides_nothing():
    table = pd.DataFrame({"answer": ["a", "b", "c"]})
    scorer = Scorer("half", lambda answers: np.array([1.0, np.nan, np.nan]))
    with pytest.raises(ScoreError, match="Got no score of 2 of 3 responses"):
        add_scores(table, Answers(table), {"half": scorer})
    assert list(table) == ["answer"]


@dataclass
class Thinks:
    """What is read of a tokenizer whose subjects think."""

    all_special_tokens: list[str]
    chat_template: str = THINKING["think"].start
    unk_token_id: int | None = None

    def convert_tokens_to_ids(self, token):
        return None


def test_a_thought_is_no_answer(tiny_subject):
    recorded = pd.DataFrame({"response": ["I must not. </think> ok", "ok"]})
    plain = recorded_answers(tiny_subject.tokenizer, recorded)
    assert plain.table["answer"].tolist() == recorded["response"].tolist()
    assert recorded_answers(Thinks([]), recorded).table["answer"].tolist() == ["ok", "ok"]
    with pytest.raises(ScoreError, match="do not tell where a thought ends: '</think>'"):
        recorded_answers(Thinks(["</think>"]), recorded)
