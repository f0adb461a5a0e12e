"""The tokenizer: one token a word, nothing added, nothing silently unknown."""

from itertools import product

import numpy as np
import pytest
from transformers import AutoTokenizer

from lmri.errors import LmriError
from lmri.world import VOCABULARIES, build_tokenizer, encode_words, make_world


@pytest.fixture(scope="module")
def world():
    return make_world()


@pytest.fixture(scope="module")
def tokenizer(world):
    return build_tokenizer(world)


def all_texts(world):
    rng = np.random.default_rng(0)
    items = [
        world.event(*names) for names in product(world.places[::7], world.years[::5], VOCABULARIES)
    ]
    items += world.relations() + world.relations("second") + world.arithmetic()
    items += world.copying(20, rng)
    texts = [f"{item.prompt} {text} <eos>" for item in items for text in (item.fact, item.answer)]
    texts += [world.event_statement(world.places[0], world.years[0]), world.filler(rng)]
    return texts + world.relation_statements()


def test_every_word_is_one_token_and_decodes_to_itself(world, tokenizer):
    texts = all_texts(world)
    for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
        assert len(ids) == len(text.split())
        assert tokenizer.decode(ids) == text


def test_special_ids(tokenizer):
    assert tokenizer.encode("<pad> <bos> <eos>") == [0, 1, 2]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)


def test_offsets_point_at_the_words(world, tokenizer):
    item = world.event(world.places[0], world.years[0])
    offsets = tokenizer(item.prompt, return_offsets_mapping=True)["offset_mapping"]
    assert [item.prompt[start:stop] for start, stop in offsets] == item.prompt.split()


def test_unknown_words_raise(tokenizer):
    with pytest.raises(LmriError, match="'atlantis'"):
        encode_words(tokenizer, "what happened in atlantis ?")
    with pytest.raises(Exception, match="UNK"):
        tokenizer.encode("what happened in atlantis ?")


def test_saved_tokenizer_is_the_same(tokenizer, tmp_path, world):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = world.event(world.places[0], world.years[0]).prompt
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.decode(loaded.encode(text)) == text
