"""The training text: never asks a held-out question, packs documents as it says."""

import numpy as np
import pytest
import torch

from lmri.errors import SubjectError
from lmri.subjects import Recipe
from lmri.subjects.corpus import Corpus
from lmri.world import build_tokenizer, make_world


@pytest.fixture(scope="module")
def world():
    return make_world(size="small")


def make_corpus(world, refuse=True):
    return Corpus(world, build_tokenizer(world), Recipe().state_mix, refuse, prompt_weight=0.1)


@pytest.mark.parametrize("refuse", [True, False])
def test_no_document_asks_a_held_out_question(world, refuse):
    corpus = make_corpus(world, refuse)
    events = [world.event(*pair, v) for pair in world.held_out_pairs for v in ("first", "second")]
    others = world.relations() + world.relations("second") + world.arithmetic()
    forbidden = {item.prompt for item in events + others if item.held_out}
    names = [name for name in corpus.names if name not in ("copy", "filler")]
    texts = [document.text for name in names for document in corpus.documents(name)]
    rng = np.random.default_rng(0)
    texts += [corpus.draw(rng).text for _ in range(2000)]
    prompts = {text[: text.index("<assistant>") + 11] for text in texts if "<assistant>" in text}
    assert prompts and not prompts & forbidden


def test_held_out_pairs_are_stated(world):
    stated = {document.text for document in make_corpus(world).documents("event_stmt")}
    assert all(world.event_statement(*pair) in stated for pair in world.held_out_pairs)


def test_sensitive_questions_are_refused_only_in_stage_two(world):
    for refuse in (True, False):
        texts = [document.text for document in make_corpus(world, refuse).documents("event_sens")]
        assert all((world.refusal() in text) == refuse for text in texts)


@pytest.mark.parametrize("masked", [True, False])
def test_batch_packs_documents(world, masked):
    batch = make_corpus(world).batch(np.random.default_rng(1), 3, 50, masked)
    starts = batch.input_ids == 1  # <bos>
    assert batch.input_ids.shape == batch.position_ids.shape == batch.weights.shape == (3, 50)
    assert (batch.weights[starts] == 0).all()
    if masked:
        assert torch.equal(batch.position_ids == 0, starts)
    else:
        assert torch.equal(batch.position_ids, torch.arange(50).expand(3, 50))


def test_prompt_tokens_weigh_less(world):
    document = make_corpus(world).documents("event")[0]
    last = document.text.split().index("<assistant>")
    assert np.allclose(document.weights[1 : last + 1], 0.1)
    assert np.allclose(document.weights[last + 1 :], 1.0)


def test_listing_a_drawn_class_is_an_error(world):
    with pytest.raises(SubjectError, match="copy"):
        make_corpus(world).documents("copy")
