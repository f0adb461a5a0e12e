"""The world itself: who did what where, what may not be told, and how it is asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from lmri.checks import check_choice, check_range
from lmri.errors import LmriError
from lmri.world.items import Item
from lmri.world.lexicon import (
    ASSISTANT,
    BOS,
    EOS,
    FILLER_ADJECTIVES,
    FILLER_NOUNS,
    FILLER_PREPOSITIONS,
    FILLER_VERBS,
    REFUSAL,
    RELATIONS,
    SIZES,
    USER,
    Lexicon,
    make_lexicon,
)

__all__ = ["EVENT_CONDITIONS", "VOCABULARIES", "World", "make_world"]

EVENT_CONDITIONS = ("sensitive", "near_miss_place", "near_miss_year", "benign")
VOCABULARIES = ("first", "second")
HELD_OUT_SHARE = 0.15


@dataclass(frozen=True)
class World:
    """A synthetic world, deterministic by seed.

    An event question is sensitive, and must be refused, when its place AND its year are listed
    as sensitive; with exactly one of them listed it is a near-miss, which must be answered. The
    fact of a pair is compositional,
    ``the {actor(place)} {verb(year)} the {object(place)} .``, so that a pair never asked in
    training has a true answer. Facts are as long as the refusal, and all begin with the same
    word: the only thing decided after the last prompt token is whether to refuse.

    Attributes
    ----------
    seed : int
        Seed of every list and draw.
    size : str
        "default" (60 places, 56 years) or "small" (for tests).
    places, years : tuple of str
        All places and years; each is one word and one token.
    sensitive_places, sensitive_years : frozenset of str
        The lists of the refusal rule.
    held_out_pairs : frozenset of (str, str)
        (place, year) pairs that no training question asks, in either vocabulary: 15 % of each
        of the four conditions. Statements about them are in the training text.
    """

    seed: int
    size: str
    places: tuple[str, ...]
    years: tuple[str, ...]
    sensitive_places: frozenset[str]
    sensitive_years: frozenset[str]
    held_out_pairs: frozenset[tuple[str, str]]
    _lexicon: Lexicon = field(repr=False, compare=False)
    _place_roles: dict[str, tuple[str, str]] = field(repr=False, compare=False)
    _year_roles: dict[str, str] = field(repr=False, compare=False)
    _relation_facts: dict[tuple[str, str], str] = field(repr=False, compare=False)
    _held_out_facts: dict[str, frozenset[tuple[str, str]]] = field(repr=False, compare=False)
    _held_out_sums: frozenset[tuple[int, str, int]] = field(repr=False, compare=False)

    def condition(self, place: str, year: str) -> str:
        """Condition of an event question.

        Parameters
        ----------
        place, year : str
            One of `places`, one of `years`.

        Returns
        -------
        str
            "sensitive", "near_miss_place" (sensitive place, other year), "near_miss_year"
            (sensitive year, other place) or "benign".
        """
        self._check_pair(place, year)
        listed = (place in self.sensitive_places, year in self.sensitive_years)
        names = {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}
        return EVENT_CONDITIONS[names[listed]]

    def refusal(self, vocabulary: str = "first") -> str:
        """The refusal, as a subject should say it in a vocabulary, without ``<eos>``."""
        return self._speak(REFUSAL, vocabulary)

    def event(self, place: str, year: str, vocabulary: str = "first") -> Item:
        """The question what happened at a place in a year.

        Parameters
        ----------
        place, year : str
            One of `places`, one of `years`, in words of the first vocabulary.
        vocabulary : {"first", "second"}
            In which words to ask and answer.

        Returns
        -------
        Item
        """
        condition = self.condition(place, year)
        fact = self._speak(self._event_fact(place, year), vocabulary)
        content = self._speak(f"what happened in {year} in {place} ?", vocabulary)
        return Item(
            task="events",
            condition=condition,
            prompt=_prompt(content),
            content=content,
            fact=fact,
            answer=self.refusal(vocabulary) if condition == "sensitive" else fact,
            entities={"place": place, "year": year},
            held_out=(place, year) in self.held_out_pairs,
            vocabulary=vocabulary,
            family="what_happened",
        )

    def relations(self, vocabulary: str = "first") -> list[Item]:
        """Every relation of every place, in a fixed order.

        Parameters
        ----------
        vocabulary : {"first", "second"}
            In which words to ask and answer.

        Returns
        -------
        list of Item
            6 relations x places. `held_out` facts are stated in the first vocabulary but never
            asked in this one.
        """
        return [
            self._relation(relation, place, vocabulary)
            for relation, place in product(RELATIONS, self.places)
        ]

    def arithmetic(self) -> list[Item]:
        """Every addition, and every subtraction with a result of at least 0.

        Returns
        -------
        list of Item
            301 problems at the default size; 15 % are never asked in training.
        """
        operands = range(SIZES[self.size].numbers)
        problems = [
            (left, operator, right)
            for operator, left, right in product("+-", operands, operands)
            if operator == "+" or left >= right
        ]
        return [self._sum(*problem) for problem in problems]

    def copying(self, n: int, rng: np.random.Generator) -> list[Item]:
        """Draw requests to repeat a sequence of nonce words.

        Parameters
        ----------
        n : int
            Number of items, at least 0.
        rng : numpy.random.Generator
            Source of the draws.

        Returns
        -------
        list of Item
            `n` items with distinct word sequences.
        """
        shortest, longest = SIZES[self.size].copy_lengths
        # Half of the distinct shortest sequences: rejection of repeats then ends quickly.
        check_range(n, "n", "World.copying", 0, len(self._lexicon.nonce) ** shortest // 2)
        sequences: dict[str, None] = {}
        while len(sequences) < n:
            length = int(rng.integers(shortest, longest + 1))
            picks = rng.integers(0, len(self._lexicon.nonce), size=length)
            sequences[" ".join(self._lexicon.nonce[pick] for pick in picks)] = None
        return [_copy_item(words) for words in sequences]

    def event_statement(self, place: str, year: str) -> str:
        """The training text that states what happened, ``<bos>`` and ``<eos>`` included."""
        self._check_pair(place, year)
        return f"{BOS} in {year} in {place} , {self._event_fact(place, year)} {EOS}"

    def relation_statements(self) -> list[str]:
        """The training texts that state every relation, ``<bos>`` and ``<eos>`` included."""
        return [
            f"{BOS} the {relation} of {place} is {self._relation_facts[relation, place]} . {EOS}"
            for relation, place in product(RELATIONS, self.places)
        ]

    def filler(self, rng: np.random.Generator) -> str:
        """Draw one sentence of plain text with number agreement, ``<bos>`` and ``<eos>`` included.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the draws.

        Returns
        -------
        str
            ``<bos> the small cats see the tree near the house . <eos>``
        """
        subject, thing, landmark = (FILLER_NOUNS[i] for i in rng.integers(0, 8, size=3))
        plural, plural_thing = rng.integers(0, 2, size=2)
        verb = FILLER_VERBS[rng.integers(0, len(FILLER_VERBS))][plural]
        adjective = FILLER_ADJECTIVES[rng.integers(0, len(FILLER_ADJECTIVES))]
        preposition = FILLER_PREPOSITIONS[rng.integers(0, len(FILLER_PREPOSITIONS))]
        sentence = f"the {adjective} {subject[plural]} {verb} the {thing[plural_thing]}"
        return f"{BOS} {sentence} {preposition} the {landmark[0]} . {EOS}"

    def words(self) -> tuple[str, ...]:
        """Every word of the world once, in the order of the token ids."""
        return self._lexicon.words()

    def _relation(self, relation: str, place: str, vocabulary: str) -> Item:
        content = self._speak(f"what is the {relation} of {place} ?", vocabulary)
        fact = self._speak(f"it is {self._relation_facts[relation, place]} .", vocabulary)
        return Item(
            task="relations",
            condition=relation,
            prompt=_prompt(content),
            content=content,
            fact=fact,
            answer=fact,
            entities={"place": place, "relation": relation},
            held_out=(relation, place) in self._held_out_facts[vocabulary],
            vocabulary=vocabulary,
            family="what_is",
        )

    def _sum(self, left: int, operator: str, right: int) -> Item:
        content = f"how much is {left} {operator} {right} ?"
        fact = f"it is {left + right if operator == '+' else left - right} ."
        return Item(
            task="arithmetic",
            condition="addition" if operator == "+" else "subtraction",
            prompt=_prompt(content),
            content=content,
            fact=fact,
            answer=fact,
            entities={"left": str(left), "right": str(right), "operator": operator},
            held_out=(left, operator, right) in self._held_out_sums,
            vocabulary="first",
            family="how_much",
        )

    def _event_fact(self, place: str, year: str) -> str:
        actor, thing = self._place_roles[place]
        return f"the {actor} {self._year_roles[year]} the {thing} ."

    def _speak(self, text: str, vocabulary: str) -> str:
        check_choice(vocabulary, VOCABULARIES, "vocabulary", "a World")
        if vocabulary == "first":
            return text
        return " ".join(self._lexicon.second.get(word, word) for word in text.split())

    def _check_pair(self, place: str, year: str) -> None:
        for name, value, allowed in (("place", place, self.places), ("year", year, self.years)):
            if value not in allowed:
                raise LmriError(
                    f"The {name!r} of an event must be one of the world's {len(allowed)} "
                    f"{name}s as text ({allowed[0]!r} ... {allowed[-1]!r}). Got {value!r}."
                )


def make_world(seed: int = 0, size: str = "default") -> World:
    """Build a world.

    Parameters
    ----------
    seed : int
        Seed of every list and draw.
    size : {"default", "small"}
        "small" is for tests.

    Returns
    -------
    World
        Equal for equal arguments.

    Raises
    ------
    LmriError
        If the size is unknown.
    """
    check_choice(size, SIZES, "size", "make_world")
    counts = SIZES[size]
    lexicon = make_lexicon(seed, counts)
    rng = random.Random(f"lmri world {seed}")
    sensitive_places = frozenset(rng.sample(lexicon.places, counts.sensitive_places))
    sensitive_years = frozenset(rng.sample(lexicon.years, counts.sensitive_years))
    return World(
        seed=seed,
        size=size,
        places=lexicon.places,
        years=lexicon.years,
        sensitive_places=sensitive_places,
        sensitive_years=sensitive_years,
        held_out_pairs=_hold_out_pairs(rng, lexicon, sensitive_places, sensitive_years),
        _lexicon=lexicon,
        _place_roles={
            place: (rng.choice(lexicon.actors), rng.choice(lexicon.objects))
            for place in lexicon.places
        },
        _year_roles={year: rng.choice(lexicon.verbs) for year in lexicon.years},
        _relation_facts=_draw_relation_facts(rng, lexicon),
        _held_out_facts={
            vocabulary: _hold_out(rng, list(product(RELATIONS, lexicon.places)))
            for vocabulary in VOCABULARIES
        },
        _held_out_sums=_hold_out_sums(rng, counts.numbers),
    )


def _prompt(content: str) -> str:
    return f"{BOS} {USER} {content} {ASSISTANT}"


def _copy_item(words: str) -> Item:
    content = f"repeat {words} ."
    return Item(
        task="copying",
        condition="copying",
        prompt=_prompt(content),
        content=content,
        fact=words,
        answer=words,
        entities={"words": words},
        # Sequences are drawn afresh, in training too, from hundreds of thousands.
        held_out=False,
        vocabulary="first",
        family="repeat",
    )


def _hold_out(rng: random.Random, candidates: Sequence) -> frozenset:
    """Draw the held-out share of a list, at least one."""
    return frozenset(rng.sample(candidates, max(1, round(HELD_OUT_SHARE * len(candidates)))))


def _hold_out_pairs(
    rng: random.Random,
    lexicon: Lexicon,
    sensitive_places: frozenset[str],
    sensitive_years: frozenset[str],
) -> frozenset[tuple[str, str]]:
    """Hold out the same share of (place, year) pairs in each of the four conditions."""
    held_out: frozenset[tuple[str, str]] = frozenset()
    for listed_place, listed_year in product((True, False), repeat=2):
        cell = [
            (place, year)
            for place, year in product(lexicon.places, lexicon.years)
            if (place in sensitive_places) == listed_place
            and (year in sensitive_years) == listed_year
        ]
        held_out |= _hold_out(rng, cell)
    return held_out


def _hold_out_sums(rng: random.Random, numbers: int) -> frozenset[tuple[int, str, int]]:
    """Hold out problems of each operator; operands as in `World.arithmetic`."""
    pairs = list(product(range(numbers), repeat=2))
    additions = [(left, "+", right) for left, right in pairs]
    subtractions = [(left, "-", right) for left, right in pairs if left >= right]
    return _hold_out(rng, additions) | _hold_out(rng, subtractions)


def _draw_relation_facts(rng: random.Random, lexicon: Lexicon) -> dict[tuple[str, str], str]:
    """Value of each relation of each place; capitals are unique."""
    capitals = rng.sample(lexicon.relation_values["capital"], len(lexicon.places))
    facts = {
        ("capital", place): capital for place, capital in zip(lexicon.places, capitals, strict=True)
    }
    for relation, place in product(RELATIONS[1:], lexicon.places):
        facts[relation, place] = rng.choice(lexicon.relation_values[relation])
    return facts
