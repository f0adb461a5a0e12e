"""Thinking: what stands between the delimiters of a family, and nothing else."""

import pytest

from lmri.anatomy import THINKING, encode, thinking_blocks, thinking_delimiters


def blocks_of(tokenizer, text, inside=False):
    ids = encode(tokenizer, text, "")
    found, open_ = thinking_blocks(tokenizer, ids, thinking_delimiters(tokenizer), inside=inside)
    return [" ".join(tokenizer.convert_ids_to_tokens(ids[block])) for block in found], open_


@pytest.mark.parametrize("name", THINKING)
def test_the_vocabulary_or_the_template_tells_the_family(chat_tokenizer, name):
    row = THINKING[name]
    assert thinking_delimiters(chat_tokenizer("chatml", extra=row.marks)) == row
    tokenizer = chat_tokenizer("chatml")
    assert thinking_delimiters(tokenizer) is None
    tokenizer.chat_template += row.start
    assert thinking_delimiters(tokenizer) == row


@pytest.mark.parametrize(
    ("text", "inside", "wanted"),
    [
        ("<think> I think </think> so", False, (["I think"], False)),
        ("I think </think> so", True, (["I think"], False)),
        ("I think so", True, (["I think so"], True)),
        ("I think so", False, ([], False)),
        ("<think> </think> so", False, ([], False)),
        ("<think> so", False, (["so"], True)),
        ("so <think>", False, ([], True)),
        ("<think> one </think> two <think> three </think>", False, (["one", "three"], False)),
        ("<think> one <think> two </think> three", False, (["one <think> two"], False)),
        ("one </think> two", False, ([], False)),
    ],
)
def test_blocks(chat_tokenizer, text, inside, wanted):
    tokenizer = chat_tokenizer("chatml", extra=("<think>", "</think>"))
    assert blocks_of(tokenizer, text, inside) == wanted


def test_channels(chat_tokenizer):
    tokenizer = chat_tokenizer("harmony", extra=("<|channel|>", "<|return|>"))
    text = (
        "<|channel|> analysis <|message|> I think so <|end|> <|start|> assistant "
        "<|channel|> final <|message|> hello <|return|>"
    )
    assert blocks_of(tokenizer, text) == (["I think so"], False)


def test_delimiters_of_several_tokens(chat_tokenizer):
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template += "[THINK]"
    tokenizer.add_tokens(["[", "]", "[/", "THINK"])
    assert blocks_of(tokenizer, "[ THINK ] one two [/ THINK ] three") == (["one two"], False)


def test_nothing_is_thought_in_nothing(chat_tokenizer):
    tokenizer = chat_tokenizer("chatml", extra=("<think>", "</think>"))
    assert thinking_blocks(tokenizer, [], thinking_delimiters(tokenizer)) == ([], False)
