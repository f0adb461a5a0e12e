"""States of recordings: rows of trials and of tokens, samples."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.states import Sample, States


def gathered(states, layer, phase):
    rows = list(states.rows(layer, [states.phases.index(phase)]))
    return np.concatenate([r.values for r in rows]), np.concatenate([r.owners for r in rows])


def test_pooled_states_are_those_of_the_split(recorded):
    states = States(recorded, split="selection", pooling="last")
    assert states.layers == [-1, 0, 1]
    values, owners = gathered(states, 1, "content")
    expected, start, numbers = [], 0, []
    for recording in recorded:
        chosen = np.flatnonzero(recording.trials["split"] == "selection")
        expected.append(recording.array("pooled/residual/residual")[:][chosen, 1, 1, 1, 2])
        numbers.append(start + chosen)
        start += len(recording.trials)
    np.testing.assert_array_equal(values, np.concatenate(expected))
    np.testing.assert_array_equal(owners, np.concatenate(numbers))
    assert states.trials == len(values)
    before, _ = gathered(states, -1, "content")
    assert not np.allclose(before, values)


@pytest.mark.parametrize("phase", ["content", "prompt_last", "content_last", "response"])
def test_tokens_pool_to_what_was_pooled(recorded, phase):
    tokens, trials = States(recorded, "tokens", None), States(recorded, "trials", None)
    values, owners = gathered(tokens, 0, phase)
    pooled, every = gathered(trials, 0, phase)
    means = [values[owners == owner].mean(axis=0) for owner in every]
    np.testing.assert_allclose(means, pooled, rtol=1e-4, atol=1e-6)


def test_repeats_and_what_is_not_finite_are_no_rows(record_texts):
    states = np.arange(2.0 * 2 * 3).reshape(2, 1, 1, 1, 2, 3)
    states = np.concatenate([states, states, np.full_like(states, np.nan)])
    labels = {"statistic": ["mean"], "layer": [0], "place": ["before", "after"]}
    arrays = {"residual": states, **{name: np.array(own) for name, own in labels.items()}}
    arrays = {f"pooled/residual/{name}": own for name, own in arrays.items()}
    recording = record_texts([(np.arange(2), np.zeros(2, int))] * 6, block=4, **arrays)
    recording.attributes["phases"] = ["content"]
    recording.trials["repeat"] = [0, 0, 1, 1, 0, 0]
    found = States([recording])
    assert found.trials == 4
    values, owners = gathered(found, 0, "content")
    assert owners.tolist() == [0, 1]
    np.testing.assert_array_equal(values, states[:2, 0, 0, 0, 1])


def test_samples_do_not_depend_on_chunks(generator):
    rows, owners = generator.standard_normal((500, 3)), np.arange(500)
    whole, parts = Sample(40, seed=3), Sample(40, seed=3)
    whole.add(rows, owners)
    for chunk in np.array_split(np.arange(500), 23):
        parts.add(rows[chunk], owners[chunk])
    np.testing.assert_array_equal(whole.rows, parts.rows)
    np.testing.assert_array_equal(whole.rows, rows[whole.owners])
    assert len(whole.rows) == 40
    few = Sample(40)
    few.add(rows[:10], owners[:10])
    np.testing.assert_array_equal(few.rows, rows[:10])


def test_samples_are_uniform():
    counts = np.zeros(20)
    for seed in range(400):
        sample = Sample(5, seed)
        for start in range(0, 20, 4):
            own = np.arange(start, start + 4)
            sample.add(own[:, None].astype(float), own)
        counts[sample.owners] += 1
    np.testing.assert_allclose(counts, 100, atol=35)  # four deviations


def test_recordings_without_states(recorded, record_texts):
    bare = record_texts([(np.arange(2), np.zeros(2, int))])
    with pytest.raises(EvidenceError, match=r"add 'residual' to 'record.quantities' of"):
        States([bare])
    with pytest.raises(EvidenceError, match=r"'record.quantities' and 'record.full'"):
        States([bare], "tokens")
    with pytest.raises(EvidenceError, match="The split 'none' has none"):
        States(recorded, split="none")
    with pytest.raises(EvidenceError, match="'level' of the states must be one of"):
        States(recorded, "layers")
    with pytest.raises(EvidenceError, match="'pooling' of the states must be one of"):
        States(recorded, pooling="max")
    with pytest.raises(EvidenceError, match="at least one recording"):
        States([])
