"""Profiles by layer and phase of a real recording."""

import tracemalloc
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

from lmri.errors import EvidenceError
from lmri.information import profiles
from lmri.information.clustered import ClusteredMeans
from lmri.information.geometry import intrinsic_dimension
from lmri.information.profiles import layer_profiles
from lmri.information.spectral import matrix_spectrum, spectrum
from lmri.information.states import States


@pytest.fixture(scope="module")
def by_trial(recorded):
    """Profile of pooled states of all trials."""
    return layer_profiles(recorded, split=None)


def rows_of(states, layer, phase):
    return [own.values for own in states.rows(layer, [states.phases.index(phase)])]


def test_trials_are_profiled_as_whole_arrays_are(recorded, by_trial):
    states = States(recorded, split=None)
    for layer in (-1, 1):
        rows = np.concatenate(rows_of(states, layer, "content"))
        own = by_trial.sel(phase="content", layer=layer)
        raw = spectrum(rows)
        assert int(own["samples"]) == len(rows) == states.trials
        assert float(own["entropy"].sel(scaling="raw")) == pytest.approx(raw.entropy())
        for scaling in ("raw", "standardised", "trimmed"):
            expected = spectrum(rows, scaling).participation_ratio
            assert float(own["participation_ratio"].sel(scaling=scaling)) == pytest.approx(expected)
        matrix = matrix_spectrum(rows)
        assert float(own["dataset_entropy"]) == pytest.approx(matrix.entropy())
        assert float(own["coding_rate"].sel(epsilon=0.5)) == pytest.approx(matrix.coding_rate(0.5))
        dimension = intrinsic_dimension(rows)
        assert float(own["dimension_two_nn"]) == pytest.approx(dimension.value)
        variance = np.square(rows - rows.mean(0)).sum() / len(rows)
        noisy = 0.5 * np.log1p(raw.eigenvalues / np.square(rows).mean()).sum()
        assert float(own["gaussian_information"].sel(noise=1.0)) == pytest.approx(noisy)
        assert raw.eigenvalues.sum() == pytest.approx(variance)
    # Fourteen trials of 32 dimensions can show no rank.
    assert (own["participation_ratio_flags"] == "ceiling").all()
    assert (by_trial["rank_ceiling"].sel(phase="content") == states.trials - 1).all()


def test_a_state_that_is_the_same_in_all_trials_has_no_profile(by_trial):
    # The last token of every prompt is that of the template.
    own = by_trial.sel(phase="prompt_last", layer=-1)
    assert str(own["spectrum_flags"].values) == "constant"
    assert np.isnan(own["entropy"]).all() and np.isnan(own["dimension_two_nn"])
    assert int(own["samples"]) > 2
    assert np.isfinite(by_trial["entropy"].sel(phase="prompt_last", layer=0)).all()


def test_tokens_and_prompts(recorded):
    found = layer_profiles(recorded, level="tokens", split=None)
    texts = rows_of(States(recorded, "tokens", None), 0, "response")
    own = found.sel(phase="response", layer=0)
    assert int(own["samples"]) == sum(map(len, texts))
    expected = spectrum(np.concatenate(texts)).participation_ratio
    assert float(own["participation_ratio"].sel(scaling="raw")) == pytest.approx(expected)
    prompts = ClusteredMeans((1,))
    for rows in texts:
        if len(rows) > 1 and np.ptp(rows, axis=0).any():
            prompts.add(np.array([matrix_spectrum(rows).entropy()]), np.ones(1))
    assert float(own["prompt_entropy"]) == pytest.approx(prompts.mean()[0])
    assert float(own["prompt_entropy_error"]) == pytest.approx(prompts.error()[0])
    assert "dependent_tokens" in str(own["dimension_two_nn_flags"].values)
    assert np.isnan(found["prompt_entropy"].sel(phase="prompt_last")).all()


def test_less_memory_gives_the_same(recorded, by_trial):
    found = layer_profiles(recorded, split=None, memory=1)
    assert found.identical(by_trial)


def test_a_subject_adds_the_logit_lens(recorded, tiny_subject):
    found = layer_profiles(recorded, tiny_subject, scalings=["raw"])
    assert found["scaling"].values.tolist() == ["raw"]
    last = found.isel(layer=-1)
    np.testing.assert_allclose(last["lens_divergence"].sel(phase="response"), 0, atol=1e-6)
    assert np.isnan(found["lens_entropy"].sel(phase="prompt_last")).all()
    assert (found["lens_information_flags"].sel(phase="prompt_last") == "").all()
    recorded_surprise = []
    for recording in recorded:
        phase = recording.array("tokens/index/phase")
        code = phase.attrs["phases"].index("response")
        split = (recording.trials["split"] == "selection").to_numpy()
        inside = (phase[:] == code) & split[recording.array("tokens/index/trial")[:]]
        recorded_surprise.append(recording.array("tokens/index/logp_next")[:][inside])
    surprise = np.concatenate(recorded_surprise)
    expected = -np.nanmean(surprise)
    assert float(last["lens_cross_entropy"].sel(phase="response")) == pytest.approx(expected, 1e-4)


def test_what_cannot_be_profiled(recorded):
    with pytest.raises(EvidenceError, match="The split 'none' has none"):
        layer_profiles(recorded, split="none")


class Endless:
    """A recording of any number of trials whose states are made when they are read."""

    attributes = MappingProxyType({"phases": ["content"]})
    path = "0.zarr"

    def __init__(self, trials):
        self.trials = pd.DataFrame({"split": ["selection"] * trials})

    def holds(self, name):
        return name.startswith("pooled/residual/")

    def array(self, name):
        labels = {"statistic": ["mean"], "layer": [0], "place": ["before", "after"]}
        key = name.rpartition("/")[2]
        return np.array(labels[key]) if key in labels else StatesOnDemand(len(self.trials))


class StatesOnDemand:
    """The array of their states."""

    chunks = (128,)

    def __init__(self, trials):
        self.shape = (trials, 1, 1, 1, 2, 48)

    def __getitem__(self, key):
        rows = range(*key[0].indices(self.shape[0]))
        return np.random.default_rng(rows.start).standard_normal((len(rows), 1, 48))


def test_memory_does_not_grow_with_trials(monkeypatch):
    monkeypatch.setattr(profiles, "POINTS", 100)

    def peak(trials):
        recording = Endless(trials)
        tracemalloc.start()
        found = layer_profiles([recording])
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert int(found["samples"][0, 0]) == trials
        return most

    assert peak(20_000) < 1.5 * peak(1000)
