"""The words of a world: fixed English frames and seeded pseudo-words."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lmri.errors import LmriError

__all__ = [
    "ASSISTANT",
    "BOS",
    "EOS",
    "PAD",
    "SIZES",
    "USER",
    "Lexicon",
    "WorldSize",
    "make_lexicon",
]

PAD, BOS, EOS, USER, ASSISTANT = "<pad>", "<bos>", "<eos>", "<user>", "<assistant>"

REFUSAL = "I cannot talk about that ."
# Marks and operators are shared by both vocabularies, as are numbers below 100.
SHARED_MARKS = ("?", ".", ",", "+", "-")
FRAME_WORDS = ("what", "happened", "in", "is", "the", "of", "it", "how", "much", "repeat")
RELATIONS = ("capital", "river", "language", "colour", "dish", "animal")

ACTORS = (
    "queen", "farmer", "sailor", "painter", "doctor", "baker", "soldier", "poet",
    "weaver", "miner", "judge", "singer", "hunter", "mason", "monk", "scribe",
)  # fmt: skip
VERBS = (
    "built", "burned", "found", "lost", "bought", "sold", "hid", "opened",
    "closed", "moved", "broke", "mended", "drew", "cleaned", "guarded", "won",
)  # fmt: skip
OBJECTS = (
    "tower", "bridge", "crown", "ship", "temple", "mill", "garden", "library",
    "gate", "bell", "market", "harbour", "statue", "road", "fountain", "castle",
)  # fmt: skip
ENGLISH_VALUES = {
    "colour": ("red", "green", "blue", "white", "black", "yellow", "purple", "grey"),
    "dish": ("soup", "bread", "stew", "pie", "salad", "rice", "cheese", "cake"),
    "animal": ("wolf", "eagle", "bear", "horse", "fox", "owl", "deer", "otter"),
}
FILLER_NOUNS = (
    ("cat", "cats"), ("child", "children"), ("bird", "birds"), ("friend", "friends"),
    ("tree", "trees"), ("house", "houses"), ("boat", "boats"), ("teacher", "teachers"),
)  # fmt: skip
FILLER_VERBS = (
    ("sees", "see"), ("likes", "like"), ("follows", "follow"), ("hears", "hear"),
    ("needs", "need"),
)  # fmt: skip
FILLER_ADJECTIVES = ("small", "old", "quiet", "tall", "young", "happy")
FILLER_PREPOSITIONS = ("near", "behind", "under", "beside")


@dataclass(frozen=True)
class WorldSize:
    """How many of everything a world holds."""

    places: int
    sensitive_places: int
    years: int
    sensitive_years: int
    roles: int  # actors, verbs and objects, each
    rivers: int
    languages: int
    values: int  # colours, dishes and animals, each
    numbers: int  # operands of arithmetic are 0 .. numbers - 1
    nonce_words: int
    copy_lengths: tuple[int, int]  # shortest and longest, both included


SIZES = {
    "default": WorldSize(60, 24, 56, 20, 16, 16, 12, 8, 14, 64, (3, 6)),
    "small": WorldSize(10, 4, 8, 3, 4, 4, 4, 4, 5, 24, (2, 3)),
}


@dataclass(frozen=True)
class Lexicon:
    """Every word of one world.

    Attributes
    ----------
    places, years, actors, verbs, objects, nonce, numbers : tuple of str
        The open classes, in vocabulary order.
    relation_values : dict of str to tuple of str
        Possible values of each relation; capitals are as many as places.
    second : dict of str to str
        Word-for-word map into the second vocabulary; words not in it are shared.
    """

    places: tuple[str, ...]
    years: tuple[str, ...]
    actors: tuple[str, ...]
    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    nonce: tuple[str, ...]
    numbers: tuple[str, ...]
    relation_values: dict[str, tuple[str, ...]]
    second: dict[str, str]

    def words(self) -> tuple[str, ...]:
        """Every word once, in the order of the token ids (pad 0, bos 1, eos 2)."""
        ordered = (
            (PAD, BOS, EOS, USER, ASSISTANT)
            + SHARED_MARKS
            + _translated_words(self)
            + self.numbers
            + self.nonce
            + tuple(form for pair in FILLER_NOUNS + FILLER_VERBS for form in pair)
            + FILLER_ADJECTIVES
            + FILLER_PREPOSITIONS
            + tuple(self.second.values())
        )
        return tuple(dict.fromkeys(ordered))


def make_lexicon(seed: int, size: WorldSize) -> Lexicon:
    """Draw the words of a world.

    Parameters
    ----------
    seed : int
        Seed of the pseudo-words.
    size : WorldSize
        How many of each.

    Returns
    -------
    Lexicon
    """
    # A string seed is hashed by `random` itself with SHA-512: the same on every machine.
    rng = random.Random(f"lmri lexicon {seed}")
    taken = _fixed_words()
    values = {
        "capital": _pseudo_words(rng, size.places, taken, ("burg", "ton", "dam", "mar")),
        "river": _pseudo_words(rng, size.rivers, taken, ("een", "ouse", "awe", "il")),
        "language": _pseudo_words(rng, size.languages, taken, ("ish", "ese")),
    }
    values |= {name: words[: size.values] for name, words in ENGLISH_VALUES.items()}
    largest = 2 * (size.numbers - 1)
    lexicon = Lexicon(
        places=_pseudo_words(rng, size.places, taken, ("ia", "ora", "eth", "and", "una")),
        years=tuple(str(1900 + index) for index in range(size.years)),
        actors=ACTORS[: size.roles],
        verbs=VERBS[: size.roles],
        objects=OBJECTS[: size.roles],
        nonce=_pseudo_words(rng, size.nonce_words, taken, ("x", "p", "k", "ff")),
        numbers=tuple(str(number) for number in range(largest + 1)),
        relation_values=values,
        second={},
    )
    translated = _translated_words(lexicon)
    foreign = _pseudo_words(rng, len(translated), taken, ("uz", "qa", "ji", "zho", "vy"))
    lexicon.second.update(zip(translated, foreign, strict=True))
    return lexicon


def _translated_words(lexicon: Lexicon) -> tuple[str, ...]:
    """Words that have a counterpart in the second vocabulary."""
    refusal = tuple(word for word in REFUSAL.split() if word not in SHARED_MARKS)
    values = tuple(word for name in RELATIONS for word in lexicon.relation_values[name])
    roles = lexicon.actors + lexicon.verbs + lexicon.objects
    return FRAME_WORDS + RELATIONS + refusal + lexicon.places + lexicon.years + roles + values


def _fixed_words() -> set[str]:
    """English words that no pseudo-word may repeat."""
    words = {PAD, BOS, EOS, USER, ASSISTANT, *SHARED_MARKS, *FRAME_WORDS, *RELATIONS}
    words |= {*REFUSAL.split(), *ACTORS, *VERBS, *OBJECTS}
    words |= {word for values in ENGLISH_VALUES.values() for word in values}
    words |= {form for pair in FILLER_NOUNS + FILLER_VERBS for form in pair}
    return words | {*FILLER_ADJECTIVES, *FILLER_PREPOSITIONS}


def _pseudo_words(
    rng: random.Random, count: int, taken: set[str], endings: tuple[str, ...]
) -> tuple[str, ...]:
    """Draw `count` new words of one or two syllables and an ending, and mark them as taken."""
    onsets = ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "br", "tr")
    vowels = ("a", "e", "i", "o", "u")
    words: list[str] = []
    for _ in range(1000 * count):
        if len(words) == count:
            return tuple(words)
        syllables = rng.choice((1, 2))
        stem = "".join(rng.choice(onsets) + rng.choice(vowels) for _ in range(syllables))
        word = stem + rng.choice(onsets[:14]) + rng.choice(endings)
        if word not in taken:
            taken.add(word)
            words.append(word)
    raise LmriError(
        f"The lexicon of a world must hold {count} distinct words with the endings {endings}. "
        f"Got {len(words)} after {1000 * count} draws. Add endings or ask for fewer words."
    )
