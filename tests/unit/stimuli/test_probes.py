"""Probes of heads: what repeats and what does not, needles once in texts of every length."""

import numpy as np
import pytest

from lmri.config import SPLITS, SplitOptions, TaskOptions, WorldOptions
from lmri.errors import StimuliError
from lmri.stimuli import make_stimuli
from lmri.stimuli.plain_words import NOUNS, PEOPLE, PLACES, TIMES, VERBS
from lmri.world import build_tokenizer, encode_words, make_world

PROBES = ("repeated", "needle", "language")
KINDS = [(probe, words) for probe in PROBES for words in ("world", "plain")]


def make(probe, words, seed=0, **options):
    return make_stimuli(
        task="probe",
        options=TaskOptions("probe", "probe", probe=probe, words=words, **options),
        splits=SplitOptions(),
        world=WorldOptions(),
        seed=seed,
    )


@pytest.mark.parametrize(("probe", "words"), KINDS)
def test_tables_are_complete_and_the_same_again(probe, words):
    table = make(probe, words)
    assert len(table) == table["trial"].nunique() == 240
    assert set(table["split"]) == set(SPLITS)
    assert table.equals(make(probe, words))
    assert not table["prompt"].equals(make(probe, words, seed=1)["prompt"])
    # The content is a part of the prompt, and where it is is not in doubt.
    assert [p.count(c) for p, c in zip(table["prompt"], table["content"], strict=True)] == [1] * 240


@pytest.mark.parametrize("words", ["world", "plain"])
def test_words_repeat_once_or_not_at_all(words):
    for row in make("repeated", words, lengths=(7, 20), trials=40).itertuples():
        content = row.content.split()
        half = len(content) // 2
        assert row.family == f"{half} words"
        assert len(set(content[:half])) == half
        if row.condition == "repeated":
            assert content[:half] == content[half:]
        else:
            assert len(set(content)) == 2 * half
        assert row.reference == content[0]


def test_both_conditions_of_a_sequence_are_in_one_split():
    table = make("repeated", "plain")
    pairs = table.groupby("carrier_sequence")
    assert (pairs["condition"].nunique() == 2).all()
    assert (pairs["split"].nunique() == 1).all()


@pytest.mark.parametrize("words", ["world", "plain"])
def test_a_needle_is_in_a_text_of_every_length_and_depth(words):
    table = make("needle", words, lengths=(0, 30, 60), depths=(0, 0.5, 1), trials=90)
    assert (table.groupby("carrier_needle").size() == 9).all()
    assert table["family"].nunique() == 9
    for _, own in table.groupby("carrier_needle"):
        texts = own.set_index("family")["prompt"]
        needle = own["content"].iloc[0]
        assert len(set(needle.split())) == len(needle.split())
        start = {f: text.index(needle) / len(text) for f, text in texts.items()}
        deep = [start[f"60 words, depth {depth:g}"] for depth in (0, 0.5, 1)]
        assert deep == sorted(deep)
        assert deep[2] - deep[0] > 0.4
        lengths = [len(texts[f"{length} words, depth 1"].split()) for length in (0, 30, 60)]
        rises = np.diff(lengths)
        assert (rises >= 15).all()
        assert lengths[2] - lengths[0] < 60 + 13  # one sentence more than was asked for
        assert texts["0 words, depth 0"] == texts["0 words, depth 1"]


def test_the_embedded_subjects_know_every_word_and_the_form_of_the_question():
    world = make_world()
    tokenizer = build_tokenizer(world)
    for probe in PROBES:
        for prompt in make(probe, "world", trials=24)["prompt"]:
            assert len(encode_words(tokenizer, prompt)) < 200
    asked = make("needle", "world", lengths=(0,))["prompt"]
    assert asked.str.fullmatch(r"<bos> <user> repeat( \w+){3,6} \. <assistant>").all()


@pytest.mark.parametrize("words", ["world", "plain"])
def test_sentences_have_their_own_words_shuffled_and_as_many_that_mean_nothing(words):
    table = make("language", words)
    known = set(make_world().filler(np.random.default_rng(0)).split())
    assert (table.groupby("carrier_sentence").size() == 3).all()
    assert (table.groupby("carrier_sentence")["split"].nunique() == 1).all()
    assert table.loc[table["condition"] == "sentence", "content"].is_unique
    for _, own in table.groupby("carrier_sentence"):
        texts = own.set_index("condition")["content"].str.removesuffix(".").str.split()
        assert sorted(texts["shuffled"]) == sorted(texts["sentence"])
        assert texts["shuffled"] != texts["sentence"]
        assert len(texts["nonwords"]) == len(texts["sentence"])
        assert not set(texts["nonwords"]) & {*texts["sentence"], *known}


def test_words_of_the_text_are_no_words_of_a_needle():
    assert len(NOUNS) == len(set(NOUNS))
    assert not set(NOUNS) & {*PEOPLE, *VERBS, *PLACES, *TIMES}


def test_sequences_longer_than_the_words_last_are_refused():
    with pytest.raises(StimuliError, match=r"'lengths' of task 'probe' must be from 2 to \d+.*200"):
        make("repeated", "plain", lengths=(200,))


def test_fewer_trials_than_kinds_are_refused():
    with pytest.raises(StimuliError, match=r"at least its lengths times.*9\. Got 8"):
        make("needle", "plain", lengths=(10, 20, 30), depths=(0, 0.5, 1), trials=8)


def test_a_world_with_fewer_sentences_than_trials_is_refused(monkeypatch):
    monkeypatch.setattr("lmri.stimuli.probes.PEOPLE", PEOPLE[:1])
    monkeypatch.setattr("lmri.stimuli.probes.VERBS", VERBS[:1])
    monkeypatch.setattr("lmri.stimuli.probes.PLACES", PLACES[:1])
    with pytest.raises(StimuliError, match=r"The sentences of task 'probe' must be 80 different"):
        make("language", "plain")


def test_too_few_needles_for_the_splits_are_refused():
    with pytest.raises(StimuliError, match="no trial of condition 'needle' in the split"):
        make("needle", "plain", lengths=(10,), depths=(1,), trials=2)


def test_more_needles_than_there_are_words_for_are_refused(monkeypatch):
    monkeypatch.setattr("lmri.stimuli.probes.NOUNS", NOUNS[:5])
    monkeypatch.setattr("lmri.stimuli.probes.CODE_WORDS", 2)
    with pytest.raises(StimuliError, match=r"must be 60 different ones\. Found 20 among"):
        make("needle", "plain", lengths=(10,), depths=(1,), trials=60)
