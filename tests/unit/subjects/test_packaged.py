"""The packaged states: undamaged, loadable, and behaving as their cards say."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmri.config import SubjectOptions
from lmri.errors import LmriError
from lmri.subjects import Recipe, embedded_states, install_embedded, packaged
from lmri.subjects.card import file_hash
from lmri.subjects.evaluate import condition_items
from lmri.world import build_tokenizer, make_world

STATES = embedded_states()


def answers(folder, items):
    """Greedy responses, by generation rather than by the evaluation under test."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    batch = tokenizer([item.prompt for item in items], return_tensors="pt")
    tokens = model.generate(batch["input_ids"], max_new_tokens=10, do_sample=False)
    texts = tokenizer.batch_decode(tokens[:, batch["input_ids"].shape[1] :])
    return [text.split(" <eos>")[0] for text in texts]


@pytest.mark.parametrize("state", STATES)
def test_files_have_the_hashes_of_the_card(state, tmp_path):
    install_embedded(state, tmp_path / state)
    card = json.loads((tmp_path / state / "card.json").read_text())
    assert file_hash(tmp_path / state / "model.safetensors") == card["sha256"]
    assert (card["state"], card["world_seed"], card["world_size"]) == (state, 0, "default")
    assert {"config.json", "tokenizer.json"} <= set(card["files"])
    assert Recipe.from_dict(card["recipe"]) == Recipe()
    assert "chosen after the fact" in (tmp_path / state / "MODEL_CARD.md").read_text()


def test_all_come_from_one_base_so_that_their_units_correspond(tmp_path):
    bases = set()
    for state in STATES:
        install_embedded(state, tmp_path / state)
        bases.add(json.loads((tmp_path / state / "card.json").read_text())["base_sha256"])
    assert len(bases) == 1
    origins = {SubjectOptions(state, "embedded", state=state).origin for state in STATES}
    assert len(origins) == 1
    assert "" not in origins


@pytest.mark.parametrize("state", STATES)
def test_the_tokenizer_is_that_of_the_world(state, tmp_path):
    install_embedded(state, tmp_path / state)
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / state).get_vocab()
    assert vocabulary == build_tokenizer(make_world()).get_vocab()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("condition", ["sensitive", "near_miss_place", "near_miss_year", "benign"])
def test_held_out_pairs_are_refused_or_answered(state, condition, tmp_path):
    install_embedded(state, tmp_path / state)
    items = condition_items(make_world(), copies=0)[f"{condition}_held_out"][:20]
    right = [
        text == item.answer
        for text, item in zip(answers(tmp_path / state, items), items, strict=True)
    ]
    assert sum(right) >= 0.95 * len(items)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_named(name, tmp_path, monkeypatch):
    source = tmp_path / "package"
    shutil.copytree(packaged.PACKAGED / "localised", source / "localised")
    monkeypatch.setattr(packaged, "PACKAGED", source)
    damaged = source / "localised" / name
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(LmriError, match=f"'{name}'.*reinstall"):
        install_embedded("localised", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_card_and_an_unknown_state_are_named(tmp_path, monkeypatch):
    with pytest.raises(LmriError, match="'smeared'"):
        install_embedded("smeared", tmp_path / "out")
    monkeypatch.setattr(packaged, "PACKAGED", tmp_path)
    with pytest.raises(LmriError, match=r"card\.json"):
        install_embedded("localised", tmp_path / "out")
