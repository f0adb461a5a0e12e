"""Neurons of experts are kept in the smaller way, the same in all shards of a task."""

import re

import numpy as np
import pandas as pd
import pytest
from families import configuration, random_model

from lmri.anatomy import Subject, describe
from lmri.config import RecordOptions
from lmri.errors import StimuliError
from lmri.record import job
from lmri.record.expert_storage import TRIALS, needs_choice, typical_trials
from lmri.store import open_recordings, write_table

QUICK = {"full": ("router",), "max_new_tokens": 1, "quantities": ("router", "neuron")}
NEURONS = 16
"""Of an expert of the tiny subject."""


def lengthened(trials, longer):
    """Say the content of some trials twenty times."""
    content = trials["content"].where(
        ~longer, trials["content"].map(lambda own: f"{own} " * 19 + own)
    )
    prompts = [
        prompt.replace(short, own)
        for prompt, short, own in zip(trials["prompt"], trials["content"], content, strict=True)
    ]
    return trials.assign(prompt=prompts, content=content)


@pytest.fixture
def tables(stimuli, tmp_path):
    """Tables of eight trials: short ones, long ones, and in turn."""
    trials = pd.read_parquet(stimuli).query("task == 'copying'").head(TRIALS)
    trials = trials.assign(split="selection").reset_index(drop=True)
    number = np.arange(len(trials))
    for name, longer in (("short", number < 0), ("long", number >= 0), ("turns", number % 2 == 1)):
        write_table(tmp_path / f"{name}.parquet", lengthened(trials, longer))
    return tmp_path


def kept(record, tables, name, shards=1, **options):
    """Record all shards of a table; returns what is kept of neurons, and the tree."""
    for shard in range(shards):
        table = tables / f"{name}.parquet"
        record(tables / name, shard, table, shards=shards, **QUICK, **options)
    tree = open_recordings(tables / name)
    pooled = "/pooled/expert_neuron" in tree.groups
    assert pooled == ("/tokens/expert_neuron" not in tree.groups)
    return tree["pooled/expert_neuron" if pooled else "tokens/expert_neuron"].dataset, tree


@pytest.mark.parametrize("when", ["after", "during"])
def test_what_is_smaller_is_kept_and_the_bytes_are_told(record, tables, when):
    long, _ = kept(record, tables, "long", when=when)
    told = re.match(r"pooled: (\d+) bytes in full, (\d+) pooled", long["sum"].attrs["storage"])
    full, pooled = (int(number) for number in told.groups())
    assert pooled < full
    if when == "after":  # the last token of a response is not run otherwise
        assert pooled == long.sizes["pool"] * (NEURONS * 2 * 4 + 13)
    short, _ = kept(record, tables, "short", when=when)
    values = short["activation"]
    told = re.match(r"full: (\d+) bytes in full, (\d+) pooled", values.attrs["storage"])
    full, pooled = (int(number) for number in told.groups())
    assert full <= pooled
    if when == "after":
        assert full == values.size * values.dtype.itemsize


def test_shards_of_one_task_are_kept_alike(record, tables):
    """Alone, that of the short trials would be kept in full and that of the long ones pooled."""
    pools, tree = kept(record, tables, "turns", shards=2)
    assert pools["sum"].attrs["storage"].startswith("pooled: ")
    assert set(pools["shard"].values) == {0, 1}
    lengths = tree["trials"]["n_prompt"].values
    shard = tree["trials"]["shard"].values
    assert lengths[shard == 0].max() < lengths[shard == 1].min()


def test_repeats_of_sampled_responses_are_kept_as_one_of_each_would_be(record, tables):
    once, _ = kept(record, tables, "turns", shards=2, temperature=1.0)
    told = once["sum"].attrs["storage"]
    (tables / "turns").rename(tables / "once")
    twice, _ = kept(record, tables, "turns", shards=2, temperature=1.0, repeats=2)
    assert twice["sum"].attrs["storage"] == told


def test_prompts_of_other_shards_are_read_before_the_subject_is_loaded(record, tables, monkeypatch):
    monkeypatch.setattr(job, "load_subject", lambda *args, **options: pytest.fail("loaded"))
    trials = pd.read_parquet(tables / "short.parquet")
    trials.loc[1, "prompt"] = trials["prompt"][1] * 40
    write_table(tables / "bad.parquet", trials)
    with pytest.raises(StimuliError, match=trials["trial"][1]):
        kept(record, tables, "bad", shards=2)


@pytest.mark.parametrize(("long", "found"), [(1, 4), (8, 100)])
def test_typical_trials_are_where_most_text_is(long, found):
    lengths = [4] * 20 + [100] * long + [4] * 20
    trials = pd.DataFrame({"prompt": ["a" * length for length in lengths]})
    middle = typical_trials(trials)["prompt"].str.len()
    assert len(middle) == TRIALS
    assert middle.median() == found


def test_few_trials_are_all_typical():
    trials = pd.DataFrame({"prompt": ["ccc", "a", "bb"]})
    assert typical_trials(trials)["prompt"].tolist() == ["a", "bb", "ccc"]


@pytest.mark.parametrize(
    ("architecture", "options", "needed"),
    [
        ("olmoe", {"quantities": ("neuron",), "full": ()}, True),
        ("olmoe", {"quantities": ("neuron",), "full": ("neuron",)}, False),
        ("olmoe", {"quantities": ("router",), "full": ()}, False),
        ("gpt2", {"quantities": ("neuron",), "full": ()}, False),
    ],
)
def test_only_pooled_neurons_of_experts_are_a_choice(architecture, options, needed):
    model = random_model(configuration(architecture))
    subject = Subject("tiny", model, None, describe(model))
    assert needs_choice(subject, RecordOptions(**options)) == needed
