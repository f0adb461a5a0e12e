"""Tokens as text: spaces where they are, and what is no character as the vocabulary has it."""

from small_tokenizers import bytes_tokenizer

from lmri.examples.texts import TokenTexts
from lmri.world import build_tokenizer, make_world


def test_texts_of_words_come_together_to_the_text():
    tokenizer = build_tokenizer(make_world(0, "small"))
    ids = tokenizer("what happened in", add_special_tokens=False)["input_ids"]
    texts = TokenTexts(tokenizer).of(ids)
    assert texts == ["what", " happened", " in"]


def test_parts_of_a_character_are_written_as_the_vocabulary_has_them():
    tokenizer = bytes_tokenizer()
    ids = tokenizer("a \u00e9", add_special_tokens=False)["input_ids"]
    texts = TokenTexts(tokenizer).of(ids)
    assert len(texts) == len(ids)
    assert texts[:2] == ["a", " "] or texts[0] == "a"
    assert all(text and "\ufffd" not in text for text in texts)
