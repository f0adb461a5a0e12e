"""The stages on a tiny study: what they write, and what they refuse."""

import pytest

from lmri.config import BottleneckOptions
from lmri.errors import EvidenceError, StoreError
from lmri.information.bottleneck import summarise_bottleneck, train_bottleneck
from lmri.store import read_table

TINY = BottleneckOptions(
    activations=("tanh", "relu"),
    l2=(0.0,),
    initialisations=2,
    epochs=3,
    measured=5,
    samples=64,
    bootstrap=100,
)


def train(folder, setting, options=TINY):
    out = folder / setting
    train_bottleneck(setting=setting, out=out, options=options, seed=0, provenance={"a": 1})
    return out


def summarise(folder, out, options=TINY):
    summarise_bottleneck(settings=folder, out=out, options=options, seed=0, provenance={"a": 1})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings")
    for setting in TINY.settings:
        train(folder, setting)
    return folder


def test_training_writes_every_network_layer_and_channel(trained):
    information = read_table(trained / "relu/information.parquet")
    assert len(information) == 4 * 2 * 6 * 4  # epochs, networks, layers, channels
    assert set(information["epoch"]) == {0, 1, 2, 3}
    assert set(information["setting"]) == {"relu"}
    assert (information["i_xt"] >= -1e-9).all()
    assert len(read_table(trained / "relu/training.parquet")) == 4 * 2


def test_training_again_gives_the_same_bytes(trained, tmp_path):
    again = train(tmp_path, "tanh")
    for name in ("information", "training"):
        file = f"{name}.parquet"
        assert (again / file).read_bytes() == (trained / "tanh" / file).read_bytes()


def test_summary_of_networks_that_have_not_learned_says_nothing(trained, tmp_path):
    summarise(trained, tmp_path / "summary")
    found = {path.stem: read_table(path) for path in (tmp_path / "summary").iterdir()}
    assert set(found) == {"networks", "planes", "scores", "compression", "claims"}
    assert set(found["claims"]["verdict"]) == {"not decided"}
    assert found["networks"]["learned"].tolist() == [0, 0]
    assert found["compression"]["compression"].isna().all()
    assert found["planes"].empty and found["scores"].empty


def test_what_is_missing_or_unknown_is_refused(trained, tmp_path):
    with pytest.raises(EvidenceError, match="'setting' of bottleneck must be one of"):
        train(tmp_path, "gelu")
    few = BottleneckOptions(activations=("tanh",), samples=5000)
    with pytest.raises(EvidenceError, match="'samples' of bottleneck"):
        train(tmp_path, "tanh", few)
    with pytest.raises(EvidenceError, match=r"must name 'bottleneck\.activations'"):
        summarise(trained, tmp_path / "summary", BottleneckOptions())
    more = BottleneckOptions(activations=("tanh", "elu"), l2=(0.0,))
    with pytest.raises(StoreError, match=r"elu/information\.parquet: no such table"):
        summarise(trained, tmp_path / "summary", more)
    assert not list(tmp_path.iterdir())
