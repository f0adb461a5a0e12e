"""Units that respond to sentences: planted ones cost language alone, others nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lmri.anatomy import Subject, describe
from lmri.config import (
    EvidenceOptions,
    LanguageNetworkOptions,
    SplitOptions,
    TaskOptions,
    WorldOptions,
)
from lmri.errors import EvidenceError
from lmri.experiment.language_network import experiment as own
from lmri.experiment.language_network import losing, responding
from lmri.experiment.measuring import carriers_of, change_of
from lmri.experiment.outcome import Ground
from lmri.experiment.statements import statement_rows
from lmri.localise import Units
from lmri.stimuli import make_stimuli
from lmri.world import build_tokenizer, make_world

LAYERS, NEURONS = 2, 40
PLANTED = [(0, 3), (0, 7), (1, 5), (1, 30)]
OPTIONS = LanguageNetworkOptions(percents=(2.5, 5), draws=99, trials=20, baseline=0.0)


def stimuli(task, source, **options):
    return make_stimuli(
        task=task,
        options=TaskOptions(task, source, **options),
        splits=SplitOptions(),
        world=WorldOptions(size="small"),
        seed=0,
    )


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    tokenizer = build_tokenizer(make_world(0, "small"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=NEURONS,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    nowhere = tmp_path_factory.mktemp("nowhere")
    return Ground(
        subject=Subject("planted", model, tokenizer, describe(model)),
        stimuli={
            "language": stimuli("language", "probe", probe="language", words="world", trials=150),
            "arithmetic": stimuli("arithmetic", "world"),
            "copying": stimuli("copying", "world", trials=60),
        },
        recordings=nowhere,
        findings=nowhere,
        contrasts=(),
        evidence=EvidenceOptions(),
        max_new_tokens=8,
        rows=256,
        seed=0,
        bootstrap=400,
    )


def responses(planted, shift, seed=0, trials=24):
    """Random activity, larger in sentences for some neurons."""
    units = Units.of("neuron", range(LAYERS), NEURONS)
    conditions = np.tile(["sentence", "shuffled", "nonwords"], trials)
    values = np.abs(np.random.default_rng(seed).normal(1, 0.1, (len(conditions), units.size)))
    for unit in units.positions(planted):
        values[conditions == "sentence", unit] += shift
    return responding.Responses(
        conditions, np.repeat(np.arange(trials), 3).astype(str), values, units
    )


@pytest.fixture
def plant(monkeypatch):
    """Give some neurons a response to sentences, in selection and calibration trials."""

    def set_up(planted, shift=2.0):
        monkeypatch.setattr(
            own,
            "read_responses",
            lambda ground, task, kind, split="selection": responses(
                planted, shift, seed=len(split)
            ),
        )

    return set_up


def only_write_language(model, planted):
    """Let planted neurons be the only ones that write, and what they write the next word's."""
    with torch.no_grad():
        for layer, block in enumerate(model.model.layers):
            keep = [neuron for own_layer, neuron in planted if own_layer == layer]
            silent = [neuron for neuron in range(NEURONS) if neuron not in keep]
            block.mlp.down_proj.weight[:, silent] = 0


def test_a_response_is_ranked_by_its_t_whatever_the_scale():
    known = responses(PLANTED, 2.0)
    known.values[:, :20] *= 50
    scores = responding.response_scores(known, "sentence", "nonwords")
    best = known.units.named(np.argsort(-scores)[:4])
    assert set(best) == set(PLANTED)
    known.values[:, 11] = 3.0
    assert responding.response_scores(known, "sentence", "nonwords")[11] == -np.inf


def test_differences_of_means_are_resampled_apart(ground):
    first, second = (
        change_of(ground, carriers_of(ground, sentences(n)), values, is_rate=False)
        for n, values in (
            (30, np.random.default_rng(0).normal(1.0, 0.2, 30)),
            (50, np.random.default_rng(1).normal(0.4, 0.2, 50)),
        )
    )
    apart = losing.Apart(first, second)
    assert apart.effect.low < apart.effect.mean < apart.effect.high
    assert apart.effect.mean == pytest.approx(0.6, abs=0.1)
    assert (apart.effect.n, apart.effect.n_carriers) == (80, 30)
    assert apart.p_above(0.0) == 2 / 401
    assert apart.p_above(0.6) > 0.05
    assert losing.Apart(second, first).p_above(0.0) == 1.0


