"""Causal maps in words and drawings: known numbers, and what has to be warned of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from causal_files import causal_map

from lmri.config import CausalOptions, load_study
from lmri.intervene import KINDS as UNIT_KINDS
from lmri.localise import attribution, causal
from lmri.localise.attribution import maps as attribution_maps
from lmri.localise.attribution import roles
from lmri.report.causal.agreement import agreement_figure, comparison_figure
from lmri.report.causal.figures import (
    map_figure,
    outlined,
)
from lmri.report.causal.maps import CausalMap, expected_maps, read_causal
from lmri.report.causal.section import shown_prose
from lmri.report.causal.tables import cautions, maps_table
from lmri.report.causal.words import (
    METRICS,
    NOUNS,
    RENAMED,
    ROLES,
    method_name,
    noun_of,
    role_name,
)
from lmri.report.kinds import CAUSAL, MapName
from lmri.report.profiles import profile
from lmri.report.reader import Reader
from lmri.store import write_map


@pytest.fixture
def read(tmp_path, repository):
    """Write maps and read them back as the report does."""
    contrast = load_study(repository / "config/config.yaml").contrasts["refusal"]

    def made(kind: str, *methods: str, subject: str = "a", **attributes) -> list[CausalMap]:
        options = CausalOptions(("refusal",), methods, (kind,), ())
        if kind.endswith("_by_role"):
            options = replace(options, kinds=(), role_kinds=(kind.removesuffix("_by_role"),))
        own = RENAMED.get(kind, kind)
        for method in methods:
            path = tmp_path / f"maps/{subject}/refusal.attribution/{own}.{method}.zarr"
            write_map(path, causal_map(own, method, **attributes))
        reader = Reader(tmp_path)
        found = read_causal(reader, subject, contrast, options, 0.05)
        assert reader.problems == []
        return found

    return made


def test_words_cover_what_the_stage_writes():
    assert set(attribution.METHODS) == set(CAUSAL)
    for kind in attribution.KINDS:
        own = causal.RENAMED.get(kind, kind)
        known = UNIT_KINDS.get(own)
        assert NOUNS[own].dims == ("layer", *(known.parts if known else ("unit",)))
    assert RENAMED == causal.RENAMED
    assert set(roles.ROLES) == set(ROLES)
    assert set(attribution_maps.METRICS) == set(METRICS)


@pytest.mark.parametrize(
    ("role", "name"),
    [("entity", "words that differ"), ("post_instruction_2", "template token 2"), ("x_y", "x y")],
)
def test_roles_have_names(role, name):
    assert role_name(role) == name


def test_methods_are_named_with_their_abbreviation():
    assert method_name("relp") == "relevance patching (RelP)"
    assert MapName("expert.relp").described == "experts by relevance patching (RelP)"
    assert MapName("expert.welch_t").described == "experts (t of Welch)"
    assert noun_of("mlp_by_role").full == "MLP by role of the token"
    assert noun_of("unheard_of").many == "units"


def test_a_map_is_reduced_to_its_numbers(read):
    (own,) = read("expert", "relp", best=4.0)
    assert (own.profile.units, own.profile.selected) == (96, 1)
    assert own.unit_name(own.profile.strongest) == "2:1"
    assert own.profile.strongest["standard_error"] == 0.5
    assert (own.agreement.correlation, own.agreement.low, own.agreement.units) == (0.87, 0.61, 96)
    assert (own.pairs, own.metric, own.counts("dropped")["unequal_length"]) == (
        12,
        "logit_difference",
        3,
    )
    assert own.scores.shape == (96,)


def test_columns_with_names_are_written_in_words(read):
    (states,) = read("residual", "relp")
    assert states.columns == ("before the block", "after attention", "after the block")
    assert states.unit_name(states.profile.strongest) == "layer 2 (after attention)"
    (by_role,) = read("mlp_by_role", "relp")
    assert by_role.unit_name(by_role.profile.strongest) == "layer 2 (last of prompt)"


def test_patching_is_compared_with_nothing(read):
    (own,) = read("expert", "patch_denoise")
    assert own.agreement is None
    assert agreement_figure([("a", [own])], "key", "") is None


def test_nothing_to_warn_of(read):
    assert cautions(read("expert", "relp")) == []


@pytest.mark.parametrize(
    ("attributes", "warning"),
    [
        ({"clean_difference": -0.5, "corrupted_difference": -2.0}, "do not show the behaviour"),
        ({"clean_difference": 1.0, "corrupted_difference": 1.5}, "no gap"),
        ({"clean_difference": 3.0, "corrupted_difference": 1.5}, "show the behaviour, too"),
        ({"n_guarded": 4}, "4 of 16 pairs have no gap"),
        ({"pairs": 3}, "only 3 pairs"),
        ({"one_logit_difference": 0}, "p says only that a mean effect is not 0"),
    ],
)
def test_what_speaks_against_reading_is_said(read, attributes, warning):
    (found,) = cautions(read("expert", "relp", **attributes))
    assert warning in found


@pytest.mark.parametrize(("illusory", "count"), [(True, 1), (False, 0), (None, 0)])
def test_a_finding_through_what_nothing_reads_is_warned_of(read, illusory, count):
    (own,) = read("feature", "relp")
    finding = {"kind": "feature", "method": "relp", "row_space": {"illusory": illusory}}
    found = cautions([replace(own, finding=finding)])
    assert len(found) == count
    assert all("features of a dictionary by relevance patching (RelP)" in line for line in found)


def test_damaged_attributes_are_no_numbers(read):
    (own,) = read("expert", "direct", dropped="[", n_pairs="many", patching_units="x")
    assert (own.counts("dropped"), own.pairs, own.agreement) == ({}, 0, None)


def test_a_map_is_drawn_with_its_strongest_unit_outlined(read):
    entries = [("a", read("expert", "relp", "patch_denoise"))]
    figure = map_figure(entries, "expert", 0.05, "key", "")
    assert [panel.title for panel in figure.panels] == [
        "Patching, clean into corrupted",
        "Relevance patching (RelP)",
    ]
    assert "the strongest expert is 2:1 with +4.00 logits, 1 of 96 selected" in figure.alt
    assert "4.00 (patching)" in figure.look_for
    assert "n = 12 pairs" in figure.look_for
    # The cells are one image; what is drawn over them is the outline of the one selected unit.
    assert figure.panels[0].svg.count("stroke-width: 1.8") == 1


def test_few_neurons_of_experts_are_cells_side_by_side():
    """Neuron 2 of expert 1 is column 1 * 5 + 2 where an expert has 5 neurons."""
    score = np.zeros((2, 4, 5))
    score[1, 1, 2] = 3.0
    dims = ("layer", "expert", "neuron")
    values = {"score": score, "p_max": np.where(score > 0, 0.01, 1.0)}
    made = xr.Dataset(
        {name: (dims, own) for name, own in values.items()},
        {dim: np.arange(size) for dim, size in zip(dims, score.shape, strict=True)},
    )
    found = profile("expert_neuron.relp", made, 0.05, noun_of("expert_neuron"))
    own = CausalMap("expert_neuron", "relp", "", found, (), None)
    assert outlined(own, 0.05) == [(1, 7)]


def test_many_units_are_drawn_as_the_strongest_over_all(read):
    figure = map_figure([("a", read("feature", "relp"))], "feature", 0.05, "key", "")
    drawing = str(figure.panels[0].svg)
    assert ">2:1</text>" in drawing
    assert ">all 400</text>" in drawing
    assert "12 features with the largest effect" in figure.look_for


def test_roles_are_columns_with_names(read):
    figure = map_figure([("a", read("mlp_by_role", "relp"))], "mlp_by_role", 0.05, "key", "")
    drawing = str(figure.panels[0].svg)
    assert "prompt" in drawing
    assert "nothing there can have an effect" in figure.falsify
    assert "“last of prompt” the last of the prompt" in figure.look_for


def test_of_many_subjects_the_most_trusted_methods_are_drawn(read):
    entries = [
        (name, read("expert", "direct", "relp", "patch_denoise", subject=name))
        for name in "abcdefgh"
    ]
    figure = map_figure(entries, "expert", 0.05, "key", "")
    assert len(figure.panels) == 16
    assert "Not drawn, but in the table: direct logit attribution" in figure.look_for
    assert "a: patching" in [panel.title for panel in figure.panels]


def test_agreement_is_told_with_interval_and_units(read):
    entries = [("a", read("head", "relp")), ("b", read("head", "relp", subject="b"))]
    figure = agreement_figure(entries, "key", "")
    assert figure.panels[0].title == "Attention heads (n = 12)"
    assert "b, attention heads by relevance patching (RelP): 0.87 (0.61 to 0.95), n = 12" in (
        figure.alt
    )
    assert "Within a row, the subjects from top to bottom: a and b." in figure.look_for


def test_units_without_variation_have_no_correlation(read):
    attributes = {f"patching_{name}": np.nan for name in ("correlation", "low", "high")}
    figure = agreement_figure([("a", read("head", "relp", **attributes))], "key", "")
    assert "does not vary" in str(figure.panels[0].svg)


def test_estimates_are_compared_only_where_all_units_were_patched(read):
    assert comparison_figure([("a", read("head", "relp"))], "key") is None
    figure = comparison_figure([("a", read("head", "relp", "patch_denoise"))], "key")
    assert figure.alt == "Estimated against patched effects. Attention heads: RelP, 12 points."


def test_what_is_shown_names_the_layer_that_subjects_share(read):
    entries = [("a", read("head", "relp")), ("b", read("head", "relp", subject="b", best=2.0))]
    (line,) = shown_prose(entries).lines
    assert line == (
        "Attention heads:",
        "by relevance patching (RelP), the strongest head is in layer 2 in 2 of 2 subjects "
        "(+2.00 to +4.00 logits); 1 of 12 pass the max-statistic.",
    )
    (alone,) = shown_prose(entries[:1]).lines
    assert "2:1 does most (+4.00 logits); 1 of 12 pass" in alone[1]


def test_the_table_has_every_map(read):
    rows = maps_table([("a", read("head", "relp", "patch_denoise"))], "").rows
    texts = [[cell.text for cell in row] for row in rows]
    assert texts[0][2:] == ["2:1", "0.002", "1 of 12", "–", "12"]
    assert texts[1][5] == "0.87"


def test_kinds_that_a_subject_lacks_are_not_expected(tmp_path: Path):
    options = CausalOptions(("x",), ("direct", "relp"), ("expert", "head"), ("mlp",))
    assert expected_maps(options, tmp_path) == [
        ("head", "direct"),
        ("head", "relp"),
        ("mlp_by_role", "relp"),
    ]
    (tmp_path / "expert.relp.zarr").mkdir()
    assert ("expert", "direct") in expected_maps(options, tmp_path)
