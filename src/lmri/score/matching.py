"""Whether an answer matches a reference: exactly, by shared words, or as a number.

Texts are normalised as in SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250): lower case, without
ASCII punctuation, without the words *a*, *an* and *the*, one space between words, in this order.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from decimal import Decimal

NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)")
"""A number: a sign, digits, in groups of three if commas are there, and a fraction."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalised(text: str) -> str:
    """Normalise a text as in SQuAD, see above."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(answer: str, reference: str) -> float:
    """Whether both are the same when normalised: 1. or 0."""
    return float(normalised(answer) == normalised(reference))


def f1_match(answer: str, reference: str) -> float:
    """Harmonic mean of the shares of words in common: ``2 c / (n + m)``.

    ``c`` words are in both, each counted as often as in the text that has it less often, of ``n``
    in the answer and ``m`` in the reference. Two empty texts match, one does not.

    Parameters
    ----------
    answer, reference : str
        The texts.

    Returns
    -------
    float
        In [0, 1].
    """
    own, wanted = normalised(answer).split(), normalised(reference).split()
    if not own or not wanted:
        return float(own == wanted)
    common = sum((Counter(own) & Counter(wanted)).values())
    return 2 * common / (len(own) + len(wanted))


def numeric_match(answer: str, reference: str) -> float:
    """Whether the last number of the answer is the last number of the reference.

    Compared as decimal numbers, exactly: 12, 12.0 and +12 are one number, 1,200 is 1200.

    Parameters
    ----------
    answer, reference : str
        The texts.

    Returns
    -------
    float
        1. or 0.; NaN where the reference has no number.
    """
    wanted, own = _last_number(reference), _last_number(answer)
    return float("nan") if wanted is None else float(own == wanted)


def _last_number(text: str) -> Decimal | None:
    found = NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "").replace("\u2212", "-")) if found else None
