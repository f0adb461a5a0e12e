"""Responses, greedy or sampled, each row under its own plan."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from lmri.anatomy import Subject, equal_length_batches, pad, similar_length_batches
from lmri.errors import SubjectError
from lmri.intervene.plans import INTACT, AnyPlan
from lmri.intervene.routing import intervened
from lmri.intervene.session import trial_keys
from lmri.intervene.thinking_budget import ThinkingBudget, most_new_tokens


@dataclass(frozen=True)
class Responses:
    """Responses to a list of prompts, in its order.

    Attributes
    ----------
    tokens : list of ndarray of int64
        Generated tokens of each row, the end token included when it was reached.
    ended : ndarray of shape (n_rows,), bool
        Whether the end token was reached before the limit.
    onset_margin : ndarray of shape (n_rows,), float32
        Logit of the watched token minus the largest other logit at the last prompt token.
    """

    tokens: list[np.ndarray]
    ended: np.ndarray
    onset_margin: np.ndarray


BeforePass = Callable[[torch.Tensor], None]
"""Gets the tokens of a forward pass."""

AfterBatch = Callable[[list[int], list[int]], None]
"""Gets the rows of a batch that were answered, and the lengths of their responses."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn instead of taking the most likely one.

    Attributes
    ----------
    temperature : float
        Logits are divided by it; above 0.
    top_p : float
        Only the most likely tokens that together reach this probability are drawn from.
    """

    temperature: float = 1.0
    top_p: float = 1.0


def common_random_numbers(
    names: Sequence[str], repeat: int, seed: int, max_new_tokens: int
) -> np.ndarray:
    """Draw the random numbers of sampled responses: a row's depend on its name alone.

    The same trial gets the same numbers in every batch and under every intervention, so that
    responses differ where the subject does and not by chance.

    Parameters
    ----------
    names : sequence of str
        Name of every row's trial.
    repeat : int
        Number of the repeat.
    seed : int
        Seed of the study.
    max_new_tokens : int
        Limit of a response.

    Returns
    -------
    ndarray of shape (n_rows, max_new_tokens), float64
        Uniform between 0 and 1.
    """
    keys = ([seed, repeat, zlib.crc32(name.encode())] for name in names)
    return np.stack([np.random.default_rng(key).random(max_new_tokens) for key in keys])


def end_tokens(subject: Subject) -> list[int]:
    """Tokens that end a response.

    Parameters
    ----------
    subject : Subject
        The subject.

    Returns
    -------
    list of int
        The tokenizer's end token first, then those of the model's generation settings: a chat model
        may end a turn otherwise than a text.

    Raises
    ------
    SubjectError
        If there is none.
    """
    settings = getattr(subject.model, "generation_config", None)
    also = getattr(settings, "eos_token_id", None)
    also = also if isinstance(also, list) else [also]
    ends = [id_ for id_ in (subject.tokenizer.eos_token_id, *also) if id_ is not None]
    if not ends:
        raise SubjectError(
            f"The tokenizer of subject '{subject.name}' must have an end token (eos_token), so "
            "that its responses end. It has none: set it in tokenizer_config.json."
        )
    return list(dict.fromkeys(ends))


@torch.inference_mode()
def respond(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    watched: Sequence[int],
    *,
    plans: Sequence[AnyPlan] = (INTACT,),
    plan_of_row: Sequence[int] | None = None,
    max_new_tokens: int,
    rows: int,
    padding: float = 0.0,
    batch_tokens: int | None = None,
    sampling: Sampling | None = None,
    draws: np.ndarray | None = None,
    before_pass: BeforePass | None = None,
    after_batch: AfterBatch | None = None,
) -> Responses:
    """Generate responses; rows of one batch may follow different plans.

    Parameters
    ----------
    subject : Subject
        The subject.
    prompts : sequence of sequence of int
        Token ids of every row's prompt.
    watched : sequence of int
        For every row the token whose logit margin is measured at the first step.
    plans : sequence of Plan or Combined
        Interventions; by default none.
    plan_of_row : sequence of int, optional
        Position of each row's plan; by default every row follows the first.
    max_new_tokens : int
        Limit of a response; of its answer, if the subject's thought has a limit of its own.
    rows : int
        Rows per forward pass, at most. Results depend on it only by rounding.
    padding : float
        Share of a batch that may be padding (before the prompts, masked); by default none.
    batch_tokens : int, optional
        Tokens of prompts and responses per batch, at most; by default any number.
    sampling : Sampling, optional
        By default the most likely token is taken.
    draws : ndarray of shape (n_rows, most_new_tokens), float64, optional
        Uniform random numbers, one per row and step; needed to sample.
    before_pass : callable, optional
        Called with the tokens (batch, n_new) of every forward pass before it is run.
    after_batch : callable, optional
        Called with the rows of every batch, and the lengths of their responses, when it is done.

    Returns
    -------
    Responses
        One per row.
    """
    chosen = torch.as_tensor(np.zeros(len(prompts)) if plan_of_row is None else plan_of_row).long()
    tokens: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(prompts)
    ended = np.zeros(len(prompts), dtype=bool)
    margins = np.zeros(len(prompts), dtype=np.float32)
    ends = end_tokens(subject)
    device, keys = subject.device, trial_keys(prompts)
    with intervened(subject, plans) as session:

        def advance(new: torch.Tensor) -> None:
            # Where the tokens of the pass are in their texts: after those of the passes before.
            session.first, session.reached = session.reached, session.reached + new.shape[1]
            if before_pass is not None:
                before_pass(new)

        most = most_new_tokens(subject, max_new_tokens)
        lengths = [len(prompt) + most for prompt in prompts]
        for batch in similar_length_batches(lengths, rows, padding, batch_tokens):
            session.rows, session.keys = chosen[batch].to(device), keys[batch].to(device)
            ids, real = pad([prompts[row] for row in batch], ends[0], left=True)
            session.reached = -(~real).sum(dim=1).to(device)
            session.prompts = torch.tensor([len(prompts[row]) for row in batch])
            watch = torch.tensor([watched[row] for row in batch])
            choose = _greedy if sampling is None else partial(_sampled, sampling, draws[batch])
            budget = ThinkingBudget.of(subject, [prompts[row] for row in batch], max_new_tokens)
            generated, margin = _generate(
                subject,
                ids.to(device),
                real.to(device),
                watch.to(device),
                most,
                choose,
                budget,
                advance,
            )
            margins[batch] = margin.float().cpu().numpy()
            allowed = [most] * len(batch) if budget is None else budget.lengths
            for row, line, limit in zip(batch, generated.cpu().numpy(), allowed, strict=True):
                tokens[row], ended[row] = _until_end(line[:limit], ends)
            if after_batch is not None:
                after_batch(batch, [len(tokens[row]) for row in batch])
    return Responses(tokens, ended, margins)


@torch.inference_mode()
def says_exactly(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    references: Sequence[Sequence[int]],
    *,
    plans: Sequence[AnyPlan],
    plan_of_row: Sequence[int],
    rows: int,
) -> np.ndarray:
    """Whether the greedy response is the reference, in one pass instead of one per token.

    Greedy decoding gives the reference if and only if, with the reference as context, the most
    likely token is the reference's next one everywhere.

    Parameters
    ----------
    subject : Subject
        The subject.
    prompts, references : sequence of sequence of int
        Token ids of every row; a reference ends with the end token.
    plans : sequence of Plan or Combined
        Interventions.
    plan_of_row : sequence of int
        Position of each row's plan.
    rows : int
        Rows per forward pass, at most.

    Returns
    -------
    ndarray of shape (n_rows,), bool
        True where the response would be the reference.
    """
    chosen = torch.as_tensor(plan_of_row).long()
    texts = [[*p, *r] for p, r in zip(prompts, references, strict=True)]
    starts = torch.tensor([len(prompt) for prompt in prompts])
    exact = np.zeros(len(texts), dtype=bool)
    device, keys = subject.device, trial_keys(prompts)
    with intervened(subject, plans) as session:
        for batch in equal_length_batches([len(text) for text in texts], rows):
            session.rows, session.keys = chosen[batch].to(device), keys[batch].to(device)
            session.prompts = starts[batch]
            ids = torch.tensor([texts[row] for row in batch], device=device)  # (batch, tokens)
            # Logits are needed from the last prompt token of the shortest prompt on.
            kept = ids.shape[1] - int(starts[batch].min()) + 1
            logits = subject.model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
            hits = logits[:, :-1].argmax(dim=-1) == ids[:, -kept + 1 :]
            positions = torch.arange(ids.shape[1] - kept + 1, ids.shape[1])
            outside = positions < starts[batch, None]
            exact[batch] = (hits.cpu() | outside).all(dim=1).numpy()
    return exact


Chooser = Callable[[int, torch.Tensor], torch.Tensor]
"""From the step and the logits (batch, vocabulary) to the next tokens (batch,)."""


def _generate(
    subject: Subject,
    ids: torch.Tensor,
    real: torch.Tensor,
    watch: torch.Tensor,
    max_new_tokens: int,
    choose: Chooser,
    budget: ThinkingBudget | None,
    before_pass: BeforePass,
) -> tuple[torch.Tensor, torch.Tensor]:
    ends = torch.tensor(end_tokens(subject), device=ids.device)
    cache, steps = None, []
    finished = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    # Rows of one length are run without a mask: the library's faster path, and the same bits
    # whatever else is in the batch.
    mask = None if real.all() else real.long()
    for step in range(max_new_tokens):
        if mask is not None and step:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        new = ids if step == 0 else steps[-1].unsqueeze(1)
        before_pass(new)
        output = subject.model(
            input_ids=new,
            past_key_values=cache,
            use_cache=max_new_tokens > 1,
            logits_to_keep=1,
            **_masked_positions(mask, new.shape[1]),
        )
        logits, cache = output.logits[:, -1], output.past_key_values  # (batch, vocabulary)
        if step == 0:
            margin = onset_margin(logits, watch)
        said = choose(step, logits)
        steps.append(said if budget is None else budget.step(said))
        finished |= torch.isin(steps[-1], ends)
        if budget is not None:
            finished |= torch.tensor(budget.done, device=finished.device)
        if finished.all():
            break
    return torch.stack(steps, dim=1), margin


def _masked_positions(mask: torch.Tensor | None, tokens: int) -> dict[str, torch.Tensor]:
    if mask is None:
        return {}
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    return {"attention_mask": mask, "position_ids": positions[:, -tokens:]}


def _greedy(step: int, logits: torch.Tensor) -> torch.Tensor:
    return logits.argmax(dim=-1)


def _sampled(
    sampling: Sampling, draws: np.ndarray, step: int, logits: torch.Tensor
) -> torch.Tensor:
    probabilities = torch.softmax(logits.double() / sampling.temperature, dim=-1)
    if sampling.top_p < 1.0:
        ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
        outside = ranked.cumsum(-1) - ranked >= sampling.top_p
        probabilities = probabilities.scatter(1, order, ranked.masked_fill(outside, 0.0))
    # In the order of the vocabulary, not of likelihood: a small change of the probabilities then
    # moves few of the draws to another token.
    reached = probabilities.cumsum(-1)
    wanted = torch.from_numpy(draws[:, step : step + 1]).to(logits.device) * reached[:, -1:]
    return torch.searchsorted(reached, wanted, right=True).squeeze(1).clamp(max=logits.shape[1] - 1)


def onset_margin(logits: torch.Tensor, watch: torch.Tensor) -> torch.Tensor:
    """Logit (batch,) of a watched token minus the largest other of (batch, vocabulary)."""
    own = logits.gather(1, watch.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, watch.unsqueeze(1), float("-inf"))
    return own - others.max(dim=-1).values


def _until_end(line: np.ndarray, ends: list[int]) -> tuple[np.ndarray, bool]:
    found = np.flatnonzero(np.isin(line, ends))
    return (line[: found[0] + 1], True) if len(found) else (line, False)
