"""The page of sparsity on tables whose numbers are known."""

import json
import re
import shutil

import pandas as pd
import pytest
from report_files import visible, write

from lmri.report.sparsity.figures import speed_figure
from lmri.report.sparsity.names import amount
from lmri.report.words import NOTHING
from lmri.store import write_table


@pytest.fixture(scope="module")
def page(plain, config, tmp_path_factory) -> str:
    index = write(plain, tmp_path_factory.mktemp("sparse") / "report", config)
    return (index.parent / "pages/sparsity.html").read_text()


@pytest.fixture
def study(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "fixture")


def page_of(study, config, tmp_path) -> str:
    index = write(study, tmp_path / "report", config)
    return (index.parent / "pages/sparsity.html").read_text()


def test_the_page_answers_its_question(page):
    text = visible(page).replace("\xa0", " ")
    assert "How much of a model can a token do without" in text
    assert "a token of localised does without 17.5 % of the weights it is multiplied with" in text
    assert "17.5 % events -0.100; next 28 %: 1.032" in text
    assert "none measured next 28 %: 1.032" in text  # a policy that costs more at once
    assert "localised CATS 2.00 (2.00 to 2.00)" in text  # beside plain transformers


def test_every_policy_is_in_the_key_of_both_figures(page):
    for name in ("TEAL", "CATS"):
        assert page.count(f">{name}</text>") == 4  # two subjects, quality and speed
    assert ">ideal</text>" in page


def test_the_figure_of_speed_says_what_it_shows_and_a_table_has_tokens_per_second(page):
    text = visible(page)
    assert "Speed of decoding at batch 1, over that of the same runtime that skips" in text
    # Eight tokens in 10, 20 and 40 ms; decoding and then prefill.
    assert "localised TEAL 50 % 800 400 200 800 400 200" in text


def test_speeds_are_compared_within_rounds():
    # Rounds on busy cores: the medians of the arms are 1.44 apart, the rounds about the same.
    seconds = {
        "sparse": (5.7, 5.9, 10.0),
        "dense": (8.5, 5.3, 10.2),
        "transformers": (17.0, 10.6, 20.4),
    }
    rows = [
        ("small", "cats", "cats_80", 0.2, 1.25, "cpu", 1, "decode", arm, number, 4, own / 1000)
        for arm, times in seconds.items()
        for number, own in enumerate(times)
    ]
    columns = [
        *("subject", "policy", "plan", "sparsity", "ideal", "backend", "threads"),
        *("phase", "arm", "round", "tokens", "seconds"),
    ]
    figure = speed_figure(pd.DataFrame(rows, columns=columns), "speed.csv")
    assert "small: at most 1.02 times the same at 0 % (CATS), which is 2.00 times" in figure.alt
    assert "transformers: small CATS 2.00 (2.00 to 2.00)." in figure.look_for
    assert "(3 rounds)" in figure.look_for


def test_what_was_asked_and_achieved_is_listed(page):
    text = visible(page)
    assert "channels 50 % 50 % 49 % 48 % to 50 % 2 140 kB 70 kFLOP" in text


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0, "0 B"), (999.4, "999 B"), (999.6, "1 kB"), (2.5e9, "2.5 GB"), (float("nan"), NOTHING)],
)
def test_amounts_have_three_digits_and_a_prefix(value, wanted):
    assert amount(value, "B") == wanted


def test_survival_tells_correlation_and_the_rank_of_the_strongest(page):
    text = visible(page)
    assert ", last token of the prompt 0.97 96 units 2, 3 0.80 chance 0.03 1 2:3" in text


def test_findings_under_a_plan_stand_beside_the_dense_effect(study, config, tmp_path):
    path = study / "validation/localised/arms.parquet"
    arms = pd.read_parquet(path)
    keep = (arms["arm"] == "finding") & arms["primary"] & (arms["held_out"] == "all")
    dense = arms[keep & (arms["trial_role"] == "target")].iloc[[0]]
    changed = dense.assign(arm="finding_sparse", primary=False, effect=-0.42, low=-0.5, high=-0.3)
    write_table(path, pd.concat([arms, changed], ignore_index=True))
    text = visible(page_of(study, config, tmp_path))
    minus = "\N{MINUS SIGN}"
    shown = [f"{dense[name].item():.2f}".replace("-", minus) for name in ("effect", "low", "high")]
    off = len(json.loads(dense["units"].item()))
    assert "Do findings survive?" in text
    told = rf"experts rate difference, .* {off} {shown[0]} {shown[1]} to {shown[2]} {minus}0\.42"
    assert re.search(told, text)


def test_a_study_without_policies_has_no_page(study, values, tmp_path):
    from lmri.config import StudyConfig

    config = StudyConfig.from_dict({**values, "sparse": {}})
    index = write(study, tmp_path / "report", config)
    assert not (index.parent / "pages/sparsity.html").exists()
    assert "Sparsity" not in visible(index.read_text())


def test_a_lost_table_is_an_error_and_the_page_stands(study, config, tmp_path):
    (study / "sparse/localised/runs/speed.parquet").unlink()
    index = write(study, tmp_path / "report", config)
    assert "sparse/localised/runs/speed.parquet" in visible(index.read_text())
    text = visible((index.parent / "pages/sparsity.html").read_text())
    assert "distributed" in text


def test_names_from_tables_are_escaped(study, config, tmp_path):
    path = study / "sparse/localised/runs/quality.parquet"
    table = pd.read_parquet(path)
    write_table(
        path, table.assign(task=table["task"].replace("events", "<script>alert(1)</script>"))
    )
    page = page_of(study, config, tmp_path)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
