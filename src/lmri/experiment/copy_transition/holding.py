"""Heads held at patterns while a base is trained, and how well it copies with them held."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from lmri.anatomy import Subject, encode, equal_length_batches, render_trials
from lmri.config import CopyTransitionOptions
from lmri.experiment.measuring import trials_of
from lmri.experiment.outcome import Ground
from lmri.intervene import (
    clamped_patterns,
    induction_pattern,
    previous_token_pattern,
    recorded_patterns,
)

ARMS = {
    "free": "no head is held",
    "induction": "one head of the second layer looks where induction does",
    "previous": "one head of the first layer looks at the token before",
    "itself": "one head of the second layer looks at the token itself",
    "even": "all heads of the second layer look at all tokens alike",
}
"""How bases are trained."""

HEAD = 0
"""The head that is held: before training all heads of a layer are alike."""


@dataclass(frozen=True)
class Texts:
    """Requests to repeat with their answers.

    Attributes
    ----------
    ids : list of list of int
        Prompt and answer.
    starts : list of int
        Where the answer begins.
    """

    ids: list[list[int]]
    starts: list[int]


def copied_texts(ground: Ground, options: CopyTransitionOptions) -> Texts:
    """Texts that copying is measured on: the evaluation trials of the task.

    Parameters
    ----------
    ground : Ground
        With the stimuli and the tokenizer.
    options : CopyTransitionOptions
        The task.

    Returns
    -------
    Texts
        The texts.
    """
    trials = trials_of(ground, options.task, "evaluation", most=options.trials)
    tokenizer, ids, starts = ground.subject.tokenizer, [], []
    prompts = render_trials(tokenizer, trials)
    for prompt, row in zip(prompts, trials.itertuples(), strict=True):
        starts.append(len(prompt.ids))
        ids.append([*prompt.ids, *encode(tokenizer, row.reference, f"reference of {row.trial!r}")])
    return Texts(ids, starts)


def held_heads(
    subject: Subject, arm: str, ids: torch.Tensor, positions: torch.Tensor
) -> AbstractContextManager:
    """Hold the heads of an arm on a batch of packed documents.

    Parameters
    ----------
    subject : Subject
        The subject.
    arm : str
        One of :data:`ARMS`.
    ids, positions : Tensor of shape (rows, tokens), int64
        Tokens, and their places in their documents: nothing is looked at in another one.

    Returns
    -------
    context manager
        In which the heads look where they are told.
    """
    if arm == "free":
        return nullcontext()
    pattern = torch.stack(
        [_by_document(arm, *row) for row in zip(ids.tolist(), positions.tolist(), strict=True)]
    )
    layer = 0 if arm == "previous" else 1
    heads = range(subject.anatomy.heads) if arm == "even" else [HEAD]
    return clamped_patterns(subject, {(layer, head): pattern for head in heads})


def _by_document(arm: str, ids: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
    """Pattern of a row, (tokens, tokens): one block for each of its documents."""
    starts = [place for place, position in enumerate(positions) if position == 0]
    edges = zip(starts, [*starts[1:], len(ids)], strict=True)
    return torch.block_diag(*(_pattern(arm, ids[first:last]) for first, last in edges))


def _pattern(arm: str, document: Sequence[int]) -> torch.Tensor:
    size = len(document)
    if arm == "induction":
        return induction_pattern([document])[0]
    if arm == "even":
        return torch.ones(size, size).tril() / torch.arange(1.0, size + 1)[:, None]
    return previous_token_pattern(size, strength=1.0 if arm == "previous" else 0.0)[0]


@torch.inference_mode()
def look(subject: Subject, arm: str, asked: Texts, rows: int) -> dict[str, float]:
    """Measure how well a subject copies, and where its heads look while it does.

    Parameters
    ----------
    subject : Subject
        The subject, as far as it is trained.
    arm : str
        One of :data:`ARMS`; its heads are held.
    asked : Texts
        What is copied.
    rows : int
        Texts of a forward pass, at most.

    Returns
    -------
    dict
        ``copied``: share of the words of the answers, but their first, that are the likeliest after
        those before (induction says them; the first follows from the request alone);
        ``induction`` and ``previous``: attention in the answers to the token after the last that
        was the same, and to the token before, of the best head that is not held.
    """
    hits, asked_of = 0, 0
    anatomy = subject.anatomy
    units = [(layer, head) for layer in range(anatomy.layers) for head in range(anatomy.heads)]
    sums = {name: dict.fromkeys(units, 0.0) for name in ("induction", "previous")}
    for batch in equal_length_batches([len(text) for text in asked.ids], rows):
        ids = torch.tensor([asked.ids[row] for row in batch])
        places = torch.arange(ids.shape[1]).expand(ids.shape)
        starts = torch.tensor([asked.starts[row] for row in batch])[:, None]
        queries = (places >= starts) & (places < ids.shape[1] - 1)  # of all words but the last
        with held_heads(subject, arm, ids, places), recorded_patterns(subject, units) as looks:
            logits = subject.model(input_ids=ids, use_cache=False).logits
        right = logits[:, :-1].argmax(-1) == ids[:, 1:]
        hits += int((right & queries[:, :-1]).sum())
        asked_of += int(queries.sum())
        wanted = {
            "induction": induction_pattern(ids.tolist()),
            "previous": previous_token_pattern(ids.shape[1]),
        }
        for name, pattern in wanted.items():
            for unit in units:
                sums[name][unit] += float(((looks[unit] * pattern).sum(-1) * queries).sum())
    free = [unit for unit in units if unit not in _held(arm, anatomy.heads)]
    best = {name: max(own[unit] for unit in free) / asked_of for name, own in sums.items()}
    return {"copied": hits / asked_of, **best}


def _held(arm: str, heads: int) -> set[tuple[int, int]]:
    if arm == "free":
        return set()
    layer = 0 if arm == "previous" else 1
    return {(layer, head) for head in (range(heads) if arm == "even" else [HEAD])}
