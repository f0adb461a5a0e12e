"""The group level: replication by layer, overlap of sets, a second level of like subjects."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lmri.config import CausalOptions, ContrastOptions, LocaliseOptions
from lmri.errors import StoreError
from lmri.localise import map_group
from lmri.store import read_map, read_table, write_finding, write_map

NAMES = ("expert.resonance", "neuron.welch_t")
CONTRASTS = [ContrastOptions(name, "events") for name in ("refusal", "other")]


@pytest.fixture
def study(tmp_path):
    """Seven subjects; in six of them expert 3 of layer 2 responds to both contrasts."""
    rng = np.random.default_rng(0)
    for number in range(7):
        for contrast in CONTRASTS:
            score = 0.05 * rng.normal(size=(5, 8))
            p_max = np.ones((5, 8))
            if number < 6:
                score[2, 3], p_max[2, 3] = 0.9, 0.001
            if contrast.name == "refusal" and number < 6:
                score[4, 1], p_max[4, 1] = 0.8, 0.01
            rank = np.argsort(np.argsort(-score, axis=None)).reshape(5, 8)
            values = {"score": score, "p_max": p_max, "rank": rank, "q": p_max}
            dataset = xr.Dataset(
                {name: (("layer", "expert"), own) for name, own in values.items()},
                coords={"layer": range(5), "expert": range(8)},
                attrs={"two_sided": 0, "split_half_dice": 0.5},
            )
            place = f"s{number}/{contrast.name}.content"
            write_map(tmp_path / f"maps/{place}/expert.resonance.zarr", dataset)
            for name in NAMES:
                kind, _, method = name.partition(".")
                units = [{"layer": 2, "expert": 3}] if kind == "expert" and number < 6 else []
                write_finding(
                    tmp_path / f"findings/{place}/{name}.json",
                    {
                        "stage": "localise",
                        "subject": f"s{number}",
                        "task": "events",
                        "contrast": contrast.name,
                        "phase": "content",
                        "kind": kind,
                        "method": method,
                        "role": "exploratory",
                        "status": "null",
                        "reason": "no units",
                        "units": units,
                    },
                )

    def run(origins=("",) * 7):
        map_group(
            maps=tmp_path / "maps",
            findings=tmp_path / "findings",
            out=tmp_path / "group",
            subjects={
                f"s{i}": {"origin": o, "series": "", "step": None} for i, o in enumerate(origins)
            },
            contrasts=CONTRASTS,
            options=LocaliseOptions(NAMES, ("content",), permutations=199),
            alpha=0.05,
            seed=0,
            provenance={"stage": "group"},
        )
        return tmp_path

    return run


def test_every_map_has_a_row_and_a_kind_without_units_an_empty_one(study):
    table = read_table(study() / "group/maps.parquet")
    assert len(table) == 7 * 2 * 2
    row = table[(table["subject"] == "s0") & (table["contrast"] == "refusal")].iloc[0]
    assert (row["name"], row["units"], row["selected"], row["rising"]) == (NAMES[0], 40, 2, 2)
    assert json.loads(row["strongest"]) == [2, 3]
    assert json.loads(row["layers"]) == {"0": 0, "1": 0, "2": 1, "3": 0, "4": 1}
    assert row["split_half_dice"] == 0.5
    missing = table[table["name"] == NAMES[1]]
    assert (missing["units"] == 0).all()
    assert (missing["reason"] == "no units").all()
    assert json.loads(table.attrs["provenance"]) == {"stage": "group"}


def test_replication_counts_subjects_and_layers(study):
    table = read_table(study() / "group/replication.parquet")
    row = table[(table["contrast"] == "refusal") & (table["name"] == NAMES[0])].iloc[0]
    assert (row["subjects"], row["mapped"]) == (7, 6)
    assert (row["modal_layer"], row["in_modal_layer"] >= 6) == (2, True)
    assert row["correlation_low"] <= row["correlation_mean"] <= row["correlation_high"]
    assert row["correlation_high"] > 0.9  # both peaks in one place
    assert row["second_level"] == ""  # subjects of their own: their units do not correspond


def test_sets_of_units_are_compared_within_a_subject_and_between_like_ones(study):
    own = read_table(study() / "group/overlap.parquet")
    assert len(own) == 6  # two contrasts of each subject that has a map
    row = own.iloc[0]
    assert json.loads(row["first"]) == ["s0", "refusal", "content", NAMES[0]]
    assert (row["shared"], row["first_size"], row["second_size"]) == (1, 2, 1)
    assert (row["jaccard"], row["overlap"], row["p"]) == (0.5, 1.0, pytest.approx(2 / 40))
    assert row["chance"] == pytest.approx(2 / 40)  # sharing one is all that could be significant
    like = read_table(study(("a", "a", "", "", "", "", "")) / "group/overlap.parquet")
    assert len(like) == 6 + 2  # and two subjects of one origin, in both contrasts


def test_units_without_a_score_could_not_have_been_shared(study, tmp_path):
    path = tmp_path / "maps/s0/refusal.content/expert.resonance.zarr"
    dataset = read_map(path).load()
    dataset["score"][0, :5] = np.nan
    shutil.rmtree(path)
    write_map(path, dataset)
    own = read_table(study() / "group/overlap.parquet")
    assert own["universe"].tolist() == [35, *[40] * 5]


def test_subjects_of_one_origin_are_tested_at_a_second_level(study):
    out = study(("a",) * 7)
    table = read_table(out / "group/replication.parquet")
    path = table["second_level"].iloc[0]
    assert path == "group/second_level/a/refusal.content/expert.resonance.zarr"
    result = read_map(out / path)
    assert float(result["p_max"].sel(layer=2, expert=3)) <= 0.05
    assert result.attrs["subjects"]
    assert float(result["mean"].sel(layer=2, expert=3)) == pytest.approx(0.9 * 6 / 7, abs=0.02)


@pytest.fixture
def causal_study(tmp_path):
    """Causal maps of six states of one base: the states after block 1 and 2 move the answer."""
    places = np.array(["before", "mid", "after"], dtype=object)
    for number in range(6):
        for contrast in CONTRASTS:
            score = np.full((4, 3), 0.01)
            score[1, 2], score[2, 2] = 2.0 + number, 1.0
            p_max = np.where(score > 0.5, 0.01, 1.0)
            rank = np.argsort(np.argsort(-score, axis=None)).reshape(score.shape)
            values = {"score": score, "p_max": p_max, "rank": rank, "q": p_max}
            dataset = xr.Dataset(
                {name: (("layer", "place"), own) for name, own in values.items()},
                coords={"layer": range(4), "place": places},
            )
            place = f"s{number}/{contrast.name}.attribution"
            write_map(tmp_path / f"maps/{place}/residual_site.relp.zarr", dataset)
            finding = {
                "stage": "localise",
                "subject": f"s{number}",
                "task": "events",
                "contrast": contrast.name,
                "phase": "attribution",
                "kind": "residual_site",
                "method": "relp",
                "role": "hypothesis",
                "status": "testable",
                "reason": "",
                "units": [{"layer": 1, "place": 2}, {"layer": 2, "place": 2}],
            }
            write_finding(tmp_path / f"findings/{place}/residual_site.relp.json", finding)
    return tmp_path


@pytest.mark.parametrize("asked", [True, False])
def test_causal_maps_are_compared_but_have_no_second_level(causal_study, asked):
    causal = CausalOptions(("refusal", "other"), ("relp",), ("residual",), ())
    map_group(
        maps=causal_study / "maps",
        findings=causal_study / "findings",
        out=causal_study / "group",
        subjects={f"s{i}": {"origin": "base", "series": "", "step": None} for i in range(6)},
        contrasts=CONTRASTS,
        options=LocaliseOptions(NAMES, ("content",), 199, causal=causal if asked else None),
        alpha=0.05,
        seed=0,
        provenance={"stage": "group"},
    )
    tables = {
        name: read_table(causal_study / f"group/{name}.parquet")
        for name in ("maps", "replication", "overlap")
    }
    if not asked:
        assert all(table.empty for table in tables.values())
        return
    assert set(tables["maps"]["strongest"]) == {"[1, 2]"}  # a place by its number, as in findings
    assert tables["maps"]["size"].isna().all()
    row = tables["replication"].iloc[0]
    assert (row["phase"], row["mapped"], row["modal_layer"]) == ("attribution", 6, 1)
    assert (tables["replication"]["second_level"] == "").all()
    # Two contrasts of each subject, and 15 pairs of subjects in each contrast.
    assert len(tables["overlap"]) == 6 + 2 * 15
    assert (tables["overlap"]["shared"] == 2).all()


def test_nothing_is_left_of_a_group_whose_map_is_missing(study, tmp_path):
    out = study()
    store = tmp_path / "maps/s3/refusal.content/expert.resonance.zarr"
    for path in sorted(store.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    store.rmdir()
    before = pd.read_parquet(out / "group/maps.parquet")
    with pytest.raises(StoreError, match="no such map"):
        study()
    pd.testing.assert_frame_equal(pd.read_parquet(out / "group/maps.parquet"), before)


def test_checkpoints_of_a_series_do_not_replicate_each_other(study, tmp_path):
    study()
    subjects = {f"s{i}": {"origin": "", "series": "", "step": None} for i in range(3)}
    subjects |= {f"s{i}": {"origin": "run", "series": "run", "step": i} for i in range(3, 7)}
    common = {
        "maps": tmp_path / "maps",
        "findings": tmp_path / "findings",
        "contrasts": CONTRASTS,
        "options": LocaliseOptions(NAMES, ("content",), permutations=199),
        "alpha": 0.05,
        "seed": 0,
        "provenance": {},
    }
    map_group(out=tmp_path / "mixed", subjects=subjects, **common)
    table = read_table(tmp_path / "mixed/replication.parquet")
    assert set(table.loc[table["name"] == NAMES[0], "subjects"]) == {3}
    assert len(read_table(tmp_path / "mixed/maps.parquet")) == 7 * 2 * 2
    only = {name: own for name, own in subjects.items() if own["series"]}
    map_group(out=tmp_path / "series", subjects=only, **common)
    table = read_table(tmp_path / "series/replication.parquet")
    assert set(table.loc[table["name"] == NAMES[0], ["subjects", "mapped"]].iloc[0]) == {0, 1}
