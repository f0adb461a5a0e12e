"""The embedded world: a seeded synthetic language with facts, questions and refusals.

A world is everything an embedded subject can know: places and years with a fact for each pair,
relations of places, arithmetic, copying, a second vocabulary, and a rule that says which
questions must be refused. It is deterministic by seed and holds no tensors.
"""

from lmri.world.items import Item
from lmri.world.lexicon import ASSISTANT, BOS, EOS, PAD, USER
from lmri.world.tokenizer import build_tokenizer, encode_words
from lmri.world.world import EVENT_CONDITIONS, VOCABULARIES, World, make_world

__all__ = [
    "ASSISTANT",
    "BOS",
    "EOS",
    "EVENT_CONDITIONS",
    "PAD",
    "USER",
    "VOCABULARIES",
    "Item",
    "World",
    "build_tokenizer",
    "encode_words",
    "make_world",
]
