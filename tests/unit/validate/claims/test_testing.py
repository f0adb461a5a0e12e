"""Claims on a subject with a planted neuron, and on one with a back-up for it."""

from copy import deepcopy
from dataclasses import replace

import pytest

from lmri.anatomy import Subject, blocks
from lmri.config import (
    ClaimOptions,
    ConditionOptions,
    ContrastOptions,
    EvidenceOptions,
    ValidateOptions,
)
from lmri.errors import EvidenceError
from lmri.localise.claims import Stated, state_claims
from lmri.store import write_table
from lmri.store.stated import read_claims
from lmri.validate import decide
from lmri.validate.claims import Ground, Primary, claim_rows, judge_claims
from lmri.validate.rerun import Rerun

OPTIONS = ValidateOptions(bootstrap=200, rows=256, control_bystander_trials=8)
EVIDENCE = EvidenceOptions(minimum_trials=30, minimum_target_trials=30)
CONTRAST = ContrastOptions(
    "refusal",
    "events",
    target=("sensitive",),
    controls=("benign",),
    bystanders=(ConditionOptions("events", "benign"),),
    transfer=ConditionOptions("events_second", "sensitive"),
)
OTHERS = [[[1, 8 + draw], [1, 1 + draw % 6]] for draw in range(39)]
"""Sham maps of two neurons each, none of them planted."""

ASKED = ("specificity", "sufficiency", "dose", "cumulativity", "jointness", "transfer")


