"""Thinking: where a model of some family begins and ends to reason before it answers.

Families differ in the words around their reasoning and in nothing else, so each is one row of
:data:`THINKING`. A new family needs a row and a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Thinking:
    """Delimiters of one family.

    Attributes
    ----------
    start, end : str
        What stands before and after the reasoning.
    marks : tuple of str
        Tokens that a vocabulary of the family holds.
    """

    start: str
    end: str
    marks: tuple[str, ...]


THINKING: dict[str, Thinking] = {
    # OpenAI's harmony format: reasoning is a message on the channel "analysis".
    "gpt_oss": Thinking(
        "<|channel|>analysis<|message|>", "<|end|>", ("<|channel|>", "<|message|>", "<|end|>")
    ),
    # DeepSeek-R1 and its distillates, Qwen3, QwQ, GLM-4.5, SmolLM3, OLMo 3 and others.
    "think": Thinking("<think>", "</think>", ("<think>", "</think>")),
    # Magistral.
    "mistral": Thinking("[THINK]", "[/THINK]", ("[THINK]", "[/THINK]")),
    "seed_oss": Thinking("<seed:think>", "</seed:think>", ("<seed:think>", "</seed:think>")),
    # Command A Reasoning.
    "cohere": Thinking(
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        ("<|START_THINKING|>", "<|END_THINKING|>"),
    ),
}
"""Delimiters by family, the first that fits is taken."""


def thinking_delimiters(tokenizer: PreTrainedTokenizerBase) -> Thinking | None:
    """Delimiters of the family a tokenizer belongs to.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.

    Returns
    -------
    Thinking or None
        The first row of :data:`THINKING` whose marks are all tokens of the vocabulary, or whose
        start is written in the chat template (delimiters of several tokens); None for a family
        that does not think.
    """
    template = tokenizer.chat_template
    template = template if isinstance(template, str) else ""
    for thinking in THINKING.values():
        if thinking.start in template or all(_is_token(tokenizer, m) for m in thinking.marks):
            return thinking
    return None


def thinking_blocks(
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    thinking: Thinking,
    *,
    inside: bool = False,
) -> tuple[list[slice], bool]:
    """Tokens between delimiters.

    The delimiters are searched in the joined pieces of the vocabulary, so that they are found
    whether they are one token or several. A token that holds a part of a delimiter belongs to it.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    ids : sequence of int
        Tokens of a part of a trial.
    thinking : Thinking
        The delimiters.
    inside : bool
        Whether the part begins inside a block.

    Returns
    -------
    blocks : list of slice
        Tokens strictly between delimiters, block by block; none of them is empty. A block that
        does not end reaches to the last token.
    inside : bool
        Whether the part ends inside a block.
    """
    pieces = [piece or "" for piece in tokenizer.convert_ids_to_tokens(list(ids))]
    text = "".join(pieces)
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    starts = ends - [len(piece) for piece in pieces]
    blocks, begin = [], 0
    while True:
        if not inside:
            found = text.find(thinking.start, begin)
            if found < 0:
                return blocks, False
            begin = found + len(thinking.start)
        stop = text.find(thinking.end, begin)
        limit = len(text) if stop < 0 else stop
        within = np.flatnonzero((starts >= begin) & (ends <= limit))
        if len(within):
            blocks.append(slice(int(within[0]), int(within[-1]) + 1))
        if stop < 0:
            return blocks, True
        begin, inside = stop + len(thinking.end), False


def longest_response(
    tokenizer: PreTrainedTokenizerBase, max_new_tokens: int, max_think_tokens: int | None
) -> int:
    """Count the tokens that a response may have, thought and delimiters included.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    max_new_tokens : int
        Limit of the answer.
    max_think_tokens : int or None
        Limit of all thought.

    Returns
    -------
    int
        ``max_new_tokens`` for a subject that does not think or whose thought has no limit of its
        own.
    """
    thinking = None if max_think_tokens is None else thinking_delimiters(tokenizer)
    if thinking is None:
        return max_new_tokens
    delimiters = sum(
        len(tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in (thinking.start, thinking.end)
    )
    # A thought may be begun a second time, and is then closed at once.
    return max_new_tokens + max_think_tokens + 2 * delimiters


def answer_start(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> int:
    """Where the answer begins in a response that may think first.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    ids : sequence of int
        The response.

    Returns
    -------
    int
        Position after the last thought and the white space that follows it: 0 without any thought,
        the length of the response if it ends inside one. (A thought that the prompt began and the
        limit of the response cut cannot be told from an answer: give it a limit of its own.)
    """
    thinking = thinking_delimiters(tokenizer)
    if thinking is None:
        return 0
    pieces = [piece or "" for piece in tokenizer.convert_ids_to_tokens(list(ids))]
    text = "".join(pieces)
    opened, closed = text.rfind(thinking.start), text.rfind(thinking.end)
    if closed < opened:
        return len(ids)
    if closed < 0:
        return 0
    reached = np.cumsum([len(piece) for piece in pieces])
    start = int(np.searchsorted(reached, closed + len(thinking.end))) + 1
    while start < len(ids) and not tokenizer.decode([ids[start]]).strip():
        start += 1
    return start


def _is_token(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    return tokenizer.convert_tokens_to_ids(text) not in (None, tokenizer.unk_token_id)
