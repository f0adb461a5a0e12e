"""Prompts of two lengths for the tiny subject."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def prompts(small_world, tiny_subject) -> list[list[int]]:
    """Ten questions about events (10 tokens each) and five sequences to repeat (8 tokens each)."""
    events = [small_world.event(p, y) for p in small_world.places[:5] for y in ("1900", "1901")]
    sequences = small_world.copying(40, np.random.default_rng(0))
    items = [*events, *[item for item in sequences if len(item.fact.split()) == 3][:5]]
    ids = [tiny_subject.tokenizer(i.prompt, add_special_tokens=False)["input_ids"] for i in items]
    assert [len(row) for row in ids] == [10] * 10 + [8] * 5
    return ids
