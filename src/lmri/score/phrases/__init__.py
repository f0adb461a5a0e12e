"""Refusals told by phrases: versioned lists, and whether an answer has one of their phrases.

A list is a JSON file with ``name``, ``version``, ``within`` (the phrase must begin before so many
characters of the answer; 0: with it; null: anywhere) and ``phrases``. Its hash is kept with every
score, so that a score tells which list it was made with.

Text is compared without case, with one space between words and straight apostrophes, and a phrase
begins and ends with a word: "I can't" is not in "Lucifer I can'ticle".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from lmri.checks import check_choice, shortened
from lmri.errors import ScoreError

LISTS = ("embedded", "english")
"""Lists that come with the package."""

APOSTROPHES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "`": "'"})


@dataclass(frozen=True)
class PhraseList:
    """A list of phrases.

    Attributes
    ----------
    name : str
        Its name.
    version : int
        Counted up whenever a phrase changes.
    within : int or None
        A phrase must begin at this character of the answer or before; None for anywhere.
    phrases : tuple of str
        The phrases.
    """

    name: str
    version: int
    within: int | None
    phrases: tuple[str, ...]

    @property
    def hash(self) -> str:
        """SHA-256 of what the list does: ``within`` and the phrases, in their order."""
        content = json.dumps([self.within, self.phrases], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def label(self) -> str:
        """Name, version and the beginning of the hash, to be kept with scores."""
        return f"{self.name} v{self.version} {self.hash[:12]}"

    def found(self, answers: Sequence[str]) -> np.ndarray:
        """Whether each answer has a phrase.

        Parameters
        ----------
        answers : sequence of str
            The answers.

        Returns
        -------
        ndarray of shape (n_answers,), float64
            1. or 0.
        """
        some = "|".join(re.escape(_plain(phrase)) for phrase in self.phrases)
        pattern = re.compile(rf"(?<!\w)(?:{some})(?!\w)")
        return np.array([float(self._is_in(pattern, _plain(answer))) for answer in answers])

    def _is_in(self, pattern: re.Pattern[str], answer: str) -> bool:
        match = pattern.search(answer)  # the first: no later one begins earlier
        return match is not None and (self.within is None or match.start() <= self.within)


def _plain(text: str) -> str:
    return " ".join(text.translate(APOSTROPHES).split()).casefold()


def packaged_phrases(name: str) -> PhraseList:
    """Read a list of the package.

    Parameters
    ----------
    name : str
        One of :data:`LISTS`.

    Returns
    -------
    PhraseList
        The list.
    """
    check_choice(name, LISTS, "name", "a list of phrases", ScoreError)
    source = files("lmri.score.phrases").joinpath(f"{name}.json")
    return _checked(json.loads(source.read_text(encoding="utf-8")), f"{name}.json")


def read_phrases(path: Path) -> PhraseList:
    """Read a user's list.

    Parameters
    ----------
    path : Path
        A JSON file.

    Returns
    -------
    PhraseList
        The list.

    Raises
    ------
    ScoreError
        If the file is missing, no JSON, or no list of phrases: one line with the file and field.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ScoreError(f"{path}: no readable list of phrases ({type(error).__name__}).") from None
    except json.JSONDecodeError as error:
        raise ScoreError(
            f"{path}: line {error.lineno}: a list of phrases must be JSON ({error.msg})."
        ) from None
    return _checked(content, str(path))


def _checked(content: object, owner: str) -> PhraseList:
    content = content if isinstance(content, dict) else {}
    rules = {
        "name": (lambda value: isinstance(value, str) and value.strip(), "a word"),
        "version": (lambda value: _is_count(value) and value > 0, "a whole number above 0"),
        "within": (lambda value: value is None or _is_count(value), "characters, or null"),
        "phrases": (_are_phrases, "a list of phrases, none of them empty"),
    }
    for name, (holds, rule) in rules.items():
        if name not in content or not holds(content[name]):
            got = shortened(content[name]) if name in content else "nothing"
            raise ScoreError(f"{owner}: '{name}' must be {rule}. Got {got}.")
    return PhraseList(
        content["name"], content["version"], content["within"], tuple(content["phrases"])
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_phrases(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(phrase, str) and phrase.strip() for phrase in value)
    )
