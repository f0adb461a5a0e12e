"""Prompts: the tokens of a trial before the response, and the span of each of them.

Every stage that runs a subject renders its trials here, so that what is recorded is what is later
put to the test: the same text, the same special tokens, the same limit of the context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase

from lmri.anatomy.architectures import ARCHITECTURES
from lmri.anatomy.loading import load_tokenizer, resolve_pointer
from lmri.anatomy.templates import RenderedText, check_template, read_template, render_text
from lmri.anatomy.thinking import longest_response, thinking_blocks, thinking_delimiters
from lmri.config import TemplateOptions
from lmri.errors import StimuliError, SubjectError

SPANS = ("system", "content", "response", "think")
"""One span per token; what is neither content, nor thought, nor generated is ``system``."""

POST_INSTRUCTION = "post_instruction_"
"""Begins the names of the single tokens that follow the last user message, from 0."""

MOST_POST_INSTRUCTION = 8
"""Post-instruction positions that are told apart, at most."""

CHECKED_AT_ONCE = 512
"""Trials whose prompts are in memory together while a table is checked."""


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt.

    Attributes
    ----------
    text : str
        The text.
    ids : list of int
        Its tokens, special tokens included, as the subject reads them.
    offsets : ndarray of shape (n_tokens, 2), int64
        Characters of the text that each token stands for.
    spans : ndarray of shape (n_tokens,), uint8
        Positions in :data:`SPANS`.
    instruction_last : int
        Position of the last token of the last user message; in a plain prompt of its content.
    n_prefill : int
        Tokens at the end that are a prefill.
    thinking : bool
        Whether the prompt ends inside a block of thinking, which the response continues.
    dropped : int
        Tokens of the content that were dropped because the prompt was too long.
    """

    text: str
    ids: list[int]
    offsets: np.ndarray
    spans: np.ndarray
    instruction_last: int
    n_prefill: int = 0
    thinking: bool = False
    dropped: int = 0


def render_trials(
    tokenizer: PreTrainedTokenizerBase, trials: pd.DataFrame, room: int | None = None
) -> list[Prompt]:
    """Render every trial of a table.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    trials : DataFrame
        Stimuli: ``trial`` and ``prompt``; ``content`` (by default the last user message),
        ``messages`` and ``template`` (by default a plain prompt).
    room : int, optional
        Tokens that a prompt may have, see :func:`prompt_room`; by default any number.

    Returns
    -------
    list of Prompt
        One per row; rows that are alike share theirs.

    Raises
    ------
    StimuliError
        Naming the trial: a prompt that cannot be rendered or read, has no content, or is too
        long where the template of its task says ``too_long: error``.
    """
    columns = [c for c in ("prompt", "content", "messages", "template") if c in trials.columns]
    known: dict[tuple, Prompt] = {}
    prompts = []
    for name, *values in trials[["trial", *columns]].itertuples(index=False, name=None):
        key = tuple(values)
        if key not in known:
            row = {"trial": name, **dict(zip(columns, values, strict=True))}
            known[key] = _fit(_render(tokenizer, row), row, room)
        prompts.append(known[key])
    return prompts


def prompt_room(config: PreTrainedConfig, max_new_tokens: int) -> int | None:
    """Tokens that a prompt may have, so that the response still fits into the context.

    Parameters
    ----------
    config : transformers.PreTrainedConfig
        Configuration of the model.
    max_new_tokens : int
        Limit of the response.

    Returns
    -------
    int or None
        Positions of the model less the response, which an encoder does not give; None for a model
        without a limit.
    """
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    row = ARCHITECTURES.get(config.model_type)
    answers = row is None or not row.encoder
    return None if positions is None else positions - max_new_tokens * answers


def check_prompts(
    path: Path,
    subject: str,
    tables: Mapping[str, pd.DataFrame],
    max_new_tokens: int,
    max_think_tokens: int | None = None,
) -> None:
    """Raise unless a subject can read every trial; loads its tokenizer, not its weights.

    Parameters
    ----------
    path : Path
        Folder of the subject.
    subject : str
        Its name.
    tables : mapping of str to DataFrame
        Stimuli by task.
    max_new_tokens : int
        Limit of the responses.
    max_think_tokens : int, optional
        Limit of thought, see :func:`lmri.anatomy.longest_response`.

    Raises
    ------
    StimuliError
        Naming the subject and the task or trial: no chat template where one is needed, a word
        that the tokenizer or the model does not know, a prompt that is too long.
    SubjectError
        If the tokenizer or the configuration cannot be loaded.
    """
    tokenizer = load_tokenizer(path)
    longest = longest_response(tokenizer, max_new_tokens, max_think_tokens)
    config = _configuration(resolve_pointer(path))
    room = prompt_room(config, longest)
    for task, trials in tables.items():
        for text in trials["template"].unique() if "template" in trials.columns else ():
            check_template(tokenizer, read_template(text), f"subject '{subject}', task '{task}'")
        try:
            for start in range(0, len(trials), CHECKED_AT_ONCE):
                some = trials.iloc[start : start + CHECKED_AT_ONCE]
                prompts = render_trials(tokenizer, some, room)
                _check_embedded(tokenizer, some["trial"], prompts, config)
        except StimuliError as error:
            raise StimuliError(f"subject '{subject}', task '{task}': {error}") from None


