"""Entropy of attention: planted heads, windows, a real recording, the lower bound."""

import numpy as np
import pytest
from scipy.optimize import minimize

from lmri.errors import EvidenceError
from lmri.information.attention_entropy import (
    attention_entropy_map,
    entropy_bound,
    logit_size,
    sliding_windows,
)

SIZE = 8


def patterns():
    """Heads that spread, look at themselves, and rest on the first token but spread otherwise."""
    seen = np.tril(np.ones((SIZE, SIZE)))
    even = seen / seen.sum(1, keepdims=True)
    rest = seen.copy()
    rest[:, 0] = 0
    rest = rest / np.maximum(rest.sum(1, keepdims=True), 1)
    sunk = 0.98 * np.eye(SIZE)[[0] * SIZE] + 0.02 * rest
    sunk[0] = np.eye(SIZE)[0]
    return np.stack([even, np.eye(SIZE), sunk])


def entropies(weights):
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.nan_to_num(weights * np.log(weights)).sum(-1)  # (heads, queries)


@pytest.fixture
def record_heads(record_texts):
    """A recording of one layer whose summaries are pooled as the recorder does."""

    def make(weights, spans, texts=1):
        rest = weights[..., 1:] / np.maximum(weights[..., 1:].sum(-1, keepdims=True), 1e-300)
        arrays = {"layer": np.array([0]), "phase": np.array(["prompt", "response"])}
        arrays["statistic"] = np.array(["mean", "sum", "count"])
        for name, values in (("entropy", entropies(weights)), ("entropy_rest", entropies(rest))):
            sums = np.stack([values[:, spans == code].sum(1) for code in (0, 1)])
            counts = np.repeat([[(spans == 0).sum()], [(spans == 1).sum()]], len(weights), axis=1)
            pooled = np.stack([np.full(sums.shape, np.nan), sums, counts], axis=1)[:, :, None]
            arrays[name] = np.stack([pooled] * texts)
        arrays = {f"pooled/attention/{name}": values for name, values in arrays.items()}
        return record_texts([(np.arange(len(spans)), spans)] * texts, **arrays)

    return make


def test_heads_that_spread_collapse_and_rest(record_heads):
    spans = np.r_[np.zeros(5, int), np.ones(3, int)]
    found = attention_entropy_map([record_heads(patterns(), spans, texts=3)], collapsed=0.2)
    every = found.sel(phase="response", layer=0)
    np.testing.assert_allclose(every["relative_entropy"].sel(measure="all")[:2], [1, 0], atol=1e-9)
    relative = every["relative_entropy"].sel(measure="without_first")
    np.testing.assert_allclose(relative, [1, 0, 1], atol=1e-9)
    # The third head looks collapsed, but only because it rests on the first token.
    assert float(every["collapsed_share"].sel(measure="all")) == pytest.approx(2 / 3)
    assert float(every["collapsed_share"].sel(measure="without_first")) == pytest.approx(1 / 3)
    assert float(every["overloaded_share"].sel(measure="without_first")) == pytest.approx(2 / 3)
    mean = np.log([6, 7, 8]).mean()
    assert float(every["entropy"].sel(measure="all")[0]) == pytest.approx(mean)
    assert found["queries"].values.tolist() == [15, 9]


def test_a_window_lowers_the_ceiling(record_heads):
    seen = np.tril(np.ones((SIZE, SIZE))) - np.tril(np.ones((SIZE, SIZE)), -3)
    even = (seen / seen.sum(1, keepdims=True))[None]
    recording = record_heads(even, np.zeros(SIZE, int))
    unaware = attention_entropy_map([recording])["relative_entropy"].sel(phase="prompt")
    assert float(unaware.sel(measure="all")[0, 0]) < 0.8
    aware = attention_entropy_map([recording], windows={0: 3})["relative_entropy"]
    np.testing.assert_allclose(aware.sel(phase="prompt"), 1, atol=1e-9)
    assert np.isnan(aware.sel(phase="response")).all()