def sentences(n):
    return pd.DataFrame({"carrier_sentence": [str(i) for i in range(n)]})


def test_neurons_that_alone_write_beat_random_neurons_and_shams(ground, plant):
    plant(PLANTED)
    subject = silenced(ground.subject)
    outcome = own.run(replace(ground, subject=subject), OPTIONS)
    losses = outcome.tables["losses"].set_index(["percent", "behaviour", "who"])["lost"]
    assert losses[5, "language", "random, same layers"] == 0
    assert losses[5, "language", "most responsive"] != 0
    beyond = next(s for s in outcome.statements if s.claim == "neuron_beyond_words")
    assert beyond.p == pytest.approx(1 / 100)
    assert beyond.effect > 1.5
    assert outcome.tables["selected"]["units"].tolist() == [2, 2]


def silenced(subject):
    import copy

    model = copy.deepcopy(subject.model)
    only_write_language(model, PLANTED)
    return replace(subject, model=model)


def test_language_that_units_carry_is_lost_and_the_rest_is_not(ground, plant, monkeypatch):
    plant(PLANTED)
    monkeypatch.setattr(losing.Behaviour, "under", carried_by(PLANTED, language_only=True))
    found = decided(own.run(ground, OPTIONS))
    assert found["outcome"].tolist() == ["holds"] * 4
    assert found.loc["neuron_language", "p"] == pytest.approx(1 / 100)
    monkeypatch.setattr(losing.Behaviour, "under", carried_by(PLANTED, language_only=False))
    found = decided(own.run(ground, OPTIONS))
    assert found.loc["neuron_language", "outcome"] == "holds"
    assert (
        "holds"
        not in found.loc[["neuron_not_arithmetic", "neuron_not_copying"], "outcome"].tolist()
    )


def test_units_that_carry_nothing_do_not_hold(ground, plant, monkeypatch):
    plant(PLANTED, shift=0.0)
    monkeypatch.setattr(losing.Behaviour, "under", carried_by([], language_only=True))
    found = decided(own.run(ground, OPTIONS))
    assert "holds" not in found["outcome"].tolist()
    assert found.loc["neuron_language", "outcome"] == "fails"


def carried_by(units, language_only):
    """Log-probabilities that fall by .3 for every unit that is off, and a little at random."""

    def under(self, plans):
        said = len(self._prompts[0]) == 1  # sentences follow <bos> alone
        size = len(plans), len(self._prompts)
        noise = np.random.default_rng(len(plans[0].units)).normal(0, 0.01, size)
        lost = [0.3 * len(set(plan.units) & set(units)) for plan in plans]
        felt = np.array(lost)[:, None] * (said or not language_only)
        return -1 - felt + noise

    return under


def decided(outcome):
    rows = statement_rows("planted", "language_network", outcome.statements, 0.05)
    return rows.set_index("claim")


def test_answers_that_the_subject_does_not_know_are_not_compared(ground, plant):
    plant(PLANTED)
    outcome = own.run(ground, replace(OPTIONS, baseline=0.9))
    compared = [own_ for own_ in outcome.statements if "_not_" in own_.claim]
    assert [own_.testable for own_ in compared] == [False, False]
    assert "probability" in compared[0].reason


def test_a_kind_that_the_subject_lacks_is_not_testable(ground):
    bare = replace(ground.subject, anatomy=replace(ground.subject.anatomy, dense_layers=()))
    outcome = own.run(replace(ground, subject=bare), OPTIONS)
    assert {own_.reason for own_ in outcome.statements} == {
        "the subject has no neurons of dense MLPs"
    }
    assert outcome.figures == []


def test_a_sentence_that_begins_the_text_is_refused(ground):
    trials = ground.stimuli["language"]
    cut = trials.assign(prompt=trials["content"])
    with pytest.raises(EvidenceError, match="must have a token before the sentence"):
        own.run(replace(ground, stimuli={**ground.stimuli, "language": cut}), OPTIONS)