def template_tail(
    tokenizer: PreTrainedTokenizerBase, template: TemplateOptions, message: str
) -> int:
    """Count the tokens a chat template writes after the last user message.

    Counted on a conversation of one message, so it is a property of the subject and the task:
    trials with a prefill have more tokens there, and share these first ones.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    template : TemplateOptions
        The template of the task.
    message : str
        A message whose words the tokenizer knows: the first of the task.

    Returns
    -------
    int
        At most :data:`MOST_POST_INSTRUCTION`; 0 without a chat template.
    """
    if template.kind != "chat":
        return 0
    text = render_text(tokenizer, {"prompt": message}, template, "a message")
    ids, offsets = _tokens(tokenizer, text.text, "a message", special_tokens=False)
    return min(len(ids) - 1 - _last(_overlap(offsets, text)), MOST_POST_INSTRUCTION)


def encode(tokenizer: PreTrainedTokenizerBase, text: str, owner: str) -> list[int]:
    """Turn text into token ids, adding nothing to it.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    text : str
        The text.
    owner : str
        Whose text it is, for the error.

    Returns
    -------
    list of int
        Token ids.

    Raises
    ------
    StimuliError
        If the text is empty or has a word that the tokenizer does not know.
    """
    return _tokens(tokenizer, text, owner, special_tokens=False)[0]


def _render(tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any]) -> Prompt:
    owner = f"trial {row['trial']!r}"
    template = read_template(row.get("template", ""))
    rendered = render_text(tokenizer, row, template, owner)
    special = template.kind != "chat" and template.special_tokens
    ids, offsets = _tokens(tokenizer, rendered.text, owner, special_tokens=special)
    content = _overlap(offsets, _content(rendered, row))
    if not content.any():
        raise StimuliError(f"The content of {owner} must cover a token.")
    spans = content.astype(np.uint8) * np.uint8(SPANS.index("content"))
    if template.kind != "chat":
        return Prompt(rendered.text, ids, offsets, spans, _last(content))
    last = max(_last(_overlap(offsets, rendered)), _last(content))
    inside = _mark_thinking(tokenizer, ids, spans, last + 1)
    prefill = int((offsets[:, 1] > len(rendered.text) - rendered.prefill).sum())
    return Prompt(rendered.text, ids, offsets, spans, last, prefill, inside)


def _content(rendered: RenderedText, row: Mapping[str, Any]) -> RenderedText:
    message = rendered.text[rendered.start : rendered.end]
    content = row.get("content", message)
    # Templates strip messages, and a space at the edge belongs to the token of its neighbour.
    at = message.find(content.strip())
    if at < 0 or not content:
        raise StimuliError(f"The content of trial {row['trial']!r} must be a part of its prompt.")
    start = rendered.start + at
    return RenderedText(rendered.text, start, start + len(content.strip()))


def _overlap(offsets: np.ndarray, part: RenderedText) -> np.ndarray:
    return (offsets[:, 0] < part.end) & (offsets[:, 1] > part.start)


def _last(mask: np.ndarray) -> int:
    return int(np.flatnonzero(mask)[-1])


def _mark_thinking(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], spans: np.ndarray, start: int
) -> bool:
    """Mark what is thought after the last user message; whether the prompt ends in thought."""
    thinking = thinking_delimiters(tokenizer)
    if thinking is None:
        return False
    blocks, inside = thinking_blocks(tokenizer, ids[start:], thinking)
    for block in blocks:
        own = slice(start + block.start, start + block.stop)
        # An empty block, with which templates switch thinking off, holds line breaks only.
        if tokenizer.decode(ids[own]).strip():
            spans[own] = SPANS.index("think")
    return inside


