"""Passing layers over at single tokens of texts that are given: what is void, and any choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch

from lmri.anatomy import Subject, blocks, encode, equal_length_batches
from lmri.experiment.measuring import prompts_of
from lmri.experiment.outcome import Ground
from lmri.intervene import Plan, intervened
from lmri.intervene.points import changed_output


@dataclass(frozen=True)
class Texts:
    """Prompts with the right answers to them.

    Attributes
    ----------
    ids : list of list of int
        Token ids of prompt, answer and end. The end is asked for and never read: a pass has all
        tokens but the last.
    prompts : ndarray of shape (n_texts,), int64
        How many of them are the prompt.
    """

    ids: list[list[int]]
    prompts: np.ndarray

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.ids)

    def nothing(self, layers: int) -> list[np.ndarray]:
        """Layers that are passed over nowhere, (layers, n_read) for every text."""
        return [np.zeros((layers, len(ids) - 1), dtype=bool) for ids in self.ids]


@dataclass(frozen=True)
class Said:
    """How a subject would have gone on.

    Attributes
    ----------
    exact : ndarray of shape (n_texts,), float64
        1 where every token of the answer was the most likely one.
    log_probability : ndarray of shape (n_texts,), float64
        Of the answer, in nats a token.
    """

    exact: np.ndarray
    log_probability: np.ndarray


def texts_of(ground: Ground, trials: pd.DataFrame) -> Texts:
    """Prompts of trials, each followed by its reference and the token that ends a response.

    Parameters
    ----------
    ground : Ground
        With the subject.
    trials : DataFrame
        The trials.

    Returns
    -------
    Texts
        One for each trial.
    """
    tokenizer, prompts = ground.subject.tokenizer, prompts_of(ground, trials)
    answers = [
        [*encode(tokenizer, row.reference, f"reference of {row.trial!r}"), tokenizer.eos_token_id]
        for row in trials.itertuples()
    ]
    ids = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    return Texts(ids, np.array([len(prompt) for prompt in prompts]))


@torch.inference_mode()
def void_tokens(subject: Subject, texts: Texts, plan: Plan, rows: int) -> list[np.ndarray]:
    """Find the tokens at which layers are void, while these are passed over.

    Parameters
    ----------
    subject : Subject
        The subject.
    texts : Texts
        The texts.
    plan : Plan
        Of mode ``void``, see :mod:`lmri.intervene.void`.
    rows : int
        Texts per forward pass, at most.

    Returns
    -------
    list of ndarray of shape (layers, n_read), bool
        For every text, where a layer passed on what it was given. One that adds nothing at all
        does so whatever the threshold.
    """
    found = [np.empty(0)] * len(texts)
    seen: dict[int, torch.Tensor] = {}

    def compare(layer: int, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        seen[layer] = (before == after).all(-1)  # (batch, tokens)
        return after

    with ExitStack() as stack:
        # The hooks of the plan come first: these are set up before them, and each goes before all.
        for layer, block in enumerate(blocks(subject.model)):
            stack.enter_context(changed_output(block, partial(compare, layer)))
        session = stack.enter_context(intervened(subject, [plan]))
        for batch in equal_length_batches([len(text) for text in texts.ids], rows):
            session.rows = torch.zeros(len(batch), dtype=torch.int64)
            session.prompts = torch.as_tensor(texts.prompts[batch])
            ids = torch.tensor([texts.ids[row][:-1] for row in batch], device=subject.device)
            subject.model(input_ids=ids, use_cache=False)
            masks = torch.stack([seen[layer] for layer in sorted(seen)], dim=1).cpu().numpy()
            for row, mask in zip(batch, masks, strict=True):
                found[row] = mask
    return found


@contextmanager
def passed_over(subject: Subject, chosen: torch.Tensor) -> Iterator[None]:
    """Pass layers over: at the chosen tokens a layer passes on what it was given.

    Keys and values that its attention keeps for later tokens are made as ever, as for void layers.

    Parameters
    ----------
    subject : Subject
        The subject.
    chosen : Tensor of shape (batch, layers, tokens), bool
        Where, in the batch that is run.
    """

    def choose(layer: int, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return torch.where(chosen[:, layer].to(after.device).unsqueeze(-1), before, after)

    with ExitStack() as stack:
        for layer, block in enumerate(blocks(subject.model)):
            stack.enter_context(changed_output(block, partial(choose, layer)))
        yield


@torch.inference_mode()
def said_without(subject: Subject, texts: Texts, chosen: Sequence[np.ndarray], rows: int) -> Said:
    """Read answers while layers are passed over at chosen tokens.

    Parameters
    ----------
    subject : Subject
        The subject.
    texts : Texts
        The texts; the answer is teacher-forced.
    chosen : sequence of ndarray of shape (layers, n_read), bool
        For every text, where.
    rows : int
        Texts per forward pass, at most.

    Returns
    -------
    Said
        How it would have gone on.
    """
    exact, likely = np.empty(len(texts)), np.empty(len(texts))
    for batch in equal_length_batches([len(text) for text in texts.ids], rows):
        ids = torch.tensor([texts.ids[row] for row in batch], device=subject.device)
        kept = ids.shape[1] - int(texts.prompts[batch].min())
        with passed_over(subject, torch.from_numpy(np.stack([chosen[row] for row in batch]))):
            out = subject.model(input_ids=ids[:, :-1], use_cache=False, logits_to_keep=kept)
        log, asked = torch.log_softmax(out.logits.float(), dim=-1), ids[:, -kept:]
        said = log.gather(2, asked.unsqueeze(2)).squeeze(2).double().cpu().numpy()
        right = (log.argmax(-1) == asked).cpu().numpy()
        for place, row in enumerate(batch):
            answer = len(texts.ids[row]) - int(texts.prompts[row])
            exact[row] = right[place, -answer:].all()
            likely[row] = said[place, -answer:].mean()
    return Said(exact, likely)
