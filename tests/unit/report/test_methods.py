"""The methods paragraphs say what was done, and nothing that was not."""

from dataclasses import replace

import pandas as pd
import pytest

from lmri.config import CausalOptions, ExampleOptions, ProbeOptions, RecordOptions, load_study
from lmri.examples.facets import DRAWS
from lmri.localise import measures
from lmri.report.inputs import StudyInputs
from lmri.report.kinds import CAUSAL
from lmri.report.methods import CAUSAL_SOURCES, DEFINITIONS, describe_methods


@pytest.fixture(scope="module")
def config(repository):
    return load_study(repository / "config/config.yaml")


def described(config) -> str:
    return " ".join(describe_methods(StudyInputs(config, [], pd.DataFrame())))


def test_greedy_responses(config):
    assert "Responses are greedy, of at most 10 tokens; encoders give none." in described(config)


def test_sampled_responses(config):
    sampled = replace(config, record=RecordOptions(temperature=0.6, top_p=0.95, repeats=3))
    assert "Responses are sampled (temperature 0.6, top-p 0.95, 3 to each trial), of at most" in (
        described(sampled)
    )


def test_examples_are_described_where_they_were_looked_for(config):
    text = described(config)
    assert "the strongest 4 units of every finding" in text
    assert "Of each unit the 24 trials farthest" in text
    assert f"{DRAWS} tables with exchanged tokens" in text
    assert "For illustration" not in described(replace(config, examples=ExampleOptions()))


def test_without_a_claim_no_rule_of_a_verdict_is_described(config):
    kept = {name: c for name, c in config.contrasts.items() if c.role == "exploratory"}
    text = described(replace(config, contrasts=kept))
    assert "The score of an expert is its routing rate" in text
    assert "Confirmed:" not in text and "sham maps" not in text
    assert "Confirmed:" in described(config)


def test_claims_are_described_as_they_were_made(config):
    text = described(config)
    assert "findings claim specificity, sufficiency, dose and transfer." in text
    assert "at most 16 evaluation trials, run again" in text and "Besag" not in text
    none = replace(config, validate=replace(config.validate, claims=()))
    assert "Beside necessity" not in described(none)
    stopping = replace(config, evidence=replace(config.evidence, stop_after=9))
    assert "end at the 9th that does as much" in described(stopping)


def test_every_statistic_that_was_used_is_defined_once(config):
    maps = ("expert.resonance", "head.welch_t", "layer.welch_t", "neuron.average_precision")
    text = described(replace(config, localise=replace(config.localise, maps=maps)))
    assert text.count("The t of Welch (1947)") == 1
    assert "arXiv 2411.02280" in text
    assert "arXiv 2502.17355" in text
    assert "max-statistic" in text and "Split halves" in text
    assert "conditional on routing" not in text


def test_every_statistic_has_a_definition():
    assert {*measures.STATISTICS, *measures.COUNTED} <= set(DEFINITIONS)


def test_one_map_has_no_others(config):
    text = described(replace(config, localise=replace(config.localise, maps=("head.d_prime",))))
    assert "The score of a head is the d prime of its norm of the output." in text
    assert "All others are exploratory" not in text


def test_causal_maps_and_probes_are_described_with_their_sources(config):
    assert "Causal maps" not in described(config)
    causal = CausalOptions(("refusal",), ("relp", "patch_denoise"), metric="logit_difference")
    localise = replace(config.localise, causal=causal, probes=ProbeOptions(needle="events"))
    text = described(replace(config, localise=localise))
    assert "Causal maps (refusal): target trials (clean) were paired" in text
    assert "Rezaei Jafari et al., arXiv 2508.21258" in text
    assert "attribution patching" not in text
    assert "compared with patching on all units" in text
    assert "patching in one direction alone has no p-value" in text
    assert "retrieval of a needle (Wu et al." in text
    assert "induction on repeated" not in text


def test_every_causal_method_has_a_source():
    assert set(CAUSAL_SOURCES) == set(CAUSAL)


def test_exchange_within_a_carrier_is_described(config):
    refusal = replace(config.contrasts["refusal"], within="place", null_condition=None)
    text = described(replace(config, contrasts={"refusal": refusal}))
    assert "within each place." in text
    assert "a control trial of each place, drawn at random, plays the target" in text
    assert "exchange labels only among the trials of one value" in text
    assert "exchange labels only" not in described(config)