def test_windows_of_architectures(subject_of):
    assert sliding_windows(subject_of("llama")) == {}
    assert sliding_windows(subject_of("mistral")) == {0: 8, 1: 8}
    assert sliding_windows(subject_of("gpt_oss")) == {0: 8}


def test_a_real_recording_agrees_with_its_tokens(recorded):
    found = attention_entropy_map(recorded, split=None)
    spans = recorded[0].array("tokens/index/phase").attrs["phases"]
    for name, measure in (("entropy", "all"), ("entropy_rest", "without_first")):
        sums, ceilings = 0.0, 0.0
        for recording in recorded:
            inside = recording.array("tokens/index/phase")[:] == spans.index("response")
            keys = recording.array("tokens/index/position")[:][inside] + (name == "entropy")
            sums = sums + recording.array(f"tokens/attention/{name}")[:][inside].sum(0)
            ceilings = ceilings + np.log(keys).sum()
        own = found["relative_entropy"].sel(measure=measure, phase="response")
        np.testing.assert_allclose(own, sums / ceilings, rtol=1e-5)
    assert (found["relative_entropy"].sel(phase="prompt_last") <= 1 + 1e-6).all()
    trials = sum(len(recording.trials) for recording in recorded)
    assert int(found["queries"].sel(phase="prompt_last")) == trials


@pytest.mark.parametrize(
    ("keys", "size", "published"), [(8, 2, 1.56830), (32, 6, 0.46526), (128, 10, 0.06088)]
)
def test_the_bound_is_the_least_entropy(keys, size, published):
    assert entropy_bound(size, keys) == pytest.approx(published, abs=5e-6)

    def entropy(logits):
        logits = size * logits / max(1e-12, np.linalg.norm(logits))
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        return -(weights * np.log(np.maximum(weights, 1e-300))).sum()

    start = np.r_[1.0, np.full(keys - 1, -0.1)]
    least = minimize(entropy, start, options={"maxiter": 200 if keys < 100 else 5}).fun
    assert least >= published - 1e-5
    if keys == 8:
        assert least == pytest.approx(published, abs=1e-4)


def test_the_bound_at_its_ends(generator):
    np.testing.assert_allclose(entropy_bound(0.0, np.array([1, 2, 9])), np.log([1, 2, 9]))
    assert np.all(np.diff(entropy_bound(np.linspace(0, 30, 50), 16)) < 0)
    queries, keys = generator.standard_normal((2, 6, 3))
    states = generator.standard_normal((10, 6))
    logits = states @ keys @ queries.T @ states.T / np.sqrt(3)
    size = logit_size(queries, keys, states)
    assert np.linalg.norm(logits, axis=0).max() <= size
    weights = np.exp(logits - logits.max(0))
    weights /= weights.sum(0)
    assert (-(weights * np.log(weights)).sum(0) >= entropy_bound(size, 10)).all()


def test_what_has_no_attention_entropy(record_heads, record_texts):
    ids = np.arange(3)
    with pytest.raises(EvidenceError, match=r"add 'attention' to 'record.quantities'"):
        attention_entropy_map([record_texts([(ids, np.zeros(3, int))])])
    recording = record_heads(patterns(), np.zeros(SIZE, int))
    with pytest.raises(EvidenceError, match="The split 'evaluation' has none"):
        attention_entropy_map([recording], split="evaluation")
    with pytest.raises(EvidenceError, match=r"'collapsed' of the attention entropy .* Got 2"):
        attention_entropy_map([recording], collapsed=2)
    with pytest.raises(EvidenceError, match="at least one recording"):
        attention_entropy_map([])
    with pytest.raises(EvidenceError, match="at least 0 and of at least 1 of 'keys'"):
        entropy_bound(-1.0, 4)
    with pytest.raises(EvidenceError, match=r"Got \(2, 3\), \(2, 3\) and \(4, 5\)"):
        logit_size(np.ones((2, 3)), np.ones((2, 3)), np.ones((4, 5)))
