"""The stage that compares all subjects."""

import json
from dataclasses import replace

import numpy as np
import pytest
from network_recordings import random_subject, record_events, write_events

from lmri.align import align_subjects, components, matched_layers, read_together
from lmri.config import AlignOptions
from lmri.errors import EvidenceError
from lmri.store import open_recordings, read_map

OPTIONS = AlignOptions(
    quantities=("residual", "head_output"),
    phases=("content",),
    dimensions=4,
    draws=19,
    counts=(1, 2),
    repeats=2,
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two random subjects of another width and depth."""
    folder = tmp_path_factory.mktemp("align")
    stimuli = write_events(folder / "events.parquet")
    sizes = {"tiny": {}, "wider": {"seed": 1, "size": 48, "layers": 3, "experts": 4}}
    for subject, size in sizes.items():
        model = random_subject(folder / subject, **size)
        record_events(stimuli, model, folder / "recordings" / subject, subject, ("residual",))
    return folder / "recordings"


def align(recordings, out, options=OPTIONS, subjects=("tiny", "wider")):
    align_subjects(
        recordings=recordings,
        out=out,
        subjects=subjects,
        tasks={"events": ()},
        options=options,
        seed=0,
        provenance={"stage": "align"},
    )
    return out, json.loads((out / "left_out.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def aligned(recordings, tmp_path_factory):
    return align(recordings, tmp_path_factory.mktemp("out") / "align")


@pytest.fixture(scope="module")
def found(aligned):
    return read_map(aligned[0] / "events.content.residual.zarr")


def test_layers_of_any_number_are_compared(found):
    assert found["cka"].sizes == {"subject": 2, "other": 2, "layer": 3, "other_layer": 3}
    pair = found["cka"].sel(subject="tiny", other="wider")
    assert np.isfinite(pair.values[:2]).all()
    assert np.isnan(pair.values[2]).all()  # the first subject has two layers
    back = found["cka"].sel(subject="wider", other="tiny").values
    np.testing.assert_array_equal(pair.values, back.T)
    assert found["layer_of"].values.tolist() == [[0, 0], [1, 2]]


def test_random_subjects_share_nothing_of_places_that_the_fit_has_not_seen(found):
    """Trials of one place are alike in both, and which place it is nobody can tell the other."""
    own = found.sel(subject="tiny", other="wider")
    assert float(own["cka"].sel(layer=0, other_layer=0)) > 0.2
    assert (
        float(own["cka_null"].sel(depth=0, null="mean")) > 0.1
    )  # not 0: that trials share a place is left in the null
    two_way = own.sel(score="two_way")
    assert (np.abs(two_way["identification"] - 0.5) < 0.15).all()
    assert (two_way["identification_p"] > 0.05).all()
    null = two_way["identification_null"]
    assert (np.abs(null.sel(null="mean") - 0.5) < 0.05).all()
    assert (null.sel(null="low") < null.sel(null="high")).all()
    assert found.attrs["exchanged"] == "place and year"
    assert (found.attrs["n_fit"], found.attrs["n_score"]) == (210, 210)


def test_random_subjects_have_little_in_common(found):
    """Their ceiling is told with what it would be if trials did not correspond."""
    ceiling = found["shared_ceiling"]
    assert (np.abs(ceiling) <= 1).all()
    assert (np.abs(found["shared_ceiling_null"].sel(null="mean")) < 0.2).all()
    assert (found["shared_ceiling_share"] < ceiling + 0.2).all()
    assert np.isfinite(found["shared_ceiling_p"]).all()


def test_curves_are_of_each_new_subject(found):
    assert found["accuracy"].sizes["arm"] == 4
    assert np.isfinite(found["accuracy"]).all()


def test_dissimilarities_are_of_places_repeated_by_years(found):
    assert (found.attrs["rsa_item"], found.attrs["rsa_partition"]) == ("carrier_place", "year")
    first = found.sel(subject="tiny", other="wider", layer=0, other_layer=0)
    assert float(first["rsa_low"]) < float(first["rsa"]) < float(first["rsa_high"])


def test_a_quantity_that_nobody_has_is_left_out(aligned):
    assert "2 subjects or more with 'head_output'" in aligned[1]["events.content.head_output"]


def test_components_hold_all_that_a_linear_model_uses(recordings):
    trees = {name: open_recordings(recordings / name / "events") for name in ("tiny", "wider")}
    together = read_together(trees, "residual", "content", ("selection", "calibration"))
    assert matched_layers(together.subjects) == [(0, 0), (1, 2)]
    own = together.subjects[0]
    rows = np.arange(len(own.rows))
    fit, score = components(own, 1, rows[:50], rows[50:])
    x = own.layer(1)
    scaled = (x - x[:50].mean(axis=0)) / x[:50].std(axis=0)
    np.testing.assert_allclose(fit @ fit.T, scaled[:50] @ scaled[:50].T, atol=1e-6)
    np.testing.assert_allclose(score @ fit.T, scaled[50:] @ scaled[:50].T, atol=1e-6)


def test_a_layer_that_is_constant_is_refused(recordings):
    trees = {name: open_recordings(recordings / name / "events") for name in ("tiny", "wider")}
    together = read_together(trees, "residual", "content", ("selection", "calibration"))
    own = together.subjects[0]
    still = replace(own, values=own.values * 0 + 1)
    said = rf"units that vary\. None of {own.units} in layer 1 of 'tiny' does over 50 trials"
    with pytest.raises(EvidenceError, match=said):
        components(still, 1, np.arange(50), np.arange(50, 60))


def test_the_same_seed_writes_the_same_bits(recordings, found, tmp_path):
    out, _ = align(recordings, tmp_path / "again")
    assert read_map(out / "events.content.residual.zarr").identical(found)


def test_subjects_without_a_common_phase_are_refused(recordings):
    trees = {name: open_recordings(recordings / name / "events") for name in ("tiny", "wider")}
    with pytest.raises(EvidenceError, match=r"2 subjects or more.*'tiny': It has no phase 'think'"):
        read_together(trees, "residual", "think", ("selection",))
    with pytest.raises(EvidenceError, match=r"'quantity' of an alignment.*Got 'layer'"):
        read_together(trees, "layer", "content", ("selection",))


def test_more_dimensions_than_units_leave_the_spaces_out(recordings, tmp_path):
    many = AlignOptions(quantities=("residual",), phases=("content",), dimensions=40, draws=19)
    out, left_out = align(recordings, tmp_path / "many", many)
    assert "Got 40 with" in left_out["events.content.residual.space"]
    assert "procrustes" not in read_map(out / "events.content.residual.zarr")
