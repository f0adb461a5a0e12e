"""Training: deterministic, resumable to the bit, and confined to what it may change."""

import json
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from tiny_recipe import TINY
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmri.errors import SubjectError
from lmri.subjects import Recipe, train_base, train_state
from lmri.subjects.card import file_hash
from lmri.subjects.model import forward
from lmri.subjects.training import cosine_schedule

RESUMED = replace(TINY, base_steps=8, state_steps=6, base_checkpoints=(0, 4), resume_every=3)
train_tiny = partial(train_base, world_seed=0, recipe=RESUMED, world_size="small")


class Killed(Exception):
    """Stands for a job that is killed."""


def killed_after(calls):
    remaining = iter(range(calls))

    def objective(model, batch):
        if next(remaining, None) is None:
            raise Killed
        return forward(model, batch, balance=RESUMED.balance, z=RESUMED.z)

    return objective


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("subjects") / "base"
    train_tiny(path, base_seed=1)
    return path


def weights(path):
    return load_file(path / "model.safetensors")


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(base, tmp_path):
    train_tiny(tmp_path / "same", base_seed=1)
    train_tiny(tmp_path / "other", base_seed=2)
    assert file_hash(tmp_path / "same/model.safetensors") == file_hash(base / "model.safetensors")
    assert file_hash(tmp_path / "other/model.safetensors") != file_hash(base / "model.safetensors")


@pytest.mark.parametrize("calls", [2, 3, 7])
def test_a_killed_base_resumes_to_the_same_bits(base, tmp_path, calls):
    out = tmp_path / "base"
    with pytest.raises(Killed):
        train_tiny(out, base_seed=1, objective=killed_after(calls))
    assert not out.exists()
    train_tiny(out, base_seed=1)
    assert file_hash(out / "model.safetensors") == file_hash(base / "model.safetensors")
    kept = "checkpoints/step_00004/model.safetensors"
    assert file_hash(out / kept) == file_hash(base / kept)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_state_saved_by_another_run_is_not_resumed(base, tmp_path):
    out = tmp_path / "base"
    with pytest.raises(Killed):
        train_tiny(out, base_seed=2, objective=killed_after(5))
    train_tiny(out, base_seed=1)
    assert file_hash(out / "model.safetensors") == file_hash(base / "model.safetensors")


def test_a_killed_state_resumes_to_the_same_bits(base, tmp_path):
    train_state(base, tmp_path / "whole", state="localised", seed=1, recipe=RESUMED)
    arguments = {"state": "localised", "seed": 1, "recipe": RESUMED}
    with pytest.raises(Killed):
        train_state(base, tmp_path / "cut", objective=killed_after(4), **arguments)
    train_state(base, tmp_path / "cut", **arguments)
    whole, cut = tmp_path / "whole/model.safetensors", tmp_path / "cut/model.safetensors"
    assert file_hash(whole) == file_hash(cut)


@pytest.mark.parametrize("state", ["localised", "distributed"])
def test_which_tensors_a_state_changes(base, tmp_path, state):
    train_state(base, tmp_path / "out", state=state, seed=1, recipe=RESUMED)
    before, after = weights(base), weights(tmp_path / "out")
    assert set(before) == set(after)
    changed = {n for n in before if not torch.equal(before[n].to(torch.bfloat16), after[n])}
    outside = {name for name in before if "mlp" not in name}
    assert changed - outside
    assert bool(changed & outside) == (state == "distributed")


def test_the_card_says_what_was_trained(base, tmp_path):
    train_state(base, tmp_path / "out", state="localised", seed=4, recipe=RESUMED)
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert (card["base_seed"], card["seed"], card["world_seed"]) == (1, 4, 0)
    assert (card["state"], card["world_size"]) == ("localised", "small")
    assert card["base_sha256"] == file_hash(base / "model.safetensors")
    assert card["sha256"] == file_hash(tmp_path / "out/model.safetensors")
    assert Recipe.from_dict(card["recipe"]) == RESUMED
    assert set(card["versions"]) >= {"torch", "transformers"} and card["seconds"] > 0
    for name in ("sensitive_held_out", "near_miss_year", "relations_second", "copying"):
        assert 1 <= card["accuracy"][name]["n"] <= 5
        assert set(card["accuracy"][name]) == {"n", "exact", "fact", "onset", "onset_margin_mean"}
    assert "localised" in (tmp_path / "out/MODEL_CARD.md").read_text()


def test_subjects_and_checkpoints_load_as_hugging_face_models(base, tmp_path):
    train_state(base, tmp_path / "out", state="distributed", seed=1, recipe=RESUMED)
    for path, dtype in (
        (base / "checkpoints/step_00000", "float32"),
        (tmp_path / "out", "bfloat16"),
    ):
        model = AutoModelForCausalLM.from_pretrained(path)
        assert str(model.dtype) == f"torch.{dtype}"
        assert len(AutoTokenizer.from_pretrained(path)) == model.config.vocab_size
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pt"))


def test_user_errors_name_what_was_got(base, tmp_path):
    with pytest.raises(SubjectError, match="'smeared'"):
        train_state(base, tmp_path / "out", state="smeared", seed=1, recipe=RESUMED)
    with pytest.raises(SubjectError, match="train_base"):
        train_state(tmp_path, tmp_path / "out", state="localised", seed=1, recipe=RESUMED)


def test_cosine_schedule_warms_up_and_ends_at_its_share():
    rate = cosine_schedule(2.0, steps=100, warmup=10, final_share=0.05)
    assert rate(0) == pytest.approx(0.2) and rate(9) == rate(10) == pytest.approx(2.0)
    assert rate(100) == pytest.approx(0.1)
    assert rate(55) == pytest.approx(2.0 * (0.05 + 0.95 * (1 + math.cos(math.pi / 2)) / 2))
