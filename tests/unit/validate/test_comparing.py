"""Two subjects compared: the difference of their effects, and what is no comparison."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from lmri import cli
from lmri.errors import EvidenceError, StoreError
from lmri.store import read_table, write_finding, write_table
from lmri.validate import compare_lineages, compare_subjects, comparison_lines
from lmri.validate.comparing import comparison_table
from lmri.validate.job import TRIAL_COLUMNS

N = 120
TRIALS = [f"t{number}" for number in range(N)]


def trials_of(subject: str, effect: float, bystander: float, seed: int) -> pd.DataFrame:
    """Trials of a subject whose units change so large a share of them."""
    rng = np.random.default_rng(seed)
    frames = []
    for condition, role, share in (
        ("sensitive", "target", effect),
        ("benign", "bystander", bystander),
    ):
        fallen = np.isin(np.arange(N), rng.permutation(N)[: round(share * N)])
        for arm, value in (("intact", np.ones(N)), ("finding", 1.0 - fallen)):
            frame = pd.DataFrame({"trial": TRIALS, "refusal_onset": value, "exact": value})
            columns = {
                "subject": subject,
                "contrast": "refusal",
                "phase": "prompt_last",
                "kind": "expert",
                "method": "resonance",
                "arm": arm,
                "mode": "mask",
                "dose": 1,
                "primary": arm == "finding",
                "task": "events",
                "condition": condition,
                "trial_role": role,
            }
            frames.append(frame.assign(**columns))
    return pd.concat(frames, ignore_index=True).reindex(columns=list(TRIAL_COLUMNS))


@pytest.fixture
def study(tmp_path, tiny_model_folder, make_finding):
    """The function that makes a study of subjects with so large effects, all of one base."""
    write_table(
        tmp_path / "stimuli/events.parquet",
        pd.DataFrame({"trial": TRIALS, "carrier_place": [f"p{n // 4}" for n in range(N)]}),
    )

    def make(**effects: tuple[float, float]):
        for seed, (name, (effect, bystander)) in enumerate(effects.items()):
            folder = tmp_path / "subjects" / name
            shutil.copytree(tiny_model_folder, folder)
            (folder / "card.json").write_text(json.dumps({"base_sha256": "a" * 64}))
            table = trials_of(name, effect, bystander, seed)
            write_table(tmp_path / f"validation/{name}/trials.parquet", table)
            finding = make_finding("head", [[0, 0]], [[[0, 1]]], subject=name)
            place = tmp_path / f"findings/localise/{name}/refusal.prompt_last"
            write_finding(place / "expert.resonance.json", finding)
        return tmp_path

    return make


def test_a_large_difference_is_one_and_none_is_none(study):
    folder = study(here=(0.9, 0.02), there=(0.1, 0.02))
    target, bystander = compare_subjects(folder, "here", "there", resamples=400)
    assert target.trial_role == "target" and target.outcome == "differ"
    assert target.difference == pytest.approx(-0.8, abs=0.01)
    assert target.low < target.difference < target.high < 0
    assert (target.first_effect, target.second_effect) == pytest.approx((-0.9, -0.1), abs=0.01)
    assert (target.n, target.n_carriers) == (N, 30)
    assert target.p_corrected == pytest.approx(min(1, 2 * target.p))
    assert bystander.outcome == "alike" and bystander.score == "exact"
    (head, *lines) = comparison_lines([target, bystander])
    assert "here and there, of one base (aaaaaaaaaaaa)" in head
    assert lines[0].endswith("n 120 (30 carriers): differ")


def test_significant_in_one_and_not_in_the_other_is_no_difference(study):
    """One interval excludes 0 and the other does not, but that of the difference does not."""
    folder = study(here=(0.07, 0.0), there=(0.02, 0.0))
    target, _ = compare_subjects(folder, "here", "there", resamples=400)
    assert target.first_high < 0 <= target.second_high
    assert target.outcome != "differ"


def test_the_difference_of_a_subject_from_its_twin_is_rarely_shown(study):
    effects = {f"s{number}": (0.3, 0.1) for number in range(6)}
    found = compare_lineages(study(**effects), list(effects), resamples=200, seed=0)
    assert len(found) == 2 * 15
    assert sum(own.outcome == "differ" for own in found) <= 2


def test_many_subjects_are_compared_with_the_first(study):
    effects = {f"s{number}": (0.3, 0.1) for number in range(7)}
    found = compare_lineages(study(**effects), list(effects), resamples=100, seed=0)
    assert {own.first for own in found} == {"s0"} and len(found) == 2 * 6


def test_bad_comparisons_are_refused(study):
    folder = study(here=(0.9, 0.0), there=(0.1, 0.0))
    with pytest.raises(EvidenceError, match=r"must be two. Got 'here' twice"):
        compare_subjects(folder, "here", "here")
    with pytest.raises(StoreError, match="nobody: no such subject"):
        compare_subjects(folder, "here", "nobody")
    path = folder / "validation/there/trials.parquet"
    table = read_table(path)
    write_table(path, table[table["trial"] != "t0"])
    with pytest.raises(EvidenceError, match=r"the same trials of events, sensitive. Got 1"):
        compare_subjects(folder, "here", "there")
    write_table(path, table.assign(contrast="another"))
    with pytest.raises(EvidenceError, match="no finding was tested in both"):
        compare_subjects(folder, "here", "there")


def test_lineage_and_anatomy_are_checked(study):
    folder = study(here=(0.9, 0.0), there=(0.1, 0.0))
    card = folder / "subjects/there/card.json"
    card.write_text(json.dumps({"base_sha256": "b" * 64}))
    with pytest.raises(EvidenceError, match=r"must be of one base, .* give --any-lineage"):
        compare_subjects(folder, "here", "there")
    (own, _) = compare_subjects(folder, "here", "there", any_lineage=True, resamples=100)
    assert own.lineage == ""
    assert compare_lineages(folder, ["here", "there"], resamples=100, seed=0) == []
    assert list(comparison_table([])) == list(comparison_table([own]))
    config = folder / "subjects/there/config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "num_experts": 4}))
    with pytest.raises(EvidenceError, match="must have the same anatomy"):
        compare_subjects(folder, "here", "there")


def test_the_command_prints_and_writes(study, capsys):
    folder = study(here=(0.9, 0.0), there=(0.1, 0.0))
    out = folder / "difference.json"
    command = ["compare", "here", "there", "--study", str(folder), "--out", str(out)]
    assert cli.main(command) == 0
    assert "difference -0.80" in capsys.readouterr().out
    assert [row["outcome"] for row in json.loads(out.read_text())] == ["differ", "alike"]
    assert cli.main(["compare", "here", "--study", str(folder)]) == 2
    assert "needs two subjects. Got 'here' alone" in capsys.readouterr().err
    assert cli.main(["compare", "--study", str(folder)]) == 2
    values = json.dumps({"seed": 0, "subjects": ["here", "there"], "bootstrap": 100})
    table = folder / "comparisons.parquet"
    command = ["compare", "--config", values, "--study", str(folder), "--out", str(table)]
    assert cli.main(command) == 0
    assert read_table(table)["outcome"].tolist() == ["differ", "alike"]
