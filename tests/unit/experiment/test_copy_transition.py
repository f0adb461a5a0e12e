"""Copying over training: patterns by document, steps at which it is learnt, seeds compared."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_recipe import TINY

from lmri.anatomy import load_subject
from lmri.config import (
    CopyTransitionOptions,
    EvidenceOptions,
    SplitOptions,
    TaskOptions,
    WorldOptions,
)
from lmri.experiment.copy_transition import experiment as own
from lmri.experiment.copy_transition import holding
from lmri.experiment.outcome import Ground
from lmri.experiment.statements import statement_rows
from lmri.intervene import clamped_patterns, induction_pattern, recorded_patterns
from lmri.stimuli import make_stimuli
from lmri.subjects import train_base

OPTIONS = CopyTransitionOptions(seeds=(1, 2), every=2, trials=6)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("subjects") / "base"
    train_base(path, base_seed=1, world_seed=0, recipe=TINY, world_size="small")
    return path


@pytest.fixture(scope="module")
def ground(base, tmp_path_factory):
    trials = make_stimuli(
        task="copying",
        options=TaskOptions("copying", "world", trials=40),
        splits=SplitOptions(),
        world=WorldOptions(size="small"),
        seed=0,
    )
    nowhere = tmp_path_factory.mktemp("nowhere")
    return Ground(
        subject=load_subject(base, "base"),
        stimuli={"copying": trials},
        recordings=nowhere,
        findings=nowhere,
        contrasts=(),
        evidence=EvidenceOptions(),
        max_new_tokens=8,
        rows=16,
        seed=0,
        bootstrap=50,
    )


EVERY = [(0, 0), (0, 1), (1, 0), (1, 1)]


def looks_of(subject, arm, ids, positions):
    """Where all heads look while those of an arm are held."""
    held = holding.held_heads(subject, arm, ids, positions)
    with held, recorded_patterns(subject, EVERY) as looks:
        subject.model(input_ids=ids, position_ids=positions, use_cache=False)
    return looks


def runs_of(**steps):
    """Runs of arms that learn at steps; None never does."""
    rows = []
    for arm in own.ARMS:
        for seed, step in enumerate(steps.get(arm, steps["free"])):
            learnt = step is not None
            rows.append({"arm": arm, "seed": seed, "learnt": learnt, "step": step or 110})
            rows[-1]["copied"] = 1.0 if learnt else 0.3
    return pd.DataFrame(rows)


def outcomes(runs):
    statements = own.transition_statements(runs, OPTIONS, 0.05)
    table = statement_rows("base", "copy_transition", statements, 0.05)
    return table.set_index("claim")


def test_the_p_of_signs_is_exact():
    assert own.sign_flip_p(np.array([3.0, 1.0, 2.0])) == 1 / 8
    assert own.sign_flip_p(np.array([3.0, -1.0, 2.0])) == 2 / 8
    assert own.sign_flip_p(np.zeros(4)) == 1.0
    assert own.sign_flip_p(np.array([-1.0, -2.0])) == 1.0


def test_a_pattern_that_training_waits_for_is_told_from_one_it_does_not():
    seven = np.arange(60, 74, 2)
    runs = runs_of(
        free=seven, induction=seven - 20, previous=seven + [0, 2, -2, 0, 2, -2, 0], even=[None] * 7
    )
    found = outcomes(runs)
    assert found.loc["induction_earlier", ["outcome", "effect"]].tolist() == ["holds", 20.0]
    assert found.loc["induction_over_itself", "outcome"] == "holds"
    assert found.loc["previous_earlier", "outcome"] == "undecided"
    assert found.loc["even_prevents", "outcome"] == "holds"
    assert found["p"].min() == 1 / 128


def test_seeds_that_differ_by_chance_show_nothing():
    rng = np.random.default_rng(0)
    drawn = [
        outcomes(runs_of(**{arm: rng.integers(50, 90, 7) for arm in own.ARMS}))["outcome"]
        for _ in range(60)
    ]
    assert np.mean([(own_ == "holds").any() for own_ in drawn]) <= 0.1


def test_where_nothing_is_learnt_nothing_is_tested():
    found = outcomes(runs_of(free=[None] * 3))
    assert set(found["outcome"]) == {"not testable"}
    assert found["reason"].str.contains("learn").all()


def test_a_run_has_learnt_from_the_look_after_which_it_always_copies():
    copied = {"a": [0.1, 0.9, 0.2, 0.9, 1.0], "b": [0.1, 0.2, 0.2, 0.2, 0.5]}
    course = pd.DataFrame(
        [
            {"arm": arm, "seed": 1, "step": 2 * i, "copied": value, "induction": value / 2}
            for arm, values in copied.items()
            for i, value in enumerate(values)
        ]
    )
    found = own.transitions(course, OPTIONS).set_index("arm")
    assert found["learnt"].tolist() == [True, False]
    assert found["step"].tolist() == [6, 10]  # never: one look after the last
    assert found["rises"].tolist() == [2, 8]


def test_held_heads_look_within_their_documents_only(ground):
    ids = torch.tensor([[5, 6, 7, 6, 8, 6, 9, 6]])
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]])
    wanted = {
        # to the token after the last that was the same, in either document
        "induction": ((1, 0), [0, 1, 2, 2, 4, 5, 6, 6]),
        "previous": ((0, 0), [0, 0, 1, 2, 4, 4, 5, 6]),
        "itself": ((1, 0), list(range(8))),
    }
    for arm, (head, keys) in wanted.items():
        looks = looks_of(ground.subject, arm, ids, positions)
        assert looks[head][0].argmax(-1).tolist() == keys
        assert looks[head][0].max(-1).values.min() == 1
        others = [unit for unit in EVERY if unit != head]
        assert all(looks[unit][0].max(-1).values[1:].min() < 1 for unit in others)
    looks = looks_of(ground.subject, "even", ids, positions)
    assert torch.allclose(looks[1, 1][0, 7], torch.tensor([0, 0, 0, 0, 0.25, 0.25, 0.25, 0.25]))
    assert isinstance(holding.held_heads(ground.subject, "free", ids, positions), nullcontext)


def test_a_head_with_induction_is_seen(ground):
    asked = holding.copied_texts(ground, OPTIONS)
    before = holding.look(ground.subject, "free", asked, 16)
    assert 0 <= before["copied"] < 0.5
    by_length = replace(ground, rows=1)
    for text, start in zip(asked.ids, asked.starts, strict=True):
        one = holding.Texts([text], [start])
        with clamped_patterns(by_length.subject, {(0, 1): induction_pattern([text])}):
            assert holding.look(ground.subject, "free", one, 16)["induction"] == pytest.approx(1)


def test_the_free_run_of_the_own_seed_is_the_subject_again(ground):
    outcome = own.run(ground, OPTIONS)
    assert any("ends in the weights of the subject" in note for note in outcome.notes)
    assert len(outcome.tables["runs"]) == 2 * len(own.ARMS)
    course = outcome.tables["course"]
    assert sorted(course["step"].unique()) == [0, 2, 4]
    first = course[(course["step"] == 0) & (course["seed"] == 1)].set_index("arm")
    last = course[(course["step"] == 4) & (course["seed"] == 1)].set_index("arm")
    assert (
        first.loc["free", "copied"]
        == holding.look(_untrained(ground), "free", holding.copied_texts(ground, OPTIONS), 16)[
            "copied"
        ]
    )
    assert last["previous"].nunique() > 1
    assert {statement.claim for statement in outcome.statements} == {
        "induction_earlier",
        "previous_earlier",
        "induction_over_itself",
        "even_prevents",
    }


def _untrained(ground):
    from lmri.subjects.model import build_model

    model = build_model(TINY, ground.subject.anatomy.vocabulary, 1).eval()
    return replace(ground.subject, model=model)


def test_a_subject_that_the_workflow_did_not_train_is_not_testable(ground, base):
    checkpoint = load_subject(base / "checkpoints/step_00002", "checkpoint")
    outcome = own.run(replace(ground, subject=checkpoint), OPTIONS)
    assert not any(statement.testable for statement in outcome.statements)
    assert "no finished base" in outcome.statements[0].reason
