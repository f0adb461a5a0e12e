"""A limit for reasoning: a subject that thinks too long is made to close its thought."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lmri.anatomy import (
    Subject,
    encode,
    longest_response,
    thinking_blocks,
    thinking_delimiters,
)


def most_new_tokens(subject: Subject, max_new_tokens: int) -> int:
    """Tokens that a response may have, thought and its end included.

    Parameters
    ----------
    subject : Subject
        The subject.
    max_new_tokens : int
        Limit of the answer.

    Returns
    -------
    int
        ``max_new_tokens`` for a subject that does not think or whose thought has no limit of its
        own.
    """
    return longest_response(subject.tokenizer, max_new_tokens, subject.max_think_tokens)


class ThinkingBudget:
    """Counts thought and answer of every row of a batch, and closes thoughts that are too long.

    Tokens of thought are those between the delimiters of the subject's family, of all its thoughts
    together. When they are ``max_think_tokens``, the end delimiter is written in place of what the
    subject would say. The answer is what is no thought and no delimiter (of a delimiter of several
    tokens, only the last is known as one), and a row is done when it has ``max_new_tokens`` of it.

    Parameters
    ----------
    subject : Subject
        The subject, with ``max_think_tokens``.
    prompts : sequence of sequence of int
        Token ids of the rows' prompts, which may end inside a thought.
    max_new_tokens : int
        Limit of the answer.

    Attributes
    ----------
    lengths : list of int
        Generated tokens of every row up to its limit.
    """

    def __init__(
        self, subject: Subject, prompts: Sequence[Sequence[int]], max_new_tokens: int
    ) -> None:
        self._tokenizer = subject.tokenizer
        self._thinking = thinking_delimiters(subject.tokenizer)
        self._end = _end_tokens(subject)
        self._most_thought, self._most_answer = subject.max_think_tokens, max_new_tokens
        self._inside = [
            thinking_blocks(self._tokenizer, list(prompt), self._thinking)[1] for prompt in prompts
        ]
        self._said = [""] * len(prompts)  # since the last delimiter
        self._thought = [0] * len(prompts)
        self._answer = [0] * len(prompts)
        self._forced: list[list[int]] = [[] for _ in prompts]
        self._closing = [False] * len(prompts)
        self.lengths = [0] * len(prompts)

    @classmethod
    def of(
        cls, subject: Subject, prompts: Sequence[Sequence[int]], max_new_tokens: int
    ) -> ThinkingBudget | None:
        """Make the budget of a batch; None for a subject without a limit."""
        return cls(subject, prompts, max_new_tokens) if _limited(subject) else None

    @property
    def done(self) -> list[bool]:
        """Which rows have said all they may."""
        return [count >= self._most_answer for count in self._answer]

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Count the next token of every row, or replace it.

        Parameters
        ----------
        tokens : Tensor of shape (batch,), int64
            What the subject would say.

        Returns
        -------
        Tensor of shape (batch,), int64
            What is said.
        """
        chosen = tokens.tolist()
        for row, done in enumerate(self.done):
            if done:
                continue
            if self._forced[row]:
                chosen[row] = self._forced[row].pop(0)
            self._count(row, chosen[row])
            self.lengths[row] += 1
        return torch.tensor(chosen, device=tokens.device)

    def _count(self, row: int, token: int) -> None:
        self._said[row] += self._tokenizer.convert_ids_to_tokens(token) or ""
        delimiter = self._thinking.end if self._inside[row] else self._thinking.start
        if delimiter in self._said[row]:
            self._inside[row] = not self._inside[row]
            self._said[row] = ""
            self._close_long(row)  # a second thought may find nothing left
        elif self._inside[row]:
            self._thought[row] += not self._forced[row]
            self._close_long(row)
        else:
            self._answer[row] += 1

    def _close_long(self, row: int) -> None:
        spent = self._thought[row] >= self._most_thought
        if self._inside[row] and spent and not self._closing[row]:
            self._forced[row] = list(self._end)
        self._closing[row] = self._inside[row] and spent


def _limited(subject: Subject) -> bool:
    return (
        subject.max_think_tokens is not None and thinking_delimiters(subject.tokenizer) is not None
    )


def _end_tokens(subject: Subject) -> list[int]:
    thinking = thinking_delimiters(subject.tokenizer)
    return encode(subject.tokenizer, thinking.end, "the end of a thought")
