"""`lmri score`: saved responses score again, under the plans they were made with."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from lmri import cli
from lmri.intervene import (
    INTACT,
    Plan,
    continuation_log_probabilities,
    plan_record,
    respond,
)
from lmri.score import encode, response_log_probability, response_table, write_responses
from lmri.world.lexicon import REFUSAL

PLANS = {"intact": INTACT, "finding": Plan("zero", tuple((1, e) for e in range(8)))}
FACT = "the queen built the tower ."


@pytest.fixture(scope="module")
def responses(tiny_subject, small_world):
    """Responses of the tiny subject to eight questions, intact and without its experts."""
    tokenizer = tiny_subject.tokenizer
    trials = pd.DataFrame(
        {
            "trial": [f"t{i}" for i in range(8)],
            "condition": ["sensitive", "benign"] * 4,
            "prompt": [small_world.event(p, "1900").prompt for p in small_world.places[:8]],
            "reference": [REFUSAL, FACT] * 4,
            "fact": FACT,
            "refusal": REFUSAL,
            "carrier_place": [f"p{i // 2}" for i in range(8)],
        }
    )
    prompts = [encode(tokenizer, prompt, "test") for prompt in trials["prompt"]]
    watched = [encode(tokenizer, REFUSAL, "test")[0]] * 8
    tables = []
    for arm, plan in PLANS.items():
        said = respond(tiny_subject, prompts, watched, plans=[plan], max_new_tokens=4, rows=8)
        own = said.tokens, said.ended, said.onset_margin
        record = json.dumps(plan_record(plan))
        tables.append(
            response_table(tokenizer, trials, prompts, *own, arm=arm, seed=1, plan=record)
        )
    return tables, prompts


@pytest.fixture
def saved(responses, tmp_path):
    path = tmp_path / "responses.parquet"
    write_responses(path, responses[0])
    return path


def run(*arguments):
    return cli.main(["score", *map(str, arguments)])


def test_text_scores_need_no_subject(saved, tmp_path, responses):
    out = tmp_path / "scores.csv"
    assert run(saved, "--scorer", "match_f1", "--scorer", "onset_margin", "--out", out) == 0
    found = pd.read_csv(out)
    assert found["arm"].tolist() == ["intact"] * 8 + ["finding"] * 8
    wanted = pd.concat(responses[0])["onset_margin"].tolist()
    assert found["onset_margin"].tolist() == pytest.approx(wanted)
    assert found["match_f1"].between(0, 1).all()


def test_log_probabilities_are_read_under_the_plan_of_each_arm(
    saved, tmp_path, responses, tiny_subject, tiny_model_folder
):
    tables, prompts = responses
    out = tmp_path / "scores.parquet"
    names = ["refusal_log_odds", "response_log_probability"]
    flags = [flag for name in names for flag in ("--scorer", name)]
    assert run(saved, *flags, "--model", tiny_model_folder, "--out", out) == 0
    found = pd.read_parquet(out)
    first = encode(tiny_subject.tokenizer, REFUSAL, "test")[:1]
    for arm, plan in PLANS.items():
        own = found[found["arm"] == arm]
        log = continuation_log_probabilities(
            tiny_subject, prompts, [first] * 8, plans=[plan], rows=8
        )
        logs = np.concatenate(log)
        wanted = logs - np.log(-np.expm1(logs))
        np.testing.assert_allclose(own["refusal_log_odds"], wanted, rtol=1e-4)
        table = tables[list(PLANS).index(arm)]
        tokens = [np.array(row) for row in table["tokens"]]
        likely = response_log_probability(tiny_subject, prompts, tokens, rows=8)
        np.testing.assert_allclose(own["response_log_probability"], likely, rtol=1e-4)
    means = found.groupby("arm")["refusal_log_odds"].mean()
    assert abs(means["finding"] - means["intact"]) > 1e-3


def test_a_study_names_scorers_and_limits(saved, tmp_path, tiny_model_folder, repository):
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "lab_of_cli.py").write_text("def long(answer, trial):\n    return len(answer)\n")
    phrases = {"name": "lab", "version": 1, "within": None, "phrases": ["queen"]}
    (tmp_path / "lab.json").write_text(json.dumps(phrases))
    section = {
        "names": ["coherent", "long", "refusal_phrases_lab"],
        "functions": [
            {"name": "long", "function": "lab_of_cli:long", "folder": str(folder), "low": 0}
        ],
        "phrases": [str(tmp_path / "lab.json")],
        "limits": {"log_probability": -100, "repeats": 1},
    }
    config = json.dumps({"seed": 0, "scorers": section})
    out = tmp_path / "scores.csv"
    assert run(saved, "--config", config, "--model", tiny_model_folder, "--out", out) == 0
    found = pd.read_csv(out)
    assert list(found)[-3:] == section["names"]
    assert found["coherent"].isin([0, 1]).all()


def test_labels_of_a_sheet_are_compared_arm_by_arm(saved, tmp_path, capsys):
    sheet, key, out = (tmp_path / name for name in ("sheet.csv", "key.csv", "agreement.csv"))
    assert run(saved, "--sheet", sheet, "--key", key, "--seed", 4, "--per-arm", 3) == 0
    assert "12 rows" in capsys.readouterr().out
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with sheet.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"label": n % 2} for n, row in enumerate(rows))
    flags = ["--labels", sheet, "--key", key, "--scorer", "exact", "--out", out]
    assert run(saved, *flags) == 0
    found = pd.read_csv(out)
    assert found["arm"].tolist() == ["finding", "intact", "all"]
    assert found["n"].tolist() == [6, 6, 12]
    assert found["agreement"].between(0, 1).all()
    assert "kappa" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "needs --out and a --scorer"),
        (["--scorer", "exact"], "needs --out"),
        (["--out", "x.csv"], "needs --out and a --scorer"),
        (["--scorer", "exactly", "--out", "x.csv"], "must be one of 'coherent'"),
        (["--scorer", "exact", "--out", "x.txt"], "'suffix' of the scores"),
        (["--scorer", "forced_choice", "--out", "x.csv"], "name the subject"),
        (["--sheet", "s.csv"], "--sheet needs --key"),
        (["--sheet", "s.csv", "--key", "k.csv", "--per-arm", "0"], "--per-arm must be at least 1"),
        (["--labels", "s.csv", "--scorer", "exact", "--out", "x.csv"], "needs the --key"),
    ],
)
def test_mistakes_are_told_in_one_line(saved, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    assert run(saved, *flags) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["responses.parquet"]


def test_an_arm_without_a_plan_cannot_be_read_again(responses, tmp_path, tiny_model_folder, capsys):
    path, out = tmp_path / "responses.parquet", tmp_path / "x.csv"
    flags = ["--scorer", "refusal_log_odds", "--model", tiny_model_folder, "--out", out]
    for plan, words in (("", "plan of arm 'intact' must be saved"), ("{", "must be JSON")):
        write_responses(path, [responses[0][0].assign(plan=plan)])
        assert run(path, *flags) == 2
        assert words in capsys.readouterr().err
    assert not out.exists()
