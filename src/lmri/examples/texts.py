"""Tokens as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What is decoded of a token that holds a part of a character."""


class TokenTexts:
    """Texts of tokens in their places: a space that a token begins with is part of it.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[int | None, int], str] = {}

    def of(self, ids: Sequence[int]) -> list[str]:
        """Texts of consecutive tokens.

        Parameters
        ----------
        ids : sequence of int
            The tokens.

        Returns
        -------
        list of str
            One each; a token that is a part of a character is written as the vocabulary has it.
        """
        before = [None, *ids[:-1]]
        return [self._text(*pair) for pair in zip(before, ids, strict=True)]

    def _text(self, before: int | None, token: int) -> str:
        key = before, token
        if key not in self._known:
            self._known[key] = self._decoded(before, token)
        return self._known[key]

    def _decoded(self, before: int | None, token: int) -> str:
        first = "" if before is None else self._decode([before])
        text = self._decode([token] if before is None else [before, token])
        # Some decoders drop a space at the beginning: it shows only behind another token.
        text = text.removeprefix(first) if text.startswith(first) else self._decode([token])
        if not text or UNFINISHED in text:
            return str(self._tokenizer.convert_ids_to_tokens(token))
        return text

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)
