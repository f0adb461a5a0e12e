"""Maps made again from other recordings of a subject."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from lmri.config import (
    ContrastOptions,
    EvidenceOptions,
    LocaliseOptions,
    RecordOptions,
    SparseOptions,
    SplitOptions,
    TaskOptions,
    WorldOptions,
)
from lmri.errors import EvidenceError, StoreError
from lmri.localise import compare_maps, localise_subject
from lmri.localise.survival import _compared
from lmri.localise.units import Units
from lmri.record import record_task
from lmri.sparse import calibrate_subject, record_sparse
from lmri.stimuli import write_stimuli
from lmri.store import read_map, read_table

PROVENANCE = {"subject": "5" * 64}
MAPS = ("expert.resonance", "head.welch_t", "layer.welch_t")
CONTRAST = ContrastOptions(
    "look", "events", role="exploratory", target=("sensitive",), controls=("benign",)
)
OPTIONS = LocaliseOptions(maps=MAPS, phases=("content", "response"), permutations=99)


@pytest.fixture(scope="module")
def study(tiny_model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("survival")
    write_stimuli(
        out=folder / "stimuli/events.parquet",
        task="events",
        options=TaskOptions("events", "world"),
        splits=SplitOptions(0.4, 0.3, 0.3),
        world=WorldOptions(size="small"),
        seed=0,
        provenance={},
    )
    for name, without in (("dense", None), ("other", {"units": [[1, 2]], "mode": "mask"})):
        record_task(
            out=folder / name / "events/0.zarr",
            manifest=folder / name / "events/0.zarr.manifest.json",
            subject="tiny",
            model=tiny_model_folder,
            task="events",
            stimuli=folder / "stimuli/events.parquet",
            shard=0,
            options=RecordOptions.from_dict(
                {"max_new_tokens": 2, **({"without": without} if without else {})}
            ),
            seed=0,
            provenance=PROVENANCE,
        )
    localise_subject(
        subject="tiny",
        model=tiny_model_folder,
        stimuli=folder / "stimuli",
        recordings=folder / "dense",
        maps=folder / "maps",
        findings=folder / "findings",
        tasks={"events": ()},
        contrasts=[CONTRAST],
        options=OPTIONS,
        evidence=EvidenceOptions(alpha=0.2),
        claims=1,
        seed=0,
        provenance={},
    )
    return folder


def compare(study, model, out, recordings="dense", maps=None):
    return compare_maps(
        subject="tiny",
        model=model,
        stimuli=study / "stimuli",
        maps=maps or study / "maps",
        recordings=study / recordings,
        out=out,
        contrasts=[CONTRAST],
        carriers={"events": ()},
        options=OPTIONS,
        evidence=EvidenceOptions(alpha=0.2),
        seed=0,
        provenance={"stage": "survive"},
    )


def test_the_same_recordings_give_the_same_maps(study, tiny_model_folder, tmp_path):
    table = compare(study, tiny_model_folder, tmp_path / "survival.parquet")
    assert list(table["kind"] + "." + table["method"]) == [*MAPS, *MAPS]
    assert list(table["phase"]) == ["content"] * 3 + ["response"] * 3
    assert table["correlation"].tolist() == pytest.approx([1.0] * 6)
    assert (table["selected"] == table["selected_again"]).all()
    assert (table["shared"] == table["selected"]).all()
    assert (table.loc[table["selected"] > 0, "dice"] == 1).all()
    assert (table["strongest_rank"] == 1).all()
    first = read_map(study / "maps/look.content/expert.resonance.zarr")["score"]
    best = first.argmax(...)
    assert table["strongest"][0] == ":".join(
        str(int(first[name][best[name]])) for name in ("layer", "expert")
    )
    assert read_table(tmp_path / "survival.parquet").equals(table)


def test_a_subject_that_runs_otherwise_gives_other_maps(study, tiny_model_folder, tmp_path):
    table = compare(study, tiny_model_folder, tmp_path / "s.parquet", recordings="other")
    table = table[table["phase"] == "content"]
    # An expert is off in the last layer: what is chosen there changes, and little else.
    assert table["correlation"][0] < 0.999
    assert (table["correlation"][1:] > 0.99).all()
    assert (
        table["units"].iloc[0]
        == read_map(study / "maps/look.content/expert.resonance.zarr")["score"].size
    )


@pytest.fixture(scope="module")
def plans(study, tiny_model_folder):
    """TEAL that skips zeros alone, and TEAL at half of every input."""
    calibrate_subject(
        subject="tiny",
        model=tiny_model_folder,
        recordings=study / "dense",
        out=study / "plans",
        options=SparseOptions(policies=("teal",), sparsities=(0.0, 0.5), least_tokens=50),
        seed=0,
        provenance=PROVENANCE,
    )
    return study / "plans"


def survive(study, model, out, plan):
    store = out / plan.stem / "events/0.zarr"
    record_sparse(
        out=store,
        manifest=store.with_name("0.zarr.manifest.json"),
        subject="tiny",
        model=model,
        task="events",
        stimuli=study / "stimuli/events.parquet",
        plan=plan,
        options=RecordOptions(splits=("selection",), max_new_tokens=2),
        seed=0,
        provenance=PROVENANCE,
    )
    return compare(study, model, out / "survival.parquet", recordings=out / plan.stem)


def test_maps_are_made_again_from_recordings_under_a_plan(
    study, plans, tiny_model_folder, tmp_path
):
    nothing = survive(study, tiny_model_folder, tmp_path, plans / "teal_00.json")
    assert len(nothing) == 6  # every map in every phase
    assert (nothing["correlation"] > 0.999).all()
    assert (nothing["strongest_rank"] == 1).all()
    half = survive(study, tiny_model_folder, tmp_path, plans / "teal_50.json")
    assert (half["units"] == nothing["units"]).all()
    many = half[half["kind"] != "layer"]  # scores of two layers can only correlate fully
    assert many["correlation"].between(-1, 0.999).all()
    assert (half["strongest"] == nothing["strongest"]).all()  # of the dense map


def test_a_lost_map_and_a_lost_recording_are_told(study, tiny_model_folder, tmp_path):
    with pytest.raises(EvidenceError, match="no recording"):
        compare(study, tiny_model_folder, tmp_path / "s.parquet", recordings="nowhere")
    maps = shutil.copytree(study / "maps", tmp_path / "maps")
    shutil.rmtree(maps / "look.content/head.welch_t.zarr")
    with pytest.raises(StoreError, match=r"head\.welch_t\.zarr: no such map"):
        compare(study, tiny_model_folder, tmp_path / "s.parquet", maps=maps)
    assert not (tmp_path / "s.parquet").exists()


def test_statistics_that_are_cut_do_not_make_the_correlation():
    units = Units.of("head", [0], 4)
    old, new = np.array([[1.0, 2.0, 3.0, 1e6]]), np.array([[3.0, 1.0, 2.0, 1e6]])
    before = xr.Dataset(
        {name: (units.dims, own) for name, own in (("score", old), ("p_max", np.ones((1, 4))))},
        attrs={"two_sided": 1},
    )
    now = SimpleNamespace(score=new, units=units, selected=lambda alpha: [])
    found = _compared(before, now, 0.05)
    assert found["correlation"] == pytest.approx(np.corrcoef([1, 2, 3], [3, 1, 2])[0, 1])
    assert found["units"] == 4
