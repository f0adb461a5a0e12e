"""Claims of several studies in one table."""

import pandas as pd
import pytest

from lmri.cli import main
from lmri.errors import LmriError
from lmri.report import tally_claims, tally_lines
from lmri.store import write_table


def claims(study, subject, outcomes, place="validation/{}/claims.parquet", contrast="refusal"):
    rows = [
        {"subject": subject, "contrast": contrast, "claim": claim, "outcome": outcome}
        for claim, outcome in outcomes.items()
    ]
    path = study / place.format(subject)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, pd.DataFrame(rows))


@pytest.fixture
def studies(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    claims(first, "localised_11", {"necessity": "holds", "dose": "not testable"})
    claims(first, "localised_12", {"necessity": "holds", "dose": "undecided"})
    claims(first, "localised_13", {"necessity": "fails", "dose": "holds"})
    claims(first, "distributed_11", {"necessity": "fails", "dose": "fails"})
    place = "experiments/{}/steering/statements.parquet"
    claims(second, "localised", {"induces|it": "holds"}, place, "steering")
    return [first, second]


def test_every_outcome_of_every_seed_is_counted(studies):
    counts = tally_claims(studies).set_index(["study", "subjects", "contrast", "claim"])
    necessity = counts.loc[("first", "localised", "refusal", "necessity")]
    assert necessity[["n", "holds", "fails", "undecided", "not testable"]].tolist() == [
        3,
        2,
        1,
        0,
        0,
    ]
    dose = counts.loc[("first", "localised", "refusal", "dose")]
    assert dose[["holds", "fails", "undecided", "not testable"]].tolist() == [1, 0, 1, 1]
    assert counts.loc[("first", "distributed", "refusal", "necessity"), "fails"] == 1
    assert counts.loc[("second", "localised", "steering", "induces|it"), "holds"] == 1
    assert counts["n"].sum() == 9
    names = [index[3] for index in counts.index]
    assert names == ["necessity", "dose", "necessity", "dose", "induces|it"]  # as they are stated


def test_a_study_of_every_base_is_one_study(tmp_path):
    for base, outcome in {"claims_11": "holds", "claims_12": "holds", "claims": "fails"}.items():
        claims(tmp_path / base, "localised", {"necessity": outcome})
    counts = tally_claims([tmp_path / name for name in ("claims_11", "claims", "claims_12")])
    assert len(counts) == 1
    found = counts[["study", "n", "holds", "fails"]].iloc[0]
    assert found.tolist() == ["claims", 3, 2, 1]


def test_the_table_is_markdown(studies, capsys, tmp_path):
    lines = tally_lines(tally_claims(studies))
    assert lines[0].startswith("| study | subjects | contrast | claim | n | holds | fails |")
    assert set(lines[1]) <= set("|- ")
    assert "induces\\|it" in lines[-1]
    out = tmp_path / "counts.csv"
    assert main(["tally", *map(str, studies), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert pd.read_csv(out)["holds"].sum() == 4


def test_a_folder_without_claims_is_named(studies, tmp_path):
    with pytest.raises(LmriError, match=r"nothing: no claims; looked for validation/\*/claims"):
        tally_claims([studies[0], tmp_path / "nothing"])