def _tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, owner: str, *, special_tokens: bool
) -> tuple[list[int], np.ndarray]:
    if not tokenizer.is_fast:
        raise StimuliError(
            f"{owner}: the subject's tokenizer must tell which characters each token stands for. "
            f"{type(tokenizer).__name__} does not: save the model with a tokenizer.json."
        )
    try:
        encoded = tokenizer(
            text, add_special_tokens=special_tokens, return_offsets_mapping=True, verbose=False
        )
    except Exception as error:  # noqa: BLE001 - the tokenizers library raises nothing narrower
        raise StimuliError(
            f"{owner}: the subject's tokenizer cannot read {text!r} ({error})."
        ) from None
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    if special_tokens:
        kept = _once(tokenizer, ids, offsets)
        ids, offsets = ids[kept], offsets[kept]
    if not ids:
        raise StimuliError(f"{owner}: a text must have at least one token. Got {text!r}.")
    _check_known(tokenizer, ids, offsets, text, owner)
    return ids, np.array(offsets, dtype=np.int64)


def _once(tokenizer: PreTrainedTokenizerBase, ids: list[int], offsets: list) -> slice:
    """Cut what a tokenizer added although the text has it, or although the text goes on."""
    added = [start == end for start, end in offsets]
    first, last = 0, len(ids)
    if len(ids) > 1 and added[0] and ids[0] == ids[1] == tokenizer.bos_token_id:
        first = 1
    end, separator = tokenizer.eos_token_id, tokenizer.sep_token_id
    # After the end token a decoder would not answer; an encoder's prompt ends with its separator.
    if ids and added[-1] and ids[-1] == end is not None and end != separator:
        last -= 1
    return slice(first, last)


def _check_known(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], offsets: list, text: str, owner: str
) -> None:
    unknown = tokenizer.unk_token_id
    # GPT-2 and its relatives name their end token as the unknown one, and know every byte.
    if unknown in (None, tokenizer.eos_token_id, tokenizer.bos_token_id) or unknown not in ids:
        return
    for id_, (start, end) in zip(ids, offsets, strict=True):
        if id_ == unknown and text[start:end] != tokenizer.unk_token:
            raise StimuliError(
                f"{owner}: every word must be known to the subject's tokenizer. "
                f"It has no token for {text[start:end]!r}."
            )


def _check_embedded(
    tokenizer: PreTrainedTokenizerBase,
    trials: Iterable[str],
    prompts: list[Prompt],
    config: PreTrainedConfig,
) -> None:
    """A tokenizer that was given words later may have more than the model has embeddings."""
    size = config.get_text_config().vocab_size
    for trial, prompt in zip(trials, prompts, strict=True):
        if max(prompt.ids) >= size:
            id_ = next(i for i in prompt.ids if i >= size)
            raise StimuliError(
                f"trial {trial!r}: every token must have an embedding in the model, whose "
                f"'vocab_size' is {size}. Got {tokenizer.convert_ids_to_tokens(id_)!r}, token "
                f"{id_} of the {len(tokenizer)} of the tokenizer: save the model with the "
                "tokenizer it was trained with."
            )


def _fit(prompt: Prompt, row: Mapping[str, Any], room: int | None) -> Prompt:
    if room is None or len(prompt.ids) <= room:
        return prompt
    if room < 1:
        raise StimuliError(
            "Responses leave no room for a prompt in the context of the subject: lower "
            f"'record.max_new_tokens' (or 'max_think_tokens') by at least {1 - room}."
        )
    template = read_template(row.get("template", ""))
    if template.too_long == "error":
        raise StimuliError(
            f"trial {row['trial']!r}: a prompt must have at most {room} tokens, so that the "
            f"response fits into the context of the subject. Got {len(prompt.ids)}: shorten it, "
            "or set 'template.too_long' of the task to 'truncate'."
        )
    excess = len(prompt.ids) - room
    content = np.flatnonzero(prompt.spans == SPANS.index("content"))
    if excess >= len(content):
        raise StimuliError(
            f"trial {row['trial']!r}: a prompt must have at most {room} tokens, and only its "
            f"content may be truncated. Got {len(prompt.ids)}, of which {len(content)} are "
            "content: shorten the rest."
        )
    kept = np.setdiff1d(np.arange(len(prompt.ids)), content[:excess])
    return replace(
        prompt,
        ids=[prompt.ids[i] for i in kept],
        offsets=prompt.offsets[kept],
        spans=prompt.spans[kept],
        instruction_last=prompt.instruction_last - excess,
        dropped=excess,
    )


def _configuration(folder: Path) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SubjectError(f"{folder}: the configuration cannot be loaded ({first}).") from None
