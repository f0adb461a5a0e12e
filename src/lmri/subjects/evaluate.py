"""What a subject says: accuracy per condition, held-out questions apart."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import product

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lmri.world import EOS, VOCABULARIES, Item, World

__all__ = ["condition_items", "evaluate"]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    *,
    limit: int | None = 300,
    copies: int = 200,
    seed: int = 0,
    rows: int = 256,
    conditions: Collection[str] | None = None,
) -> dict[str, dict[str, float]]:
    """Accuracy per condition, by one forward pass over prompt and answer.

    All response tokens, ``<eos>`` included, are right under teacher forcing exactly when greedy
    generation gives the whole answer, so no generation is needed.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The subject; run as it is, without gradients.
    tokenizer : transformers.PreTrainedTokenizerFast
        From `lmri.world.build_tokenizer`.
    world : World
        What the subject was trained on.
    limit : int, optional
        Most questions asked per condition, drawn by `seed`; None asks all.
    copies : int
        Number of sequences to copy.
    seed : int
        Seed of the draws.
    rows : int
        Questions per forward pass.
    conditions : collection of str, optional
        Which conditions to ask; None asks all.

    Returns
    -------
    dict of str to dict
        Condition to ``n`` (questions), ``exact`` (share answered as a fully trained subject
        should), ``fact`` (share answered with the true fact), ``onset`` (share whose first token
        is the refusal's first token), ``onset_margin_mean`` (mean over questions of the logit of
        the refusal's first token minus the largest other logit at the last prompt token).
        Conditions are named as in `condition_items`.
    """
    results = {}
    for name, items in condition_items(world, copies=copies, seed=seed).items():
        if conditions is not None and name not in conditions:
            continue
        if limit is not None and len(items) > limit:
            picks = np.random.default_rng([seed, len(items)]).permutation(len(items))[:limit]
            items = [items[pick] for pick in sorted(picks)]
        results[name] = _score(model, tokenizer, world, items, rows)
    return results


def condition_items(world: World, *, copies: int = 200, seed: int = 0) -> dict[str, list[Item]]:
    """Questions by condition.

    Parameters
    ----------
    world : World
        What to ask about.
    copies : int
        Number of sequences to copy.
    seed : int
        Seed of the sequences.

    Returns
    -------
    dict of str to list of Item
        Event questions under their condition, others under their task; then ``_second`` for the
        second vocabulary and ``_held_out`` for questions never asked in training:
        ``sensitive``, ``sensitive_held_out``, ``sensitive_second``, ``relations``, ...
    """
    events = [
        world.event(place, year, vocabulary)
        for vocabulary, place, year in product(VOCABULARIES, world.places, world.years)
    ]
    relations = [item for vocabulary in VOCABULARIES for item in world.relations(vocabulary)]
    copying = world.copying(copies, np.random.default_rng([seed, 7]))
    groups: dict[str, list[Item]] = {}
    for item in [*events, *relations, *world.arithmetic(), *copying]:
        name = item.condition if item.task == "events" else item.task
        name += "_second" * (item.vocabulary == "second") + "_held_out" * item.held_out
        groups.setdefault(name, []).append(item)
    return groups


@torch.no_grad()
def _score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    items: list[Item],
    rows: int,
) -> dict[str, float]:
    """Scores of one condition; see `evaluate`."""
    exact, facts, onsets, margins = [], [], [], []
    for chunk in _chunks(items, rows):
        first_refused = [
            tokenizer.encode(world.refusal(item.vocabulary).split()[0])[0] for item in chunk
        ]
        right, last = _right(model, tokenizer, [(item.prompt, item.answer) for item in chunk])
        exact += right
        told, _ = _right(model, tokenizer, [(item.prompt, item.fact) for item in chunk])
        facts += told
        target = torch.tensor(first_refused)[:, None]
        wanted = last.gather(1, target)[:, 0]
        others = last.scatter(1, target, -torch.inf).max(1).values
        margins += (wanted - others).tolist()
        onsets += (wanted > others).tolist()
    return {
        "n": len(items),
        "exact": float(np.mean(exact)),
        "fact": float(np.mean(facts)),
        "onset": float(np.mean(onsets)),
        "onset_margin_mean": float(np.mean(margins)),
    }


def _right(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: list[tuple[str, str]]
) -> tuple[list[bool], torch.Tensor]:
    """Whether each whole response is the arg max, and the float32 logits after each prompt."""
    prompts = [tokenizer.encode(prompt) for prompt, _ in texts]
    responses = [tokenizer.encode(f"{response} {EOS}") for _, response in texts]
    longest = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    ids = torch.full((len(texts), longest), tokenizer.pad_token_id)
    answered = torch.zeros(len(texts), longest, dtype=torch.bool)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        stop = len(prompt) + len(response)
        ids[row, :stop] = torch.tensor(prompt + response)
        answered[row, len(prompt) : stop] = True
    # Padding on the right is never seen under a causal mask, so no attention mask is needed.
    logits = model(input_ids=ids, use_cache=False).logits.float()  # (n, longest, vocabulary)
    hit = logits[:, :-1].argmax(-1) == ids[:, 1:]
    right = (hit | ~answered[:, 1:]).all(1)
    last = logits[torch.arange(len(texts)), torch.tensor([len(p) - 1 for p in prompts])]
    return right.tolist(), last


def _chunks(items: list[Item], rows: int) -> Iterable[list[Item]]:
    for start in range(0, len(items), rows):
        yield items[start : start + rows]
