"""Logit lens: the last layer is the model, known distributions, what it is a bound of."""

import numpy as np
import pytest
import torch
from families import FAMILIES, tokens

from lmri.errors import EvidenceError
from lmri.information import lens
from lmri.information.lens import lens_profile, lens_statistics

DECODERS = sorted(set(FAMILIES) - {"bert"})


def some_texts(kind, lengths=(14, 9, 14, 4)):
    rows = tokens(kind, len(lengths), max(lengths)).numpy()
    return [
        (row[:n], np.r_[np.zeros(n - 2, int), 1, 1]) for row, n in zip(rows, lengths, strict=True)
    ]


@pytest.mark.parametrize("kind", DECODERS)
def test_the_last_layer_says_what_the_model_says(kind, subject_of, record_texts):
    subject, texts = subject_of(kind), some_texts(kind)
    found = lens_profile([record_texts(texts)], subject, split=None)
    entropies, surprises = ([], []), ([], [])
    for ids, spans in texts:
        logits = subject.model(input_ids=torch.tensor(ids)[None]).logits[0].double()
        logs = logits.log_softmax(-1)
        entropy = -(logs.exp() * logs).sum(-1).numpy()
        surprise = -logs[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()
        for phase in (0, 1):
            entropies[phase].extend(entropy[spans == phase])
            surprises[phase].extend(surprise[spans[:-1] == phase])
    last = found.isel(layer=-1)
    expected = [np.mean(own) for own in entropies]
    np.testing.assert_allclose(last["entropy"], expected, rtol=1e-4)
    np.testing.assert_allclose(last["cross_entropy"], [np.mean(s) for s in surprises], rtol=1e-4)
    np.testing.assert_allclose(last["divergence"], 0, atol=1e-6)
    np.testing.assert_array_equal(last["agreement"], 1)
    assert found["layer"].values.tolist() == [-1, 0, 1]
    assert found["tokens"].values.tolist() == [33, 8]
    assert found["targets"].values.tolist() == [33, 4]
    assert (found["divergence"][:, :-1] > 0).all()


def test_an_encoder_is_read_through_its_head(subject_of, record_texts):
    subject, texts = subject_of("bert"), some_texts("bert")
    found = lens_profile([record_texts(texts)], subject, split=None)
    logits = [subject.model(input_ids=torch.tensor(ids)[None]).logits[0] for ids, _ in texts]
    logs = torch.cat([own[:-2] for own in logits]).double().log_softmax(-1)
    expected = -(logs.exp() * logs).sum(-1).mean()
    assert float(found["entropy"][0, -1]) == pytest.approx(float(expected), rel=1e-4)
    assert np.isnan(found["cross_entropy"]).all()
    assert (found["information_flags"] == "").all()


def test_batches_and_slices_change_nothing(subject_of, record_texts, monkeypatch):
    subject, recording = subject_of("llama"), record_texts(some_texts("llama"))
    whole = lens_profile([recording], subject, split=None)
    monkeypatch.setattr(lens, "LOGITS_AT_ONCE", 300)
    monkeypatch.setattr(lens, "BATCHES_AHEAD", 1)
    parts = lens_profile([recording], subject, split=None, batch_tokens=14)
    for name in ("entropy", "divergence", "cross_entropy"):
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-5)


def test_known_distributions():
    even, sure = torch.zeros(4), torch.tensor([50.0, 0, 0, 0])
    states = torch.stack([torch.stack([even, sure]), torch.stack([sure, even])])
    statistics, surprise = lens_statistics(lambda rows: rows, states, torch.tensor([0, 1]))
    log4 = np.log(4)
    # Told by one that is sure: ln 4 from the even one. Told by the even one: -ln 4 - (3/4) (-50).
    expected = [[[log4, log4, 1], [0, 0, 1]], [[0, 37.5 - log4, 1], [log4, 0, 1]]]
    np.testing.assert_allclose(statistics, expected, atol=1e-6)
    np.testing.assert_allclose(surprise, [[log4, 0], [50, log4]], atol=1e-6)


def test_information_is_against_the_unigrams_of_other_trials(subject_of, record_texts):
    subject = subject_of("llama")
    ids = np.array([3, 4, 3, 4, 3])
    texts = [(ids, np.zeros(5, int)), (np.array([3, 4, 4, 4, 3]), np.zeros(5, int))]
    recording = record_texts(texts, ["selection", "evaluation"])
    found = lens_profile([recording], subject)
    # After Laplace: 4 was met 3 times and 3 once, in 128 words.
    expected = -np.mean(np.log([4 / 132, 2 / 132, 4 / 132, 2 / 132]))
    assert float(found["unigram"][0]) == pytest.approx(expected)
    gained = found["unigram"] - found["cross_entropy"]
    np.testing.assert_allclose(found["information"], gained)
    assert found.attrs["texts"] == 1
    # A random model knows less than unigrams do; the error of one text is unknown.
    assert found["information_flags"][0].values.tolist() == ["negativity"] * 3
    assert np.isnan(found["information_error"]).all()
    alone = lens_profile([record_texts(texts)], subject)
    assert alone["information_flags"][0].values.tolist() == ["no_null"] * 3
    assert np.isfinite(alone["cross_entropy"][0]).all()


def test_what_cannot_be_read(subject_of, record_texts):
    subject = subject_of("llama")
    with pytest.raises(EvidenceError, match="The split 'evaluation' has none"):
        lens_profile([record_texts(some_texts("llama"))], subject, split="evaluation")
    with pytest.raises(EvidenceError, match="at least one recording"):
        lens_profile([], subject)
    with pytest.raises(EvidenceError, match="must be finite"):
        lens_statistics(
            lambda rows: rows, torch.full((1, 2, 4), torch.nan), torch.zeros(1, dtype=int)
        )
    recording = record_texts(some_texts("llama"))
    recording.attributes["without"] = {"units": [[0, 1]], "mode": "mask"}
    with pytest.raises(EvidenceError, match=r"0.zarr: .* made with 'record.without'"):
        lens_profile([recording], subject)
