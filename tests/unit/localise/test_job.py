"""The stage on tiny subjects that nothing can be tested on, and validation after it."""

import csv
from types import SimpleNamespace

import pytest
from families import configuration, random_model

from lmri.config import (
    ContrastOptions,
    EvidenceOptions,
    LocaliseOptions,
    RecordOptions,
    SplitOptions,
    TaskOptions,
    ValidateOptions,
    WorldOptions,
)
from lmri.localise import localise_subject
from lmri.localise.findings import ALWAYS_RUN, NO_EXPERTS
from lmri.localise.job import _role
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.store import read_finding, read_map, read_table
from lmri.validate import validate_subject
from lmri.validate.job import VERDICT_COLUMNS
from lmri.world import build_tokenizer

CONDITIONS = {"task": "marks", "target": ["a"], "controls": ["b"]}
CONTRASTS = (
    {"name": "claim", "role": "hypothesis", "bystanders": [{"task": "marks", "condition": "b"}]},
    {"name": "look", "role": "exploratory"},
)


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory, small_world):
    """Two conditions told by their first word; 16 entities in each."""
    folder = tmp_path_factory.mktemp("marks")
    first, second, *others = [w for w in small_world.words() if w.isalpha()][:40]
    with (folder / "marks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        names = ["condition", "entity", "class_entity", "prompt", "content", "reference"]
        writer.writerow(names)
        for i, word in enumerate(others[:32]):
            kind, mark = ("a", first) if i % 2 else ("b", second)
            writer.writerow([kind, word, kind, f"{mark} {word}", mark, word])
    write_stimuli(
        out=folder / "stimuli/marks.parquet",
        task="marks",
        options=TaskOptions("marks", "table", str(folder / "marks.csv"), ("entity",)),
        splits=SplitOptions(0.5, 0.25, 0.25),
        world=WorldOptions(),
        seed=0,
        provenance={},
    )
    return folder / "stimuli"


@pytest.fixture
def run(stimuli, tmp_path, small_world):
    """Record, localise and validate the tiny model of an architecture."""

    def call(kind: str, contrasts=CONTRASTS):
        tokenizer = build_tokenizer(small_world)
        random_model(configuration(kind, vocab_size=len(tokenizer))).save_pretrained(
            tmp_path / "model"
        )
        tokenizer.save_pretrained(tmp_path / "model")
        common = {"subject": "tiny", "model": tmp_path / "model", "seed": 0, "provenance": {}}
        store = tmp_path / "recordings/marks/0.zarr"
        record_task(
            out=store,
            manifest=store.with_name("0.zarr.manifest.json"),
            task="marks",
            stimuli=stimuli / "marks.parquet",
            shard=0,
            options=RecordOptions(max_new_tokens=2),
            **common,
        )
        localise_subject(
            stimuli=stimuli,
            recordings=tmp_path / "recordings",
            maps=tmp_path / "maps",
            findings=tmp_path / "findings",
            tasks={"marks": ("entity",)},
            contrasts=[ContrastOptions.from_dict({**CONDITIONS, **c}) for c in contrasts],
            options=LocaliseOptions(("content",), permutations=99),
            evidence=EvidenceOptions(minimum_trials=1, minimum_target_trials=1),
            claims=1,
            **common,
        )
        validate_subject(
            stimuli=stimuli,
            findings=tmp_path / "findings",
            out=tmp_path / "validation",
            options=ValidateOptions(bootstrap=100),
            **common,
        )
        return tmp_path

    return call


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_without_experts_there_is_no_map_and_the_finding_says_so(run, kind):
    out = run(kind)
    assert list((out / "maps").iterdir()) == []
    for contrast in ("claim", "look"):
        finding = read_finding(out / f"findings/{contrast}.content/expert.resonance.json")
        assert (finding["status"], finding["reason"]) == ("not_testable", NO_EXPERTS)
        assert finding["units"] == []
    verdicts = read_table(out / "validation/verdicts.parquet")
    assert tuple(verdicts["contrast"]) == ("claim",)
    assert set(verdicts.columns) == set(VERDICT_COLUMNS)
    (row,) = verdicts.to_dict("records")
    assert (row["verdict"], row["reason"], row["n"]) == ("not testable", NO_EXPERTS, 0)
    for table in ("arms", "transcripts"):
        assert len(read_table(out / f"validation/{table}.parquet")) == 0


def test_experts_that_always_run_are_mapped_and_not_tested(run):
    out = run("llama4_text")
    statistics = read_map(out / "maps/claim.content/expert.resonance.zarr")
    assert float(statistics["p_max"].min()) <= 0.05
    assert float(statistics["score"].max()) == 1.0
    finding = read_finding(out / "findings/claim.content/expert.resonance.json")
    assert (finding["status"], finding["reason"]) == ("not_testable", ALWAYS_RUN)
    assert finding["units"]
    look = read_finding(out / "findings/look.content/expert.resonance.json")
    assert look["reason"].startswith("an exploratory map decides nothing")
    (row,) = read_table(out / "validation/verdicts.parquet").to_dict("records")
    assert (row["verdict"], row["reason"], row["mode"]) == ("not testable", ALWAYS_RUN, "")


def test_a_study_without_claims_has_no_verdict(run):
    out = run("llama", contrasts=[CONTRASTS[1]])
    verdicts = read_table(out / "validation/verdicts.parquet", VERDICT_COLUMNS)
    assert len(verdicts) == 0


@pytest.mark.parametrize("role", ["hypothesis", "negative_control", "exploratory"])
def test_only_the_first_phase_decides(role):
    study = SimpleNamespace(options=LocaliseOptions(phases=("content", "prompt_last")))
    contrast = ContrastOptions(name="c", task="t", role=role)
    assert _role(study, contrast, "content") == role
    assert _role(study, contrast, "prompt_last") == "exploratory"
