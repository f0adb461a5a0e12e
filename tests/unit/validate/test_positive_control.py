"""The positive control: the direction is that of the condition means of selection trials."""

import pandas as pd
import pytest
import torch

from lmri.intervene import ablated_direction
from lmri.validate.positive_control import mean_difference, mean_state, random_direction

WEIGHTS = {"sensitive": 1, "place": -1, "year": -1, "benign": 1}


@pytest.fixture
def stimuli(small_world, tmp_path):
    """Four conditions in selection and evaluation, with different questions."""
    places, years = iter(small_world.places), ("1900", "1901", "1902")
    rows = [
        {
            "trial": f"{condition}{split}{year}",
            "condition": condition,
            "split": split,
            "prompt": small_world.event(place, year).prompt,
        }
        for condition in WEIGHTS
        for split, place in (("selection", next(places)), ("evaluation", next(places)))
        for year in years
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "events.parquet")
    return tmp_path


def last_states(subject, prompts) -> torch.Tensor:
    """Residual after the last block, at the last token of every prompt, from another route."""
    kept = []
    norm = subject.model.model.norm
    hook = norm.register_forward_hook(lambda module, arguments, output: kept.append(arguments[0]))
    try:
        for prompt in prompts:
            ids = subject.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
            subject.model(input_ids=ids["input_ids"])
    finally:
        hook.remove()
    return torch.stack([state[0, -1] for state in kept])


def finding(interaction):
    secondary = {"target": ["sensitive"], "controls": ["place", "year", "benign"]}
    secondary |= {"interaction": interaction, "max_new_tokens": 5}
    return {"task": "events", "secondary": secondary}


@pytest.mark.parametrize("interaction", [WEIGHTS, None])
def test_the_direction_is_that_of_the_selection_trials(tiny_subject, stimuli, interaction):
    table = pd.read_parquet(stimuli / "events.parquet")
    table = table[table["split"] == "selection"]
    means = {
        condition: last_states(tiny_subject, group["prompt"]).mean(0)
        for condition, group in table.groupby("condition")
    }
    direction, origin = mean_difference(tiny_subject, finding(interaction), stimuli, rows=2)
    controls = (means["place"] + means["year"] + means["benign"]) / 3
    wanted = means["sensitive"] - controls
    if interaction:
        wanted = means["sensitive"] - means["place"] - means["year"] + means["benign"]
    torch.testing.assert_close(origin, controls, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(direction, wanted, atol=1e-5, rtol=1e-5)


def test_ablated_states_are_as_far_along_the_direction_as_the_controls(tiny_subject, stimuli):
    table = pd.read_parquet(stimuli / "events.parquet")
    target = table[table["condition"] == "sensitive"]["prompt"]
    direction, origin = mean_difference(tiny_subject, finding(None), stimuli, rows=8)
    before = (last_states(tiny_subject, target) - origin) @ direction
    with ablated_direction(tiny_subject, tiny_subject.anatomy.layers - 1, direction, origin):
        after = (last_states(tiny_subject, target) - origin) @ direction
    assert before.mean() > 0.1
    assert after.abs().max() < 1e-4


def test_a_mean_does_not_depend_on_the_size_of_batches(tiny_subject, stimuli):
    trials = pd.read_parquet(stimuli / "events.parquet")
    one, all_of_them = (mean_state(tiny_subject, trials, rows) for rows in (1, 1000))
    torch.testing.assert_close(one, all_of_them, atol=1e-6, rtol=1e-6)


def test_the_random_direction_follows_its_seed(tiny_subject):
    first, again, other = (random_direction(tiny_subject, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
