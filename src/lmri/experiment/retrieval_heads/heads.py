"""Heads of a subject: other sets of as many of them, and their attention to a needle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch
import xarray as xr

from lmri.anatomy import SPANS, encode, equal_length_batches, render_trials
from lmri.experiment.measuring import random_of
from lmri.experiment.outcome import Ground
from lmri.intervene import Unit, recorded_patterns

Heads = tuple[Unit, ...]
"""As (layer, head)."""


def control_sets(ground: Ground, own: Heads, heads: Sequence[Unit], most: int) -> list[Heads]:
    """Other sets of as many heads: all of them, or as many as asked for, drawn at random.

    They may share heads with the set itself: without any there are too few in a small subject.

    Parameters
    ----------
    ground : Ground
        With the seed.
    own : tuple of (int, int)
        The heads that are tested.
    heads : sequence of (int, int)
        All heads of the subject.
    most : int
        Sets, at most.

    Returns
    -------
    list of tuple of (int, int)
        Distinct sets, none of them the heads that are tested.
    """
    if math.comb(len(heads), len(own)) - 1 <= most:
        return [chosen for chosen in combinations(heads, len(own)) if set(chosen) != set(own)]
    rng = random_of(ground, "retrieval_heads", "sets", len(own))
    found: dict[frozenset[Unit], Heads] = {}
    while len(found) < most:
        picks = sorted(rng.choice(len(heads), len(own), replace=False))
        chosen = tuple(heads[i] for i in picks)
        if set(chosen) != set(own):
            found.setdefault(frozenset(chosen), chosen)
    return list(found.values())


@torch.inference_mode()
def needle_attention(ground: Ground, trials: pd.DataFrame) -> xr.Dataset:
    """Attention to the needle while the subject is made to say it.

    Parameters
    ----------
    ground : Ground
        With the subject.
    trials : DataFrame
        Trials whose content is the needle and whose reference says it.

    Returns
    -------
    Dataset
        ``on_needle`` (trial, layer, head), the mean weight on all tokens of the needle over the
        tokens that say it; ``on_word``, that on the very token that is said next.
    """
    subject = ground.subject
    prompts = render_trials(subject.tokenizer, trials)
    said = [
        encode(subject.tokenizer, text, f"reference of {name!r}")
        for name, text in zip(trials["trial"], trials["reference"], strict=True)
    ]
    units = [(i, h) for i in range(subject.anatomy.layers) for h in range(subject.anatomy.heads)]
    shape = len(trials), subject.anatomy.layers, subject.anatomy.heads
    on_needle, on_word = np.zeros(shape), np.zeros(shape)
    texts = [[*prompt.ids, *words] for prompt, words in zip(prompts, said, strict=True)]
    with recorded_patterns(subject, units) as patterns:
        for batch in equal_length_batches([len(text) for text in texts], ground.rows):
            ids = torch.tensor([texts[row] for row in batch], device=subject.device)
            subject.model(input_ids=ids, use_cache=False)
            for place, row in enumerate(batch):
                first = len(prompts[row].ids) - 1  # the token that says the first of the answer
                queries = slice(first, first + len(said[row]))
                content = torch.from_numpy(prompts[row].spans == SPANS.index("content"))
                same = torch.tensor(said[row])[:, None] == torch.tensor(prompts[row].ids)
                for layer, head in units:
                    weights = patterns[layer, head][place, queries, : first + 1].cpu().double()
                    on_needle[row, layer, head] = weights[:, content].sum(1).mean()
                    on_word[row, layer, head] = (weights * (same & content)).sum(1).mean()
    dims = ("trial", "layer", "head")
    return xr.Dataset({"on_needle": (dims, on_needle), "on_word": (dims, on_word)})
