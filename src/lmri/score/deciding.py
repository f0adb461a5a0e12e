"""Scores that a verdict may rest on, beside those that every response gets."""

from __future__ import annotations

import pandas as pd
from transformers import PreTrainedTokenizerBase

from lmri.anatomy import thinking_delimiters
from lmri.config import ScorersOptions
from lmri.errors import ScoreError
from lmri.score.registry import study_scorers
from lmri.score.scorer import Answers, Scorer

READ = {"answer", "measured"}
"""What such a scorer may need: the same of a recorded response and of one that is made again."""


def deciding_scorers(options: ScorersOptions) -> dict[str, Scorer]:
    """Find the scorers that the rule of a study or its claims name.

    Parameters
    ----------
    options : ScorersOptions
        The scorers of the slice: only those that something rests on.

    Returns
    -------
    dict of str to Scorer
        The scorers.

    Raises
    ------
    ScoreError
        If one is unknown, reads more than text, or may leave [0, 1], in which margins are told.
    """
    if not options.names:
        return {}
    found = study_scorers(options)
    for name, own in found.items():
        more = set(own.needs) - READ
        if more or own.low < 0 or own.high > 1:
            raise ScoreError(
                f"'evidence.score' and scores of claims must read answers alone and lie in [0, 1]. "
                f"Got '{name}', which needs {', '.join(own.needs)} and lies in "
                f"[{own.low:g}, {own.high:g}]: `lmri score` can score saved responses by it."
            )
    return found


def recorded_answers(tokenizer: PreTrainedTokenizerBase, recorded: pd.DataFrame) -> Answers:
    """Take recorded responses as answers.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    recorded : DataFrame
        Recorded trials, with ``response``.

    Returns
    -------
    Answers
        What was said after any thought.

    Raises
    ------
    ScoreError
        If the text does not tell where a thought ends.
    """
    thinking, said = thinking_delimiters(tokenizer), recorded["response"]
    if thinking is not None:
        if thinking.end in tokenizer.all_special_tokens:
            raise ScoreError(
                f"Recorded responses do not tell where a thought ends: '{thinking.end}' is a "
                "special token, which text is written without. Use another 'evidence.score'."
            )
        said = said.str.rpartition(thinking.end)[2].str.strip()
    return Answers(recorded.assign(answer=said))
