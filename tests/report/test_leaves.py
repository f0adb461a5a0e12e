"""The pages beside the report: one for each contrast over all subjects, one for heads."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from report_files import HOSTILE, Elements, assert_levels, assert_safe, visible, write

from lmri.report import other_units
from lmri.report.figures.memory import forget_drawings
from lmri.report.leaves import leaf_paths

MEGABYTE = 1_000_000
PAGES = (
    *("contrasts/refusal", "contrasts/refusal-simple", "contrasts/null-places"),
    *("pages/heads", "pages/sparsity"),
)


@pytest.fixture(scope="module")
def report(plain, config, tmp_path_factory) -> Path:
    return write(plain, tmp_path_factory.mktemp("out") / "report", config).parent


@pytest.fixture(params=PAGES)
def leaf(request, report) -> Path:
    return report / f"{request.param}.html"


def test_every_contrast_has_a_page_that_is_linked_both_ways(report, config):
    index = (report / "index.html").read_text()
    paths = leaf_paths(config)
    assert set(paths) == set(config.contrasts)
    for path in [*paths.values(), "pages/heads.html"]:
        assert f'href="{path}"' in index
        up = "../" * path.count("/")
        assert f'href="{up}index.html"' in (report / path).read_text()


def test_names_of_pages_are_safe_and_each_once(config):
    first = next(iter(config.contrasts.values()))
    names = ["a_b", "a__b", "heads", "../up", "<b>", "A b"]
    paths = leaf_paths(replace(config, contrasts=dict.fromkeys(names, first)))
    assert len(set(paths.values())) == len(names)
    assert all(re.fullmatch(r"contrasts/[a-z0-9-]+\.html", path) for path in paths.values())
    assert "pages/heads.html" not in paths.values()


def test_a_page_is_safe_accessible_and_small(leaf, report):
    assert_safe(leaf, report)
    assert len(leaf.read_bytes()) < MEGABYTE


def test_headings_skip_no_level(leaf):
    assert_levels(leaf)


def test_the_table_of_a_contrast_is_that_of_the_file(report, plain):
    text = visible((report / "contrasts/refusal.html").read_text()).replace("\xa0", " ")
    maps = pd.read_parquet(plain / "group/maps.parquet")
    rows = maps[(maps["contrast"] == "refusal") & (maps["phase"] == "prompt_last")]
    for row in rows.to_dict("records"):
        assert f"{row['selected']} of {row['units']}" in text
    assert "localised confirmed" in text
    assert "distributed refuted" in text
    copied = pd.read_csv(report / "files/contrast.refusal.csv")
    assert len(copied) == (maps["contrast"] == "refusal").sum()


def test_what_replicates_is_told_apart_from_what_does_not(report):
    text = visible((report / "contrasts/refusal.html").read_text())
    told = text[text.index("What replicates and what does not") :]
    assert told.index("Replicates: The map of experts") < told.index("Does not replicate:")
    assert "The map of attention heads (t of Welch) is empty in 1 of 2 subjects" in told
    control = visible((report / "contrasts/null-places.html").read_text())
    assert "Empty in all subjects, as it should be:" in control


def test_overlaps_with_other_contrasts_are_listed(report):
    text = visible((report / "contrasts/refusal.html").read_text())
    assert "Of 2 comparisons with maps of other contrasts, 1 share" in text
    assert "Units that a map of this contrast and one of another both select." in text
    assert "Units that two subjects both select." in text
    assert "These subjects come from one base: the same number names the same unit" in text


def test_heads_are_named_and_their_transition_dated(report):
    text = visible((report / "pages/heads.html").read_text())
    assert "1:2 0.70" in text
    assert re.search(r"base: Induction rises most in head 1:2, from 0\.\d\d to 0\.70", text)
    assert "between steps 100 and 200" in text
    assert "Drain (events): norm of the first token's value" in text.replace("&#39;", "'")


def test_same_inputs_give_the_same_bytes(report, plain, config, tmp_path):
    forget_drawings()
    again = write(plain, tmp_path / "report", config).parent
    for name in PAGES:
        path = f"{name}.html"
        assert (again / path).read_bytes() == (report / path).read_bytes()


def test_missing_tables_are_warnings_and_pages_say_so(plain, config, tmp_path):
    study = tmp_path / "fixture"
    shutil.copytree(plain, study)
    shutil.rmtree(study / "group")
    index = write(study, tmp_path / "report", config)
    text = visible(index.read_text())
    for name in ("maps", "replication", "overlap"):
        assert f"study warning group/{name}.parquet" in text
    assert "heads.parquet" not in text
    assert not (index.parent / "pages/heads.html").exists()
    leaf = visible((index.parent / "contrasts/refusal.html").read_text())
    assert "group/maps.parquet is missing" in leaf
    assert "The maps of refusal, side by side" in leaf


def test_a_damaged_table_is_listed(plain, exploring, tmp_path):
    study = tmp_path / "fixture"
    shutil.copytree(plain, study)
    (study / "group/heads.parquet").write_bytes(b"PAR1 cut short")
    pd.DataFrame({"contrast": ["refusal"]}).to_parquet(study / "group/maps.parquet")
    text = visible(write(study, tmp_path / "report", exploring).read_text())
    assert "study error group/heads.parquet" in text
    assert "study warning group/maps.parquet" in text


def test_hostile_names_stay_text(plain, config, tmp_path):
    study = tmp_path / "fixture"
    shutil.copytree(plain, study)
    markup = HOSTILE[0]
    group = study / "group"
    for name, column in (("maps", "subject"), ("maps", "reason"), ("heads", "subject")):
        table = pd.read_parquet(group / f"{name}.parquet")
        table.assign(**{column: markup}).to_parquet(group / f"{name}.parquet")
    replication = pd.read_parquet(group / "replication.parquet")
    replication.assign(second_level=markup).to_parquet(group / "replication.parquet")
    overlap = pd.read_parquet(group / "overlap.parquet")
    places = [json.dumps([markup, name, markup, markup]) for name in ("refusal", "null_places")]
    overlap.assign(first=places[0], second=places[1]).to_parquet(group / "overlap.parquet")
    out = write(study, tmp_path / "report", config).parent
    for path in (out / "contrasts").glob("*.html"):
        html = path.read_text()
        tags = Elements(html).tags
        assert not any(tag in {"script", "img"} for tag, _ in tags)
        assert not any(name.startswith("on") for _, attrs in tags for name in attrs)
    assert "&lt;script&gt;" in (out / "contrasts/refusal.html").read_text()


def test_a_study_of_experts_alone_has_no_other_units(plain, config, tmp_path):
    study = tmp_path / "fixture"
    shutil.copytree(plain, study)
    for folder in ("maps", "findings/localise"):
        for path in (study / folder).glob("*/*/*"):
            if not path.name.startswith("expert.resonance"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(study / "group")
    localise = replace(config.localise, maps=("expert.resonance",))
    html = write(study, tmp_path / "report", replace(config, localise=localise)).read_text()
    text = visible(html)
    assert "In other units" not in text
    assert "Switching off 2 of 96 experts (layer:expert 2:16, 2:17) lowered" in text
    assert not re.search(r"error (maps|findings)/", text)


def test_other_units_say_what_switching_them_off_did(report):
    text = visible((report / "index.html").read_text())
    block = text[text.index("In other units") :]
    block = block[: block.index("What happens without them")]
    assert "Neurons of experts activation, 0 where the expert is not chosen t of Welch" in block
    assert "2 neurons, zeroed; 20 shams, largest 0.19" in block
    assert "Attention heads norm of the output" in block
    assert "r 0.81" in block
    assert "Dice 0.67 (0.02)" in block
    assert re.search(r"routing [+−]0\.\d\d", block)
    assert "not re-run" in block


def test_a_map_that_is_lost_is_an_error(plain, config, tmp_path):
    study = tmp_path / "fixture"
    shutil.copytree(plain, study)
    shutil.rmtree(study / "maps/localised/refusal.prompt_last/head.welch_t.zarr")
    for path in study.glob("*/**/distributed/*/expert_neuron*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = visible(write(study, tmp_path / "report", config).read_text())
    errors = text[text.index("Errors and missing inputs") :]
    assert "maps/localised/refusal.prompt_last/head.welch_t.zarr" in errors
    # A kind that a subject has no file of at all is one that it lacks.
    assert "distributed" not in errors


def test_a_primary_map_of_heads_is_told_in_heads(plain, exploring, tmp_path):
    """A subject without experts: the first map that it has is primary."""
    study = tmp_path / "fixture"
    shutil.copytree(plain, study)
    localise = replace(exploring.localise, maps=("head.welch_t",), phases=("prompt_last",))
    own = replace(exploring, localise=localise)
    text = visible(write(study, tmp_path / "report", own).read_text())
    assert "What do the heads respond to?" in text
    assert "The heads with the strongest scores." in text
    assert re.search(r"The largest t of Welch is \+9\.50, at head \d:\d\.", text)


def test_a_large_study_draws_the_other_maps_on_their_pages(plain, config, tmp_path, monkeypatch):
    monkeypatch.setattr(other_units, "MOST_DRAWN", 0)
    kept = {"refusal": config.contrasts["refusal"]}
    index = write(plain, tmp_path / "report", replace(config, contrasts=kept))
    text = visible(index.read_text())
    assert "The page of the contrast over all subjects draws the maps." in text
    assert "Maps of other units" not in text
    leaf = visible((index.parent / "contrasts/refusal.html").read_text())
    assert "Attention heads (t of Welch)" in leaf