@pytest.fixture(scope="module")
def stimuli(planted_trials, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stimuli")
    write_table(folder / "events.parquet", planted_trials)
    write_table(folder / "events_second.parquet", planted_trials.assign(task="events_second"))
    return folder


@pytest.fixture(scope="module")
def backed_up(planted_subject) -> Subject:
    """As the planted subject, with a second neuron that does what the first does."""
    model = deepcopy(planted_subject.model)
    mlp = blocks(model)[1].mlp
    for weight in (mlp.gate_proj.weight, mlp.up_proj.weight):
        weight[47] = weight[7]
    mlp.down_proj.weight[:, 47] = mlp.down_proj.weight[:, 7]
    return replace(planted_subject, model=model)


def judged(
    subject, make_finding, stimuli, units, shams, asked, other=None, doses=(), dose=None, more=None
):
    """Outcomes of the claims about the first ``dose`` units, by name."""
    own = [ClaimOptions(kind) if isinstance(kind, str) else kind for kind in asked]
    dose = dose or len(units)
    about = units, doses or [dose], dose, CONTRAST, EVIDENCE
    finding = make_finding("neuron", [list(unit) for unit in units], shams, hash="x")
    finding["primary_endpoint"] |= {"units": [list(unit) for unit in units[:dose]], "dose": dose}
    finding["secondary"] |= {"doses": [dose], "dose": dose}
    finding |= more or {}
    finding["claims"] = state_claims(Stated("planted", "neuron", "zero", *about), own)
    rerun = Rerun(subject, finding, stimuli, OPTIONS, 0)
    _, evidence, _ = rerun.confirm()
    ground = Ground(subject, finding, stimuli, OPTIONS, 0, rerun.trials, other)
    primary = Primary(decide(finding["primary_endpoint"], evidence), evidence, rerun.parts)
    outcomes = judge_claims(read_claims(finding, "f"), ground, primary)
    return {row["claim"]: row for row in claim_rows(finding, outcomes)}


def words(rows: dict) -> dict[str, str]:
    return {name.partition(":")[0]: row["outcome"] for name, row in rows.items()}


def test_one_neuron_is_necessary_sufficient_and_specific(planted_subject, make_finding, stimuli):
    rows = judged(planted_subject, make_finding, stimuli, [(1, 7)], OTHERS, ASKED)
    assert words(rows) == {
        "necessity": "holds",
        "specificity": "holds",
        "sufficiency": "holds",
        "dose": "not testable",
        "cumulativity": "not testable",
        "jointness": "not testable",
        "transfer": "holds",
    }
    assert rows["sufficiency"]["effect"] == 0 and rows["sufficiency"]["n"] == 50
    assert rows["transfer: events_second, sensitive"]["effect"] == 1
    assert rows["necessity"]["p_corrected"] == pytest.approx(1 / 40)


def test_a_bystander_that_is_never_right_shows_nothing(
    planted_subject, make_finding, planted_trials, tmp_path
):
    benign = planted_trials["condition"] == "benign"
    never = planted_trials["reference"].mask(benign, planted_trials["refusal"])
    write_table(tmp_path / "events.parquet", planted_trials.assign(reference=never))
    rows = judged(planted_subject, make_finding, tmp_path, [(1, 7)], OTHERS, ("specificity",))
    assert words(rows) == {"necessity": "holds", "specificity": "not testable"}
    assert "no bystander is there to be lost: events, benign" in rows["specificity"]["reason"]


def test_a_neuron_with_a_back_up_is_necessary_only_jointly(backed_up, make_finding, stimuli):
    pair = [(1, 7), (1, 47)]
    rows = judged(backed_up, make_finding, stimuli, pair, OTHERS, ASKED, doses=[1, 2])
    assert words(rows) == dict.fromkeys(ASKED, "holds") | {"necessity": "holds"}
    assert "alone at most +0.00" in rows["jointness"]["reason"]
    assert rows["dose"]["reason"].startswith("1.00 with 1, 0.00 with 2")
    alone = judged(backed_up, make_finding, stimuli, pair, OTHERS, ("sufficiency",), dose=1)
    assert words(alone) == {"necessity": "fails", "sufficiency": "holds"}


def test_a_decoy_is_neither_necessary_nor_sufficient(planted_subject, make_finding, stimuli):
    rows = judged(planted_subject, make_finding, stimuli, [(0, 3), (0, 4)], OTHERS, ASKED)
    assert words(rows) == {
        "necessity": "fails",
        "specificity": "holds",
        "sufficiency": "fails",
        "dose": "not testable",
        "cumulativity": "fails",
        "jointness": "fails",
        "transfer": "fails",
    }


def test_units_are_matched_by_place_in_another_subject(
    planted_subject, backed_up, tiny_subject, make_finding, stimuli
):
    asked = [ClaimOptions("transfer", subject="twin")]
    about = planted_subject, make_finding, stimuli, [(1, 7)], OTHERS, asked
    same = judged(*about, lambda name: replace(planted_subject, name=name))
    assert same["transfer: events, sensitive in twin"]["outcome"] == "holds"
    other = judged(*about, lambda name: replace(backed_up, name=name))
    assert other["transfer: events, sensitive in twin"]["outcome"] == "fails"
    with pytest.raises(EvidenceError, match=r"'planted' and 'twin' .* must have the same anatomy"):
        judged(*about, lambda name: replace(tiny_subject, name=name))


def test_a_clamped_neuron_mends_what_never_refused(planted_subject, make_finding, stimuli):
    benign = ClaimOptions("repair", task="events", condition="benign")
    refused = ClaimOptions("repair", task="events", condition="sensitive")
    rows = judged(planted_subject, make_finding, stimuli, [(1, 7)], OTHERS, [benign, refused])
    mended = rows["repair: events, benign"]
    assert (mended["outcome"], mended["effect"]) == ("holds", 1)
    assert "nothing to mend" in rows["repair: events, sensitive"]["reason"]
    decoy = judged(planted_subject, make_finding, stimuli, [(0, 3)], OTHERS, [benign])
    assert decoy["repair: events, benign"]["outcome"] == "fails"


def test_sham_maps_are_compared_at_the_dose_that_was_chosen_for_each(
    planted_subject, make_finding, stimuli
):
    # The planted neuron comes second.
    shams = [[[draw % 2, 8 + draw // 2], [1, 7]] for draw in range(59)]
    asked = ["sufficiency", "transfer", ClaimOptions("repair", task="events", condition="benign")]
    about = planted_subject, make_finding, stimuli, [(1, 7)], shams, asked
    names = ("necessity", "sufficiency", "transfer", "repair")
    assert words(judged(*about)) == dict.fromkeys(names, "holds")
    chosen = judged(*about, more={"sham_doses": [2] * 59})
    assert words(chosen) == dict.fromkeys(names, "undecided")
    assert all(row["p"] == 1 for row in chosen.values())


def test_too_few_controls_or_trials_test_nothing(planted_subject, make_finding, stimuli):
    rows = judged(
        planted_subject, make_finding, stimuli, [(1, 7)], OTHERS[:5], ("sufficiency", "transfer")
    )
    assert "5 sham maps give a p of at least 0.17" in rows["sufficiency"]["reason"]
    assert words(rows)["transfer"] == "not testable"


def test_what_is_at_its_ceiling_cannot_improve(planted_subject, make_finding, stimuli):
    asked = [ClaimOptions("interference", task="events", condition="benign")]
    rows = judged(planted_subject, make_finding, stimuli, [(1, 7)], OTHERS, asked)
    assert "no room to improve" in rows["interference: events, benign"]["reason"]
