"""Probes: words that repeat, a needle in a text, sentences against lists of words.

``repeated``: distinct random words, then the same again (condition ``repeated``), or other distinct
words (``unrepeated``, where no token repeats). Induction and duplicate-token heads are found in the
first and must be absent from the second.

``needle``: words that have to be said, somewhere in a text that has nothing to do with them, and
the question at the end. The content of the trial is these words and nothing else, so that retrieval
means looking at them. Each needle is put into texts of every length and depth: it is the carrier.

``language``: a sentence, its words shuffled (condition ``shuffled``), and as many words that mean
nothing (``nonwords``): what responds to language responds to the first. Sentences of the world are
those that say nothing about it: they are held out unless training drew the same one.

In words of the world the needle is a request to repeat nonce words, as the embedded subjects were
trained to answer; text that follows the request comes before ``<assistant>``, as it never did in
training. A subject that does not answer is not scored, see
:func:`lmri.localise.heads.retrieval_map`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd

from lmri.config import TaskOptions, WorldOptions
from lmri.errors import StimuliError
from lmri.stimuli.plain_words import NOUNS, PEOPLE, PLACES, TIMES, VERBS
from lmri.world import World, make_world

PROBE_CARRIERS = {"repeated": "sequence", "needle": "needle", "language": "sentence"}
"""What carries the conditions of each probe."""

DEFAULT_TRIALS = 240

LANGUAGE = ("sentence", "shuffled", "nonwords")
"""Conditions of the probe of language, which have the same numbers of words."""

LENGTHS = {
    ("repeated", "world"): (12, 25),
    ("repeated", "plain"): (25, 50),
    ("needle", "world"): (16, 32, 64, 128),
    ("needle", "plain"): (100, 200, 400),
}
DEPTHS = {"world": (1.0,), "plain": (0.0, 0.25, 0.5, 0.75, 1.0)}
"""Lengths in words, and depths, that are taken by default."""

CODE_WORDS = 5
"""Words of a plain needle."""

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
"""Letters of plain words that mean nothing: a consonant and a vowel in turn."""


def probe_trials(task: str, options: TaskOptions, world: WorldOptions, seed: int) -> pd.DataFrame:
    """Make all trials of a probe, before splitting.

    Parameters
    ----------
    task : str
        Name of the task.
    options : TaskOptions
        The probe, its words, lengths, depths and most trials.
    world : WorldOptions
        The world, for its words.
    seed : int
        Seed of the drawn words.

    Returns
    -------
    DataFrame
        The columns of ``docs/artefacts.md`` but ``split``, ``messages`` and ``template``.

    Raises
    ------
    StimuliError
        If there are not enough words for the lengths, or trials for one of each kind.
    """
    words = options.words or "world"
    lengths = options.lengths or LENGTHS.get((options.probe, words), ())
    depths = options.depths or DEPTHS[words]
    kinds = {
        "repeated": 2 * len(lengths),
        "needle": len(lengths) * len(depths),
        "language": len(LANGUAGE),
    }[options.probe]
    drawn = (options.trials or DEFAULT_TRIALS) // kinds
    if not drawn:
        raise StimuliError(
            f"The 'trials' of task '{task}' must be at least its lengths times its conditions or "
            f"depths, {kinds}. Got {options.trials}."
        )
    known = make_world(world.seed, world.size) if words == "world" else None
    rng = np.random.default_rng([seed, 3])
    common = {"task": task, "held_out": False, "refusal": ""}
    if options.probe == "repeated":
        rows = _repeated(task, known, lengths, drawn, rng)
    elif options.probe == "language":
        rows = _language(task, known, drawn, rng)
    else:
        rows = _needles(task, known, lengths, depths, drawn, rng)
    return pd.DataFrame([{**common, **row} for row in rows]).assign(
        trial=lambda table: task + ":" + table["trial"]
    )


def _repeated(
    task: str, world: World | None, lengths: Sequence[int], drawn: int, rng: np.random.Generator
) -> Iterator[dict]:
    vocabulary = NOUNS if world is None else [word for word in world.words() if word.isalpha()]
    most = len(vocabulary) // 2
    if max(lengths) > most or min(lengths) < 2:
        raise StimuliError(
            f"The 'lengths' of task '{task}' must be from 2 to {most}, half of the words there "
            f"are. Got {min(lengths)} to {max(lengths)}."
        )
    # The space before a word is a part of its token: the first word needs one too.
    opening = "Words:" if world is None else "<bos>"
    for length in lengths:
        for number in range(drawn):
            picked = rng.choice(len(vocabulary), size=2 * length, replace=False)
            first, other = (
                [vocabulary[i] for i in half] for half in (picked[:length], picked[length:])
            )
            for condition, second in (("repeated", first), ("unrepeated", other)):
                content = " ".join([*first, *second])
                yield {
                    "trial": f"{length}:{number}:{condition}",
                    "condition": condition,
                    "family": f"{length} words",
                    "prompt": f"{opening} {content}",
                    "content": content,
                    "reference": first[0],
                    "fact": first[0],
                    "carrier_sequence": f"{length}:{number}",
                    "class_sequence": "null",
                }


def _language(
    task: str, world: World | None, drawn: int, rng: np.random.Generator
) -> Iterator[dict]:
    make = _plain_sentence if world is None else _world_sentence(world)
    # As in the other probes, plain text needs a word before the first of the content.
    opening = "Text:" if world is None else "<bos>"
    end = "." if world is None else " ."
    sentences = _distinct(partial(make, rng), drawn, task, "sentences")
    for number, sentence in enumerate(sentences):
        words = sentence.removesuffix(end).split()
        lists = {
            "sentence": words,
            "shuffled": _shuffled(words, rng),
            "nonwords": _nonwords(world, len(words), rng),
        }
        for condition in LANGUAGE:
            content = " ".join(lists[condition]) + end
            yield {
                "trial": f"{number}:{condition}",
                "condition": condition,
                "family": f"{len(words)} words",
                "prompt": f"{opening} {content}",
                "content": content,
                "reference": lists[condition][0],
                "fact": lists[condition][0],
                "carrier_sentence": str(number),
                "class_sentence": "null",
            }


def _world_sentence(world: World) -> Callable[[np.random.Generator], str]:
    return lambda rng: world.filler(rng).removeprefix("<bos> ").removesuffix(" <eos>")


def _shuffled(words: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Words in another order."""
    other = list(words)
    while other == list(words):
        other = [words[i] for i in rng.permutation(len(words))]
    return other


