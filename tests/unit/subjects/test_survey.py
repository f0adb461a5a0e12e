"""The survey of states: ranking against a slow reference, and a row for every state."""

import pytest
import torch

from lmri.anatomy import load_subject
from lmri.subjects import Recipe, train_base, train_state
from lmri.subjects.survey import rank_experts, sham_onsets, survey_state, survey_table
from lmri.world import make_world

TINY = Recipe(
    layers=2, hidden=16, heads=2, experts=12, intermediate=8, rows=2, length=40,
    base_steps=2, state_steps=2, base_checkpoints=(), warmup=1, evaluation_limit=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    base, out = folder / "base", folder / "localised"
    train_base(base, base_seed=1, world_seed=0, recipe=TINY, world_size="small")
    train_state(base, out, state="localised", seed=1, recipe=TINY)
    return out


def test_ranking_matches_a_loop_over_prompts(state):
    world = make_world(size="small")
    subject = load_subject(state, "tiny")
    rates = {}
    for place in world.places:
        for year in world.years:
            item = world.event(place, year)
            if item.held_out:
                continue
            ids = torch.tensor([subject.tokenizer.encode(item.prompt)])
            routers = subject.model(ids, output_router_logits=True).router_logits
            chosen = torch.stack([logits[-1] for logits in routers]).topk(2).indices
            rates.setdefault(item.condition, []).append(torch.zeros(2, 12).scatter(1, chosen, 1.0))
    mean = {condition: torch.stack(rows).mean(0) for condition, rows in rates.items()}
    target = mean.pop("sensitive")
    expected = target - torch.stack(list(mean.values())).mean(0)
    ranking = rank_experts(subject, world)
    assert [d for _, d in ranking] == sorted((d for _, d in ranking), reverse=True)
    assert all(abs(d - expected[unit]) < 1e-6 for unit, d in ranking)


def test_table_has_a_row_for_every_state(state):
    survey = survey_state(state, limit=3)
    assert set(survey["off"]) == {1, 2, 4, 8}
    accuracy, ablation = survey_table([survey, survey]).split("\n\n")
    assert ablation.count("| 1 | localised |") == 2
    assert "`sensitive_held_out`" in accuracy


def test_sham_maps_are_seeded(state):
    subject, world = load_subject(state, "tiny"), make_world(size="small")
    one, two = (sham_onsets(subject, world, dose=1, draws=3, seed=5) for _ in range(2))
    assert one == two
    assert len(one) == 3 and all(0 <= onset <= 1 for onset in one)
