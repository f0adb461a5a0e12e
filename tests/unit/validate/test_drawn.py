"""Control draws scored by other jobs: the same verdicts, and nothing is run twice."""

import json

import pytest

from benchmarks.validation.planted import judge, write_study
from lmri.config import ValidateOptions
from lmri.errors import StoreError
from lmri.store import read_table
from lmri.validate import score_draws, validate_subject
from lmri.validate.arms import Bench

OPTIONS = {"bootstrap": 200, "rows": 512, "control_bystander_trials": 20}
TABLES = ("arms", "claims", "transcripts", "trials", "verdicts")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A planted study, validated by one job."""
    root = tmp_path_factory.mktemp("study")
    write_study(root, "backup")
    judge(root)
    return root


def scored(study, folder, shards, subject=""):
    """Let every shard score its share."""
    for shard in range(shards):
        score_draws(
            subject="planted",
            model=study / "model",
            stimuli=study / "stimuli",
            findings=study / "findings",
            out=folder / f"{shard}.parquet",
            shard=shard,
            options=ValidateOptions(**OPTIONS, shards=shards),
            seed=0,
            provenance={"subject": subject},
        )
    return folder


def validated(study, draws, out, shards=1):
    validate_subject(
        subject="planted",
        model=study / "model",
        stimuli=study / "stimuli",
        findings=study / "findings",
        out=out,
        options=ValidateOptions(**OPTIONS, shards=shards),
        seed=0,
        provenance={"subject": ""},
        draws=draws,
    )


@pytest.fixture
def run_arms(monkeypatch):
    """Names of the arms that are run the short way."""
    seen, quick = [], Bench.quick

    def note(self, arms, trials, score):
        seen.extend(arm.name for arm in arms)
        return quick(self, arms, trials, score)

    monkeypatch.setattr(Bench, "quick", note)
    return seen


@pytest.mark.parametrize("shards", [1, 3])
def test_verdicts_are_those_of_one_job_however_many_shards(study, tmp_path, shards, run_arms):
    draws = scored(study, tmp_path / "draws", shards)
    sizes = [len(read_table(path)) for path in sorted(draws.glob("*"))]
    assert len(sizes) == shards and min(sizes) > 0.8 * max(sizes)
    assert len(run_arms) > 100
    run_arms.clear()
    validated(study, draws, tmp_path / "out", shards)
    assert not {"sham", "layer_matched", "load_matched"} & set(run_arms)
    for name in TABLES:
        one = read_table(study / f"validation/{name}.parquet")
        many = read_table(tmp_path / f"out/{name}.parquet")
        assert one.equals(many), name


def test_what_a_shard_did_not_score_is_run(study, tmp_path, run_arms):
    draws = scored(study, tmp_path / "draws", 3)
    (draws / "1.parquet").unlink()
    run_arms.clear()
    validated(study, draws, tmp_path / "out", 3)
    assert run_arms.count("sham") > 10
    one = read_table(study / "validation/verdicts.parquet")
    assert one.equals(read_table(tmp_path / "out/verdicts.parquet"))


def test_what_was_scored_is_what_the_verdict_rests_on(study, tmp_path):
    # Scores that are tampered with show: they are read, and not run again.
    draws = scored(study, tmp_path / "draws", 1)
    table = read_table(draws / "0.parquet")
    table.assign(value=1 - table["value"]).to_parquet(draws / "0.parquet")
    validated(study, draws, tmp_path / "out")
    (row,) = read_table(tmp_path / "out/verdicts.parquet").to_dict("records")
    assert row["verdict"] != "confirmed"
    assert row["sham_most"] == 1


def test_draws_of_another_subject_are_refused(study, tmp_path):
    draws = scored(study, tmp_path / "draws", 1, subject="f" * 64)
    with pytest.raises(StoreError, match=r"0\.parquet: the subject of the control draws must be"):
        validated(study, draws, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert json.loads(read_table(draws / "0.parquet").attrs["provenance"])["subject"] == "f" * 64
