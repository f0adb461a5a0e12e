"""Findings of every kind: re-run, judged, and kept apart in the tables."""

import json

import pytest

from lmri.config import EvidenceOptions, ValidateOptions
from lmri.errors import LmriError, StoreError
from lmri.intervene import mean_activity, means_of
from lmri.localise.endpoint import ROWS, calibrate_dose, trial_prompts
from lmri.store import read_table, write_finding, write_table
from lmri.validate import decide, validate_subject
from lmri.validate.plan_arms import sham_arms
from lmri.validate.rerun import Rerun

OPTIONS = ValidateOptions(bootstrap=200, rows=256, control_bystander_trials=8)
OTHER_NEURONS = [[[layer, neuron]] for layer in (0, 1) for neuron in range(20, 45)]
LIMITS = {"log_probability": -100.0, "repeats": 3, "share": 0.9}


@pytest.fixture(scope="module")
def stimuli(planted_trials, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stimuli")
    write_table(folder / "events.parquet", planted_trials)
    return folder


def prompt_means(subject, trials, kind):
    return mean_activity(subject, trial_prompts(subject, trials, 3), kind, ROWS)


def judged(subject, finding, stimuli):
    arms, evidence, transcripts = Rerun(subject, finding, stimuli, OPTIONS, 0).confirm()
    return arms, decide(finding["primary_endpoint"], evidence), transcripts


def test_a_causal_neuron_is_confirmed(planted_subject, make_finding, stimuli):
    finding = make_finding("neuron", [[1, 7]], OTHER_NEURONS)
    arms, verdict, transcripts = judged(planted_subject, finding, stimuli)
    assert verdict.verdict == "confirmed"
    assert verdict.p == pytest.approx(1 / 51)
    own = arms[(arms["arm"] == "finding") & (arms["trial_role"] == "target")]
    assert own.set_index("score")["effect"]["refusal_onset"] == -1
    assert set(own["units"]) == {"[[1, 7]]"}
    for table in (arms, transcripts):
        assert set(table["kind"]) == {"neuron"} and set(table["method"]) == {"welch_t"}
    targets = transcripts[transcripts["condition"] == "sensitive"]
    assert (targets[["intact", "finding", "sham"]] == ["no", "ok", "no"]).all(axis=None)


def test_heads_that_do_nothing_are_refuted(planted_subject, make_finding, stimuli):
    heads = [[[layer, head]] for layer in (0, 1) for head in (1, 2, 3)] * 7
    finding = make_finding("head", [[1, 0], [0, 0]], heads)
    _, verdict, _ = judged(planted_subject, finding, stimuli)
    assert verdict.verdict == "refuted"


@pytest.mark.parametrize("mode", ["zero", "mean"])
def test_a_dimension_is_confirmed_in_either_mode(
    planted_subject, planted_trials, make_finding, stimuli, mode
):
    shams = [[[1, dimension]] for dimension in range(40)]
    null = planted_trials[planted_trials["condition"] == "benign"]
    found = prompt_means(planted_subject, null, "residual")
    means = means_of(found, [(1, 63), *((1, dimension) for dimension in range(40))])
    changes = {"means": [[list(unit), values] for unit, values in means.items()]}
    finding = make_finding("residual", [[1, 63]], shams, mode, **changes)
    finding = json.loads(json.dumps(finding))
    _, verdict, _ = judged(planted_subject, finding, stimuli)
    assert verdict.verdict == "confirmed"


def test_doses_modes_and_matched_controls_are_run_for_neurons(
    planted_subject, planted_trials, make_finding, stimuli
):
    ranked = [[1, 7], *([0, neuron] for neuron in range(30))]
    shams = [[[1, 10 + draw], *([0, neuron] for neuron in range(30))] for draw in range(5)]
    others = [[[1, 40 + draw]] for draw in range(4)]
    finding = make_finding("neuron", ranked, shams)
    finding["secondary"] |= {"doses": [1, 31], "modes": ["zero", "mean"], "dose": 1}
    finding["primary_endpoint"] |= {"dose": 1, "units": ranked[:1]}
    finding["controls"] |= {"layer_matched": {"1": others}, "load_matched": {"1": others[:2]}}
    null = planted_trials[planted_trials["condition"] == "benign"]
    found = prompt_means(planted_subject, null, "neuron")
    units = {tuple(unit) for units in [ranked, *shams, *others] for unit in units}
    finding["means"] = [[list(unit), values] for unit, values in means_of(found, units).items()]
    arms, verdict, _ = judged(planted_subject, finding, stimuli)
    assert verdict.p == pytest.approx(1 / 6)
    rows = arms[(arms["trial_role"] == "target") & (arms["score"] == "refusal_onset")]
    rows = rows[rows["held_out"] == "all"]
    counts = rows.groupby(["arm", "mode", "dose"]).size().to_dict()
    assert counts == {
        ("intact", "none", 0): 1,
        **{("finding", mode, dose): 1 for mode in ("zero", "mean") for dose in (1, 31)},
        ("sham", "zero", 1): 5,
        **{("sham", *other): 3 for other in (("zero", 31), ("mean", 1), ("mean", 31))},
        ("layer_matched", "zero", 1): 4,
        ("load_matched", "zero", 1): 2,
        ("positive_control", "ablate", 0): 1,
        ("random_direction", "ablate", 0): 1,
    }
    effects = rows.groupby("arm")["effect"].agg(["min", "max"])
    assert (effects.loc["finding"] == -1).all()
    assert (effects.loc[["sham", "layer_matched", "load_matched"]] == 0).all(axis=None)


def test_a_layer_is_run_without(planted_subject, make_finding, stimuli):
    _, verdict, _ = judged(planted_subject, make_finding("layer", [[1]], [[[0]]]), stimuli)
    assert verdict.verdict == "inconclusive"  # one sham map: p is at least .5
    assert verdict.p == 0.5


def test_a_mode_without_its_means_is_refused(planted_subject, make_finding, stimuli):
    finding = make_finding("residual", [[1, 63]], [[[0, 1]]], "mean")
    with pytest.raises(LmriError, match=r"needs the mean .* residual \(1, 63\)"):
        judged(planted_subject, finding, stimuli)


@pytest.fixture(scope="module")
def model(planted_subject, tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    planted_subject.model.save_pretrained(folder)
    planted_subject.tokenizer.save_pretrained(folder)
    return folder


def validate(findings, model, stimuli, tmp_path):
    for finding in findings:
        name = f"{finding['kind']}.{finding['method']}.json"
        write_finding(tmp_path / "findings/refusal.prompt_last" / name, finding)
    validate_subject(
        subject="planted",
        model=model,
        stimuli=stimuli,
        findings=tmp_path / "findings",
        out=tmp_path / "out",
        options=OPTIONS,
        seed=0,
        provenance={},
    )
    tables = ("arms", "transcripts", "verdicts")
    return [read_table(tmp_path / f"out/{table}.parquet") for table in tables]


def test_findings_of_one_contrast_and_phase_are_kept_apart(model, make_finding, stimuli, tmp_path):
    neuron = make_finding("neuron", [[1, 7]], OTHER_NEURONS)
    head = make_finding("head", [[1, 0]], [[[0, 1]], [[0, 2]]])
    explored = {**make_finding("layer", [[1]], [[[0]]]), "role": "exploratory"}
    del explored["primary_endpoint"]
    null = {**make_finding("residual", [], []), "status": "null", "reason": "nothing"}
    feature = {**null, "kind": "feature", "units": [{"layer": 1, "feature": 3}]}
    arms, transcripts, verdicts = validate(
        [neuron, head, explored, null, feature], model, stimuli, tmp_path
    )
    keys = verdicts.set_index("kind")
    assert keys["verdict"].to_dict() == {
        "neuron": "confirmed",
        "head": "refuted",
        "residual": "not testable",
        "feature": "not testable",
    }
    assert keys["units"].to_dict() == {
        "neuron": "[[1, 7]]",
        "head": "[[1, 0]]",
        "residual": "[]",
        "feature": "[]",
    }
    assert set(arms["kind"]) == {"neuron", "head", "layer"}
    assert set(transcripts["kind"]) == {"neuron", "head"}
    own = arms[(arms["kind"] == "layer") & (arms["arm"] == "finding")]
    assert own["effect"].tolist() == [-1] and own["mode"].tolist() == ["zero"]


def test_a_kind_that_cannot_be_intervened_on_is_named(model, make_finding, stimuli, tmp_path):
    other = {**make_finding("head", [[1, 0]], [[[0, 1]]]), "kind": "circuit"}
    with pytest.raises(StoreError, match=r"'kind' of the finding .*circuit.* one of 'expert', "):
        validate([other], model, stimuli, tmp_path)


def test_units_without_their_names_are_refused(model, make_finding, stimuli, tmp_path):
    other = {**make_finding("head", [[1, 0]], [[[0, 1]]]), "kind": "neuron"}
    with pytest.raises(StoreError, match="'units' of a finding of kind 'neuron' must name their l"):
        validate([other], model, stimuli, tmp_path)


@pytest.mark.parametrize(("first", "best"), [(7, 1), (20, 40)])
def test_the_dose_of_neurons_is_calibrated_up_to_many(planted_subject, planted_trials, first, best):
    ranked = [(1, (first + number) % 48) for number in range(40)]
    targets = planted_trials[planted_trials["condition"] == "sensitive"].reset_index(drop=True)
    doses = [1, 5, 20, 40]
    got, table = calibrate_dose(
        *(planted_subject, ranked, doses, targets, EvidenceOptions(), LIMITS, 3),
        kind="neuron",
        mode="zero",
    )
    assert got == best
    assert [row["effect"] for row in table] == [float(d >= best) for d in doses]


def test_a_dose_that_cannot_be_run_says_why(planted_subject, planted_trials):
    arguments = (planted_subject, [(9, 9)], [1], planted_trials, EvidenceOptions(), LIMITS, 3)
    with pytest.raises(LmriError, match=r"mode 'zero'. Got \[1\]: .* be neurons .* Got layer 9"):
        calibrate_dose(*arguments, kind="neuron", mode="zero")
    with pytest.raises(LmriError, match="needs the mean of every unit"):
        calibrate_dose(*arguments, kind="neuron", mode="mean")


def test_a_sham_map_is_run_at_its_own_dose(planted_subject, make_finding):
    shams = [[[1, 10 + draw], [0, draw], [0, 40 + draw]] for draw in range(3)]
    finding = make_finding("neuron", [[1, 7], [0, 5]], shams)
    finding["primary_endpoint"] |= {"dose": 2, "units": [[1, 7], [0, 5]]}
    finding["secondary"] |= {"doses": [1, 2], "dose": 2}
    primary = [
        arm
        for arm in sham_arms({**finding, "sham_doses": [1, 3, 2]}, planted_subject.anatomy)
        if arm.primary
    ]
    assert [len(arm.plan.units) for arm in primary] == [1, 3, 2]
    assert {arm.dose for arm in primary} == {2}
    assert [arm.plan.units[0] for arm in primary] == [(1, 10), (1, 11), (1, 12)]
    # Elsewhere, and in findings without doses of their own, it is the dose of the arm.
    others = sham_arms({**finding, "sham_doses": [1, 3, 2]}, planted_subject.anatomy)
    assert all(len(arm.plan.units) == arm.dose for arm in others if not arm.primary)
    assert all(
        len(arm.plan.units) == arm.dose for arm in sham_arms(finding, planted_subject.anatomy)
    )
