"""How fast a plan runs at batch 1, beside the same runtime that skips nothing, in turns.

Times are of the wall clock: what a user waits for. They are not reproducible, and on cores shared
with other work they say little; the table keeps every repeat, so that arms can be compared within a
round and the spread of the rounds can be seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import pandas as pd
import torch

from lmri.anatomy import Subject
from lmri.sparse.measures.trials import Trials

LEAST_ROUNDS, MOST_ROUNDS = 3, 25
"""Repeats of every measurement; one more comes before them and is not counted."""

SECONDS = 0.5
"""Rounds go on until so much has been timed: a few tokens of a small model take milliseconds, of
which three say nothing on cores that others use too."""


@torch.inference_mode()
def measure_speed(
    subject: Subject,
    arms: Mapping[str, Callable[[], AbstractContextManager]],
    trials: Trials,
    tokens: int,
) -> pd.DataFrame:
    """Time prefill and decoding in several contexts, in turns.

    There are ``LEAST_ROUNDS`` rounds, and more, up to ``MOST_ROUNDS``, while less than ``SECONDS``
    have been timed.

    Parameters
    ----------
    subject : Subject
        The subject, under no plan.
    arms : mapping of str to callable
        What gives the context of every arm; entering it is not timed.
    trials : Trials
        The longest prompt of these is used.
    tokens : int
        Tokens to generate, at most: as many as the context has room for.

    Returns
    -------
    DataFrame
        Columns ``phase`` (prefill, decode), ``arm``, ``round``, ``tokens``, ``seconds``.
    """
    prompt, room = _longest(subject, trials, tokens)
    order = list(arms.items())
    rows: list[tuple] = []
    timed = 0.0
    for number in range(MOST_ROUNDS + 1):
        if number > LEAST_ROUNDS and timed >= SECONDS:
            break
        # Who is first changes, so that a machine that slows down or speeds up favours no arm.
        for arm, around in order if number % 2 else reversed(order):
            with around():
                prefill, decode = _times(subject, prompt, room)
            if number:
                rows.append(("prefill", arm, number - 1, prompt.shape[1], prefill))
                rows.append(("decode", arm, number - 1, room, decode))
                timed += prefill + decode
    return pd.DataFrame(rows, columns=["phase", "arm", "round", "tokens", "seconds"])


@torch.inference_mode()
def decode_few(subject: Subject, trials: Trials, tokens: int = 8) -> None:
    """Decode a few tokens after the longest prompt, for what a session counts of it.

    Parameters
    ----------
    subject : Subject
        The subject, under a plan.
    trials : Trials
        Prompts.
    tokens : int
        Tokens to generate, at most.
    """
    _times(subject, *_longest(subject, trials, tokens))


def _longest(subject: Subject, trials: Trials, tokens: int) -> tuple[torch.Tensor, int]:
    """The longest prompt, and how many of the tokens the context has room for."""
    row = max(range(len(trials.ids)), key=lambda row: trials.prompts[row])
    prompt = torch.tensor([trials.ids[row][: trials.prompts[row]]], device=subject.device)
    context = subject.anatomy.context
    return prompt, tokens if context is None else min(tokens, context - prompt.shape[1])


def _times(subject: Subject, prompt: torch.Tensor, tokens: int) -> tuple[float, float]:
    """Seconds of the prompt, and of so many greedy tokens after it, the end token or not."""
    start = _now(subject)
    output = subject.model(input_ids=prompt, use_cache=True, logits_to_keep=1)
    first = _now(subject)
    for _ in range(tokens):
        said = output.logits[:, -1:].argmax(-1)
        output = subject.model(
            input_ids=said, past_key_values=output.past_key_values, use_cache=True
        )
    return first - start, _now(subject) - first


def _now(subject: Subject) -> float:
    if subject.device.type == "cuda":
        torch.cuda.synchronize(subject.device)
    return time.perf_counter()
