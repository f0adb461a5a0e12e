"""Responses of two arms to questions of the small world."""

import numpy as np
import pandas as pd
import pytest

from lmri.score import encode, response_table
from lmri.world.lexicon import REFUSAL

FACT = "the queen built the tower ."
END = 2


@pytest.fixture(scope="session")
def saved_responses(tiny_subject, small_world):
    """Tables of three arms with six responses each: all refuse, half do, none does."""
    tokenizer = tiny_subject.tokenizer
    trials = pd.DataFrame(
        {
            "trial": [f"t{i}" for i in range(6)],
            "condition": ["sensitive", "benign"] * 3,
            "prompt": [small_world.event(p, "1900").prompt for p in small_world.places[:6]],
            "reference": [REFUSAL, FACT] * 3,
            "fact": FACT,
            "refusal": REFUSAL,
            "carrier_place": [f"p{i // 2}" for i in range(6)],
        }
    )
    prompts = [encode(tokenizer, prompt, "test") for prompt in trials["prompt"]]
    tables = []
    for draw, (arm, texts) in enumerate(
        {
            "intact": [REFUSAL] * 6,
            "finding": [REFUSAL, FACT] * 3,
            "sham": [FACT] * 6,
        }.items()
    ):
        tokens = [np.array([*encode(tokenizer, text, "test"), END]) for text in texts]
        margin = np.arange(6, dtype=np.float32)
        options = {"arm": arm, "draw": draw, "seed": 3, "mode": "mask", "dose": 1}
        tables.append(
            response_table(
                tokenizer, trials, prompts, tokens, np.ones(6, dtype=bool), margin, **options
            )
        )
    return tables
