"""Causal maps on the pages of contrasts, and the page of layers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from causal_files import CONTRAST, TASKS, write_causal, write_layers
from report_files import HOSTILE, assert_levels, assert_safe, visible, write

PAGE = "contrasts/refusal-simple.html"


@pytest.fixture(scope="module")
def report(causal_study, causal_config, tmp_path_factory) -> Path:
    return write(causal_study, tmp_path_factory.mktemp("out") / "report", causal_config).parent


@pytest.fixture(scope="module")
def section(report) -> str:
    """Text of the section of causal maps."""
    text = visible((report / PAGE).read_text())
    return text[text.index("Causal maps") :].replace("\xa0", " ")


@pytest.mark.parametrize("page", [PAGE, "pages/layers.html"])
def test_pages_are_safe_and_linked(report, page):
    assert_safe(report / page, report)
    assert_levels(report / page)
    assert f'href="{page}"' in (report / "index.html").read_text()


def test_every_kind_and_method_is_named_for_people(section):
    for name in (
        "Relevance patching (RelP)",
        "Attribution patching",
        "Direct logit attribution",
        "Patching, clean into corrupted",
        "Patching, corrupted into clean",
    ):
        assert name in section
    for kind in ("Experts", "Attention heads", "States of the residual stream"):
        assert f"{kind}: effect on the answer" in section
    assert "Features of a dictionary: effect on the answer" in section
    assert "MLP by role of the token: effect on the answer" in section
    told = section[: section.index("Read from")]
    assert "relp" not in told and "patch_denoise" not in told


def test_the_strongest_unit_and_its_place_are_told(section):
    assert (
        "Experts: by patching, clean into corrupted, the strongest expert is in layer 2 in 2 of 2"
        in section
    )
    assert "1 of 96 pass the max-statistic" in section
    assert "the strongest place is in layer 2 (last of prompt) in 2 of 2" in section
    assert "2:1 +4.00 ± 0.50" in section


def test_agreement_comes_with_its_interval_and_number(section, report):
    assert "Do the approximations agree with patching?" in section
    assert "Experts (n = 96)" in section
    assert "0.87 0.61 to 0.95; 96 units" in section
    html = (report / PAGE).read_text()
    assert "experts by relevance patching (RelP): 0.87 (0.61 to 0.95), n = 96" in html
    assert "Estimated against patched effects, unit by unit" in section


def test_what_was_compared_is_told_with_numbers(section):
    assert "localised 12 3 unequal in length +6.50 −4.25 Nothing." in section
    assert "n = 12 pairs of trials a subject" in section


def test_figures_name_their_file_and_data(report):
    html = (report / PAGE).read_text()
    assert "maps/&lt;subject&gt;/refusal_simple.attribution/expert.&lt;method&gt;.zarr" in html
    numbers = pd.read_csv(report / "files/causal-maps.refusal-simple.csv")
    # Two subjects; five methods of four kinds, and four of the one by role.
    assert len(numbers) == 2 * (5 * 4 + 4)
    assert set(numbers["pairs"]) == {12}


def test_contrasts_without_causal_maps_have_no_section(plain, exploring, tmp_path):
    index = write(plain, tmp_path / "report", exploring)
    assert "Causal maps" not in visible((index.parent / PAGE).read_text())
    assert not (index.parent / "pages/layers.html").exists()


def test_a_lost_map_is_an_error_and_the_rest_is_drawn(causal_study, causal_config, tmp_path):
    folder = tmp_path / "fixture"
    shutil.copytree(causal_study, folder)
    for subject in causal_config.subjects:
        shutil.rmtree(folder / f"maps/{subject}/{CONTRAST}.attribution/head.relp.zarr")
        # A kind that a subject has no map of at all is one that it lacks.
        for path in (folder / f"maps/{subject}/{CONTRAST}.attribution").glob("feature.*"):
            shutil.rmtree(path)
        shutil.rmtree(folder / f"maps/{subject}/probes/layer.void.events.zarr")
    index = write(folder, tmp_path / "report", causal_config)
    errors = visible(index.read_text()).partition("Errors and missing inputs")[2]
    assert "refusal_simple.attribution/head.relp.zarr" in errors
    assert "probes/layer.void.events.zarr" in errors
    assert "feature" not in errors
    text = visible((index.parent / PAGE).read_text())
    assert "Attention heads: effect on the answer" in text
    assert "Features of a dictionary: effect on the answer" not in text


def test_no_causal_map_at_all_is_said(causal_study, causal_config, tmp_path):
    folder = tmp_path / "fixture"
    shutil.copytree(causal_study, folder)
    for subject in causal_config.subjects:
        shutil.rmtree(folder / f"maps/{subject}/{CONTRAST}.attribution")
    index = write(folder, tmp_path / "report", causal_config)
    text = visible((index.parent / PAGE).read_text())
    assert "Causal maps None could be read; see the errors" in text


def test_the_page_of_layers_says_who_has_massive_activations(report):
    text = visible((report / "pages/layers.html").read_text())
    assert "Of 2 subjects, 1 has massive activations (localised)." in text
    assert "2500.0 layer 1, after the block 2500 7 of 900 7 the first of their text" in text
    assert "from 0.04 times this scale on" in text
    assert "none at any scale" in text
    assert "5 localised events 1 after the block 7 of 900 −2500.00" in text


def test_the_page_of_layers_says_what_replicates(report):
    text = visible((report / "pages/layers.html").read_text())
    told = text[text.index("What replicates and what does not") :]
    assert "Massive activations (largest activation) events there are some 1 of 2" in told
    assert "events most after layer 1 2 of 2 replicates 40.00 to 40.00" in told
    assert "Void layers while reading (share of tokens, most) events layer 1 2 of 2" in told
    assert "Sinks by position (% of heads, most) events most at position 0 2 of 2" in told


def test_the_data_of_the_page_of_layers_has_every_curve(report):
    data = pd.read_csv(report / "files/layers.csv")
    row = data[(data["subject"] == "localised") & (data["task"] == "events")]
    values = {quantity: own["value"].tolist() for quantity, own in row.groupby("quantity")}
    assert values["void_prompt"] == [0, 0.75, 0]
    assert values["value_drain"] == [1, 0.2, 1]
    assert values["growth_prompt"] == [0, 2, 2.5, 5.5]
    assert values["sink_share"] == [33, 0, 0, 0]
    assert max(values["peak"]) == 40


def test_what_was_not_mapped_is_said_once(causal_study, causal_config, tmp_path):
    folder = tmp_path / "fixture"
    shutil.copytree(causal_study, folder)
    reason = "results/x/recordings/a/0.zarr: the recording must hold 'tokens/layer/norm'."
    for subject in causal_config.subjects:
        shutil.rmtree(folder / f"maps/{subject}/probes")
        reasons = {f"layer.void.{task}": reason for task in TASKS}
        reasons |= {f"{kind}.{task}": "no." for kind in ("layer.peak",) for task in TASKS}
        write_layers(folder, subject, (), reasons)
    index = write(folder, tmp_path / "report", causal_config)
    text = visible((index.parent / "pages/layers.html").read_text()).replace("&#39;", "'")
    assert text.count("the recording must hold 'tokens/layer/norm'.") == 1
    assert "Void layers (copying and events):" in text
    assert "recordings/a" not in text
    assert "Nothing of this was mapped" in text


def test_methods_name_what_was_done_and_its_sources(report):
    text = visible((report / "index.html").read_text())
    assert "Causal maps (refusal simple): target trials (clean) were paired" in text
    assert "arXiv 2508.21258" in text
    assert "arXiv 2402.17762" in text
    assert "those without a value counted with p = 1" in text


def test_hostile_words_stay_words(causal_study, causal_config, tmp_path):
    folder = tmp_path / "fixture"
    shutil.copytree(causal_study, folder)
    markup = HOSTILE[0]
    for subject in causal_config.subjects:
        write_causal(
            folder,
            subject,
            CONTRAST,
            causal_config.localise.causal,
            metric=markup,
            dropped=f'{{"{markup[:20]}": 3}}',
        )
        shutil.rmtree(folder / f"maps/{subject}/probes")
        write_layers(folder, subject, (), {f"layer.void.{markup}": markup, "layer.peak.x": markup})
    index = write(folder, tmp_path / "report", causal_config)
    for page in (PAGE, "pages/layers.html"):
        assert_safe(index.parent / page, index.parent)
        assert "INJECTED" in visible((index.parent / page).read_text())