def _nonwords(world: World | None, count: int, rng: np.random.Generator) -> list[str]:
    words: list[str] = []
    while len(words) < count:
        if world is None:
            letters = [rng.choice(list(kind)) for kind in (CONSONANTS, VOWELS) * rng.integers(2, 4)]
            words.append("".join(letters))
        else:
            words += world.copying(1, rng)[0].answer.split()
    return words[:count]


def _needles(
    task: str,
    world: World | None,
    lengths: Sequence[int],
    depths: Sequence[float],
    drawn: int,
    rng: np.random.Generator,
) -> Iterator[dict]:
    draw = partial(_plain_needle, rng) if world is None else partial(_world_needle, world, rng)
    for number, words in enumerate(_distinct(draw, drawn, task, "needles", _no_word_twice)):
        sentences = _sentences(world, max(lengths), rng)
        for length in lengths:
            # The shorter text of a needle is the beginning of the longer one.
            text = _until(sentences, length)
            for depth in depths:
                before = round(depth * len(text))
                make = _plain_prompt if world is None else _world_prompt
                yield {
                    "trial": f"{length}:{depth:g}:{number}",
                    "condition": "needle",
                    "family": f"{length} words, depth {depth:g}",
                    "prompt": make(text[:before], text[before:], words),
                    "content": words,
                    "reference": words,
                    "fact": words,
                    "carrier_needle": words,
                    "class_needle": "null",
                }


def _world_needle(world: World, rng: np.random.Generator) -> str:
    return world.copying(1, rng)[0].answer


def _plain_needle(rng: np.random.Generator) -> str:
    return " ".join(NOUNS[i] for i in rng.choice(len(NOUNS), size=CODE_WORDS, replace=False))


def _distinct(
    draw: Callable[[], str],
    count: int,
    task: str,
    plural: str,
    usable: Callable[[str], bool] = bool,
) -> list[str]:
    """Draw texts without one twice."""
    texts: dict[str, None] = {}
    for _ in range(100 * count):
        text = draw()
        if usable(text):
            texts[text] = None
        if len(texts) == count:
            return list(texts)
    raise StimuliError(
        f"The {plural} of task '{task}' must be {count} different ones. Found {len(texts)} among "
        f"{100 * count} draws: ask for fewer 'trials'."
    )


def _no_word_twice(needle: str) -> bool:
    """Whether it is clear which word of a needle a token is."""
    return len(set(needle.split())) == len(needle.split())


def _sentences(world: World | None, words: int, rng: np.random.Generator) -> list[str]:
    """Sentences with at least so many words in all."""
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < words:
        sentences.append(_plain_sentence(rng) if world is None else world.filler(rng))
    return sentences


def _until(sentences: list[str], words: int) -> list[str]:
    counts = np.cumsum([len(sentence.split()) for sentence in sentences])
    return sentences[: int(np.searchsorted(counts, words)) + 1] if words else []


def _plain_sentence(rng: np.random.Generator) -> str:
    who, did, where, when = (
        part[rng.integers(len(part))] for part in (PEOPLE, VERBS, PLACES, TIMES)
    )
    return f"The {who} {did} the {where} that {when}."


def _plain_prompt(before: list[str], after: list[str], words: str) -> str:
    text = " ".join([*before, f"The secret code is {words}.", *after])
    return f"{text}\n\nQuestion: What is the secret code in the text?\nAnswer: The secret code is"


def _world_prompt(before: list[str], after: list[str], words: str) -> str:
    # What comes after the request is inside the turn of the user: no document of its own.
    inside = [sentence.removeprefix("<bos> ").removesuffix(" <eos>") for sentence in after]
    return " ".join([*before, "<bos> <user> repeat", words, ".", *inside, "<assistant>"])
