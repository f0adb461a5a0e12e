"""The stage on a recording of the tiny subject: files, labels, reasons, the same bits again."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lmri.config import EncodeOptions, RecordOptions, SplitOptions, TaskOptions, WorldOptions
from lmri.encode import encode_subject
from lmri.encode.activity import blocks, select_trials, units_of
from lmri.errors import EvidenceError
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.store import open_recording, read_map, read_table

OPTIONS = EncodeOptions(
    tasks=("relations",),
    kinds=("expert", "head", "residual", "expert_neuron", "neuron"),
    phases=("prompt_last", "response", "think"),
    levels=("trials", "tokens"),
    dimensions=4,
    folds=3,
    candidates=3,
    draws=9,
    subspace_draws=3,
    subspace_trials=12,
)


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory):
    table = tmp_path_factory.mktemp("stimuli") / "relations.parquet"
    write_stimuli(
        out=table,
        task="relations",
        options=TaskOptions("relations", "world"),
        splits=SplitOptions(0.5, 0.3, 0.2),
        world=WorldOptions(size="small"),
        seed=0,
        provenance={},
    )
    return table


@pytest.fixture(scope="module")
def recordings(tiny_model_folder, stimuli, tmp_path_factory):
    out = tmp_path_factory.mktemp("recordings") / "tiny"
    (out / "relations").mkdir(parents=True)
    for shard in range(2):
        store = out / "relations" / f"{shard}.zarr"
        record_task(
            out=store,
            manifest=store.with_name(f"{shard}.zarr.manifest.json"),
            subject="tiny",
            model=tiny_model_folder,
            task="relations",
            stimuli=stimuli,
            shard=shard,
            options=RecordOptions(
                max_new_tokens=3,
                shards=2,
                quantities=("router", "head", "residual", "neuron"),
                full=("residual",),
            ),
            seed=0,
            provenance={"stage": "record"},
        )
    return out


@pytest.fixture(scope="module")
def encoded(recordings, tiny_model_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("encoded") / "tiny"
    encode_subject(
        subject="tiny",
        model=tiny_model_folder,
        recordings=recordings,
        out=out,
        tasks={"relations": ("place",)},
        options=OPTIONS,
        seed=0,
        provenance={"stage": "encode"},
    )
    return out


def _opened(recordings):
    folder = recordings / "relations"
    return [
        open_recording(folder / f"{i}.zarr", folder / f"{i}.zarr.manifest.json") for i in range(2)
    ]


def test_files_and_labels(encoded):
    names = {path.name for path in encoded.iterdir()}
    assert {
        "relations.expert.trials.zarr",
        "relations.head.trials.zarr",
        "relations.residual.trials.zarr",
        "relations.expert.tokens.zarr",
        "relations.residual.tokens.zarr",
        "relations.use.parquet",
        "left_out.json",
    } <= names
    found = read_map(encoded / "relations.residual.trials.zarr")
    assert found["r2"].dims == ("phase", "layer", "dimension")
    assert found["phase"].values.tolist() == ["prompt_last", "response"]
    assert "surprisal" in found["band"]
    assert set(found["interest"].values) >= {"condition", "embedding"}
    assert "all" in found["tested"]
    assert found.attrs["task"] == "relations"
    about = json.loads(found.attrs["about"])["prompt_last"]
    assert about["roles"]["surprisal"] == "nuisance"
    assert about["ceiling"].startswith("no ceiling")
    assert about["carriers"]["place"] >= 3
    assert about["draws"] == 9


def test_scores_hold_together(encoded):
    found = read_map(encoded / "relations.residual.trials.zarr").sel(phase="prompt_last")
    total = found["split"].sum("band")
    varies = np.isfinite(found["r2"])
    assert varies.any()
    assert total.values[varies] == pytest.approx(found["r2"].values[varies], abs=1e-4)
    p = found["p"].values[np.isfinite(found["p"].values)]
    assert p.min() >= 0.1 - 1e-6
    assert p.max() <= 1
    assert np.isnan(found["explainable"]).all()


def test_what_is_not_there_has_a_reason(encoded):
    reasons = json.loads((encoded / "left_out.json").read_text())
    assert "record.quantities" in reasons["relations.neuron.trials.prompt_last"]
    assert "None of the split" in reasons["relations.expert.trials.think"]
    assert "are not encoded" in reasons["relations.head.tokens.prompt_last"]
    assert "no variance" in reasons["relations.trials.prompt_last.numbers"]


def test_use_is_beside_random_subspaces(encoded):
    table = read_table(encoded / "relations.use.parquet")
    assert set(table["layer"]) == {0, 1}
    assert (table["draws"] == 3).all()
    assert table["random_share"].to_numpy() == pytest.approx(table["share"].to_numpy(), rel=0.05)
    assert (table["divergence"] >= -1e-6).all()
    assert table["p"].between(0.25, 1).all()
    assert table["overlap"].between(0, 1).all()


def test_the_same_bits_again(recordings, tiny_model_folder, encoded, tmp_path):
    encode_subject(
        subject="tiny",
        model=tiny_model_folder,
        recordings=recordings,
        out=tmp_path / "again",
        tasks={"relations": ("place",)},
        options=EncodeOptions.from_dict(
            {**OPTIONS.to_dict(), "kinds": ["head"], "levels": ["trials"]}
        ),
        seed=0,
        provenance={"stage": "encode"},
    )
    first, second = (
        read_map(folder / "relations.head.trials.zarr") for folder in (encoded, tmp_path / "again")
    )
    assert first.identical(second)


def test_activity_is_what_was_recorded_in_blocks_of_any_size(recordings, monkeypatch):
    shards = _opened(recordings)
    trials = select_trials(shards, "selection", "response")
    for kind in ("residual", "expert", "expert_neuron", "head"):
        units = units_of(shards, kind)
        monkeypatch.setattr("lmri.encode.activity.BLOCK_BYTES", 2**30)
        whole = list(blocks(trials, units))
        assert len(whole) == 1
        monkeypatch.setattr("lmri.encode.activity.BLOCK_BYTES", 8 * len(trials.table) * 5)
        parts = list(blocks(trials, units))
        assert len(parts) > 1
        assert [own.start for own, _ in parts[1:]] == [own.stop for own, _ in parts[:-1]]
        assert (np.concatenate([own for _, own in parts], axis=1) == whole[0][1]).all()
    monkeypatch.setattr("lmri.encode.activity.BLOCK_BYTES", 2**30)
    rates = next(blocks(trials, units_of(shards, "expert")))[1].reshape(len(trials.table), 2, -1)
    assert rates.sum(2) == pytest.approx(2)  # two experts of every token
    first = trials.table["trial"].iloc[0]
    row = int(np.flatnonzero(shards[0].trials["trial"] == first)[0])
    array = shards[0].array("pooled/head/norm")
    phases = [str(own) for own in shards[0].array("pooled/head/phase")[:]]
    head = next(blocks(trials, units_of(shards, "head")))[1]
    assert head[0] == pytest.approx(array[row, phases.index("response"), 0].ravel())


def test_neurons_of_experts_from_pools_are_those_of_tokens(recordings):
    """What pools hold, made of the tokens that this recording has."""
    shards = _opened(recordings)
    trials = select_trials(shards, "selection", "content")
    full = np.concatenate([own for _, own in blocks(trials, units_of(shards, "expert_neuron"))], 1)
    pooled = replace(trials, recordings=tuple(_Pooled(own) for own in shards))
    found = [own for _, own in blocks(pooled, units_of(pooled.recordings, "expert_neuron"))]
    assert np.concatenate(found, axis=1) == pytest.approx(full, abs=1e-6)
    assert full.any()


class _Pooled:
    """A recording whose neurons of experts are pooled by trial, phase, layer and expert."""

    def __init__(self, recording):
        self._recording, self.trials, self.path = recording, recording.trials, recording.path
        index = {name: recording.array(f"tokens/index/{name}")[:] for name in ("trial", "phase")}
        ids = recording.array("tokens/router/expert_id")[:]
        values = recording.array("tokens/expert_neuron/activation")[:]
        sums = {}
        for token, layer, slot in np.ndindex(ids.shape):
            key = (index["trial"][token], index["phase"][token], layer, ids[token, layer, slot])
            sums[key] = sums.get(key, 0) + values[token, layer, slot].astype(np.float32)
        keys = np.array(list(sums))
        names = ("trial", "phase", "layer", "expert")
        self._pools = dict(zip(names, keys.T, strict=True)) | {"sum": np.stack([*sums.values()])}

    def holds(self, name):
        return name == "pooled/expert_neuron/sum" or (
            "expert_neuron" not in name and self._recording.holds(name)
        )

    def array(self, name):
        if not name.startswith("pooled/expert_neuron/"):
            return self._recording.array(name)
        own = self._pools[name.rpartition("/")[2]].view(_Attributed)
        own.attrs = self._recording.array("tokens/index/phase").attrs
        return own

    def stream(self, *names):
        if not names[0].startswith("pooled/expert_neuron/"):
            yield from self._recording.stream(*names)
        else:
            yield tuple(self._pools[name.rpartition("/")[2]] for name in names)


class _Attributed(np.ndarray):
    pass


def test_a_task_that_was_not_recorded_is_refused(tiny_model_folder, tmp_path):
    with pytest.raises(EvidenceError, match="no recording"):
        encode_subject(
            subject="tiny",
            model=tiny_model_folder,
            recordings=tmp_path,
            out=tmp_path / "out",
            tasks={"relations": ()},
            options=OPTIONS,
            seed=0,
            provenance={},
        )
    assert not (tmp_path / "out").exists()


def test_a_split_without_trials_is_refused(recordings):
    with pytest.raises(EvidenceError, match="None of the split 'unheard'"):
        select_trials(_opened(recordings), "unheard", "response")


def test_units_that_are_all_constant_are_refused(recordings, monkeypatch):
    import lmri.encode.analysis as analysis
    from lmri.encode.bands import Layout
    from lmri.encode.ceiling import honest_repeats
    from lmri.encode.folds import carrier_folds
    from lmri.encode.ridge import search_of

    shards = _opened(recordings)
    trials, units = select_trials(shards, "selection", "response"), units_of(shards, "head")
    n = len(trials.table)
    monkeypatch.setattr(
        analysis, "blocks", lambda *own: iter([(slice(0, 8), np.full((n, 8), 3.0))])
    )
    folds = carrier_folds(trials.table, 3, 0, "a test")
    X = np.random.default_rng(0).normal(size=(n, 2))
    layout = Layout(("b",), ("interest",), (2,))
    design = analysis.Design(X, layout, folds, search_of(1, 1, 0))
    with pytest.raises(EvidenceError, match=r"'head' in 'response' needs units that vary. All 8"):
        analysis.encode_trials(
            trials, units, design, honest_repeats(pd.DataFrame(trials.table), "response"), {}
        )
