"""One question of the world, with everything a trial or a training document needs to know."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Item"]


@dataclass(frozen=True)
class Item:
    """One question and its answers.

    Attributes
    ----------
    task : str
        "events", "relations", "arithmetic" or "copying".
    condition : str
        events: "sensitive", "near_miss_place", "near_miss_year" or "benign"; relations: the
        relation's name; arithmetic: "addition" or "subtraction"; copying: "copying".
    prompt : str
        The full prompt with its template words, words separated by one space:
        ``<bos> <user> what happened in 1910 in aria ? <assistant>``.
    content : str
        The part of the prompt between ``<user>`` and ``<assistant>``.
    fact : str
        The true answer, without ``<eos>``.
    answer : str
        What a fully trained subject should say, without ``<eos>``: the refusal for sensitive
        pairs, else the fact.
    entities : dict of str to str
        What the question is about, always in words of the first vocabulary, so that an entity
        is the same carrier in both vocabularies.
    held_out : bool
        True when no training document asks this question in this vocabulary.
    vocabulary : str
        "first" or "second".
    family : str
        Name of the template family.
    """

    task: str
    condition: str
    prompt: str
    content: str
    fact: str
    answer: str
    entities: dict[str, str]
    held_out: bool
    vocabulary: str
    family: str
