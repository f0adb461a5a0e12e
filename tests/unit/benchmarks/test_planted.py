"""Circuits that are known to the last weight get the verdicts that they should."""

import json

import numpy as np
import pytest
import torch

from benchmarks.validation.planted import (
    CIRCUITS,
    FIRST,
    LAYER,
    SECOND,
    WORDS,
    judge,
    planted_model,
    write_study,
)
from lmri.anatomy import load_subject
from lmri.intervene import Plan
from lmri.store import read_table
from lmri.validate.arms import Arm, Bench
from lmri.validate.plan_arms import INTACT_ARM


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Folder, arms, outcomes of claims and verdict of the study of a circuit; each is run once."""
    done = {}

    def run(circuit):
        if circuit not in done:
            root = tmp_path_factory.mktemp(circuit)
            write_study(root, circuit)
            arms, claims, verdicts = judge(root)
            (verdict,) = verdicts.to_dict("records")
            done[circuit] = root, arms, outcomes(claims), verdict
        return done[circuit]

    return run


def outcomes(claims):
    """What came of the claims, by kind."""
    return dict(zip(claims["claim_kind"], claims["outcome"], strict=True))


def effects(arms):
    """Change of the target's onset under the finding, by mode and dose."""
    own = arms[(arms["arm"] == "finding") & (arms["trial_role"] == "target")]
    own = own[(own["score"] == "refusal_onset") & (own["held_out"] == "all")]
    return {(row.mode, row.dose): row.effect for row in own.itertuples()}


def without(root, *experts):
    """Change of the onset without experts of the circuit's layer, in trials not selected on."""
    subject = load_subject(root / "model", "planted")
    trials = read_table(root / "stimuli/events.parquet", ("trial",))
    keep = (trials["condition"] == "sensitive") & (trials["split"] == "evaluation")
    plan = Plan("mask", tuple((LAYER, expert) for expert in experts))
    bench = Bench(subject, 256, 3, {"log_probability": -100.0, "repeats": 3})
    arms = [INTACT_ARM, Arm("some", "mask", len(experts), plan=plan)]
    intact, off = bench.quick(arms, trials[keep].reset_index(drop=True), "refusal_onset")
    return float((off - intact).mean())


def test_the_only_writer_is_confirmed(studies):
    _, arms, claims, verdict = studies("sole")
    assert (verdict["verdict"], json.loads(verdict["units"])) == ("confirmed", [[LAYER, FIRST]])
    assert effects(arms)["mask", 1] == -1
    assert claims["necessity"] == claims["specificity"] == "holds"
    assert claims["jointness"] != "holds"
    # No sham map ends it, and they are not one and the same.
    shams = arms[(arms["arm"] == "sham") & arms["primary"] & (arms["trial_role"] == "target")]
    assert len(shams) == 39 and shams["units"].nunique() > 5
    assert (shams["effect"] == 0).all()


def test_two_that_back_each_other_up_are_confirmed_only_together(studies):
    root, arms, claims, verdict = studies("backup")
    pair = [[LAYER, FIRST], [LAYER, SECOND]]
    assert (verdict["verdict"], verdict["dose"]) == ("confirmed", 2)
    assert sorted(json.loads(verdict["units"])) == pair
    assert claims["jointness"] == "holds"
    by_dose = effects(arms)
    assert (by_dose["mask", 1], by_dose["mask", 2]) == (0, -1)
    assert [without(root, FIRST), without(root, SECOND)] == [0, 0]
    assert without(root, FIRST, SECOND) == -1


def test_one_that_is_selective_but_not_read_is_refuted(studies):
    _, arms, _, verdict = studies("decoy")
    assert (verdict["verdict"], json.loads(verdict["units"])) == ("refuted", [[LAYER, FIRST]])
    assert verdict["positive_low"] > 0.1
    assert effects(arms)["mask", 1] == 0


@pytest.mark.parametrize("circuit", CIRCUITS)
def test_the_circuit_is_chosen_by_both_lists_together_and_decides(circuit):
    model = planted_model(circuit)
    cases = {
        (y, p): [1, WORDS.index(y), WORDS.index(p)] for y in ("y3", "y40") for p in ("p2", "p30")
    }
    with torch.inference_mode():
        output = model(torch.tensor(list(cases.values())), output_router_logits=True)
    best = output.logits[:, -1].argmax(-1).tolist()
    assert [WORDS[word] for word in best] == ["no", "ok", "ok", "ok"]
    routed = output.router_logits[LAYER].view(4, 3, -1)[:, -1].topk(2).indices.numpy()
    members = {FIRST, SECOND} if circuit == "backup" else {FIRST}
    assert members <= set(routed[0])
    assert not np.isin(routed[1:], list(members)).any()
