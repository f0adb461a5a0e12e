"""The benchmark of whole models: what it compares, and that it runs at all."""

import pytest
import torch

from benchmarks.sparsity import decode

READ = {"TEAL 50 %": 60.0, "CATS 50 %": 80.0, "20 % of neurons kept": 50.0}


@pytest.fixture
def measured(monkeypatch):
    """Measurements in which every plan reaches a share of its ideal."""

    def make(share: float) -> None:
        # A spell of slow memory changes both of a pair, and one odd burst changes nothing.
        dense = [decode.BURST * 100.0 * slow for slow in (1.0, 2.0, 3.0)]
        spent = {n: [[own * READ[n] / share / 100 for own in dense], dense] for n in READ}
        for own, _ in spent.values():
            own[2] /= 7
        spent["transformers"] = [[999.0] * 3, dense]
        found = {"bytes": 100, "read": READ, "cpu": spent, "wall": spent}
        monkeypatch.setattr(decode, "_measured", lambda *sizes: found)

    return make


@pytest.mark.parametrize(("share", "status"), [(0.86, "held"), (0.84, "failed")])
def test_the_ideal_is_the_ratio_of_bytes(measured, share, status):
    measured(share)
    rows = list(decode.whole_model(bursts=1))
    decided = [row for row in rows if row.bar.startswith("at least")]
    assert [row.status for row in decided] == [status] * 3
    assert decided[0].ratio == pytest.approx(share * 100 / 60)
    assert decided[0].bar == "at least 0.85 of 1.67"
    printed = [row for row in rows if row not in decided]
    assert {row.status for row in printed} == {"held"} and len(printed) == 5


def test_a_small_model_is_measured(monkeypatch):
    for name, size in {"HIDDEN": 64, "NEURONS": 160, "HEADS": 2, "VOCABULARY": 50}.items():
        monkeypatch.setattr(decode, name, size)
    threads = torch.get_num_threads()
    found = decode.measure(threads, layers=2, bursts=2)
    assert found["bytes"] == 2 * (2 * (4 * 64 * 64 + 3 * 64 * 160) + 64 * 50)
    assert found["read"]["all kept"] == found["read"]["CATS 0 %"] == found["bytes"]
    neurons = 2 * 2 * 3 * 64 * 160
    assert found["read"]["20 % of neurons kept"] == found["bytes"] - 0.8 * neurons
    assert 0.4 < found["read"]["TEAL 50 %"] / found["bytes"] < 0.8
    for clock in ("cpu", "wall"):
        assert set(found[clock]) == {"transformers", *decode.PLANS}
        assert {len(own) for pair in found[clock].values() for own in pair} == {2}
        assert all(seconds > 0 for pair in found[clock].values() for own in pair for seconds in own)
