"""Claims as they are stated, the plan of trials, and rival selections."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from lmri.config import ClaimOptions, ConditionOptions, ContrastOptions, EvidenceOptions
from lmri.localise.claims import Stated, state_claims
from lmri.localise.planning import needed_trials, plan_lines
from lmri.localise.rivals import direct_attribution, rival_selections
from lmri.localise.units import Units
from lmri.store.claims import SAME_PLACE, Where
from lmri.store.stated import read_claims

CONTRAST = ContrastOptions(
    "refusal",
    "events",
    target=("sensitive",),
    bystanders=(ConditionOptions("events", "benign"), ConditionOptions("copying")),
    transfer=ConditionOptions("events_second", "sensitive"),
)
RANKED = [(2, 16), (2, 17), (1, 3), (0, 9)]


def stated(*asked, contrast=CONTRAST, dose=2, kind="expert", subject="localised"):
    about = RANKED, [1, 2, 4], dose, contrast, EvidenceOptions(), (36, 41)
    values = state_claims(Stated(subject, kind, "mask", *about), asked)
    return read_claims({"claims": values}, "f")


def test_necessity_is_claimed_without_being_asked_for():
    (claim,) = stated()
    assert claim.kind == "necessity" and claim.units == ((2, 16), (2, 17))
    assert (claim.trials, claim.least) == (Where("events", ("sensitive",)), 60)


def test_every_kind_is_stated_with_its_parts():
    kinds = ("specificity", "sufficiency", "dose", "cumulativity", "jointness", "transfer")
    _, specific, enough, dose, adds, joint, transfer = stated(*map(ClaimOptions, kinds))
    assert specific.bystanders == (Where("events", ("benign",)), Where("copying"))
    assert (specific.needed, specific.least, specific.score) == ((36, 41), 150, "exact")
    assert enough.mode == "zero"  # masked experts leave a token nothing to choose
    assert (dose.doses, dose.units) == ((1, 2, 4), tuple(RANKED))
    assert adds.parts == (((2, 16), (1, 3)), ((2, 17), (0, 9)))
    assert joint.parts == (((2, 16),), ((2, 17),))
    assert transfer.trials == Where("events_second", ("sensitive",))
    assert (transfer.source, transfer.subject, transfer.rule) == ("localised",) * 2 + (SAME_PLACE,)


def test_many_units_are_switched_off_by_halves():
    ranked = [(0, neuron) for neuron in range(32)]
    about = ranked, [32], 32, CONTRAST, EvidenceOptions()
    values = state_claims(Stated("a", "neuron", "zero", *about), [ClaimOptions("jointness")])
    _, joint = read_claims({"claims": values}, "f")
    assert [len(part) for part in joint.parts] == [16, 16]


def test_a_claim_of_another_subject_is_not_made_by_itself():
    asked = ClaimOptions("transfer", subject="distributed")
    _, claim = stated(asked)
    assert (claim.subject, claim.trials) == ("distributed", Where("events", ("sensitive",)))
    assert [own.kind for own in stated(asked, subject="distributed")] == ["necessity"]


def test_a_transfer_needs_a_place():
    bare = ContrastOptions("refusal", "events", target=("sensitive",))
    assert [own.kind for own in stated(ClaimOptions("transfer"), contrast=bare)] == ["necessity"]


def test_repair_forces_experts_and_clamps_others():
    asked = ClaimOptions("repair", task="events", condition="benign")
    _, experts = stated(asked)
    _, heads = stated(asked, kind="head")
    assert (experts.mode, heads.mode) == ("force", "clamp")
    assert heads.source_trials == Where("events", ("sensitive",))
    _, better = stated(ClaimOptions("interference", task="copying"))
    assert (better.trials, better.score) == (Where("copying"), "exact")


@pytest.mark.parametrize(
    ("variance", "margin", "trials"), [(0.0, 0.1, 36), (1.0, 0.1, 1051), (0.1, 0.1, 106)]
)
def test_needed_trials_known_answers(variance, margin, trials):
    assert needed_trials(variance, margin, 0.05) == trials


def test_needed_trials_give_the_power_they_promise():
    """With as many trials four of five unchanged subjects pass; with half of them few do."""
    rng, share, margin = np.random.default_rng(0), 0.2, 0.1

    def passing(n: int) -> float:
        passed = 0
        for _ in range(400):
            differences = rng.choice([-1.0, 0.0, 1.0], p=[share / 2, 1 - share, share / 2], size=n)
            half = 1.96 * differences.std() / np.sqrt(n)
            passed += abs(differences.mean()) + half < margin
        return passed / 400

    n = needed_trials(share, margin, 0.05)
    assert 0.74 < passing(n) < 0.86
    assert passing(n // 2) < 0.5


def test_the_planner_names_sets_that_are_too_small():
    stimuli = {
        name: pd.DataFrame({"split": "evaluation", "condition": ["benign"] * count})
        for name, count in (("events", 200), ("copying", 20))
    }
    first, benign, copying = plan_lines(CONTRAST, stimuli, EvidenceOptions())
    assert "36 if 0% change" in first and "1051 if 100% change" in first
    assert "events, benign: 200 evaluation trials, enough if at most 19%" in benign
    assert "copying: 20 evaluation trials, not testable: at least 150" in copying


@dataclass
class Map:
    strength: np.ndarray
    load: np.ndarray
    units: Units


def test_rivals_are_the_last_the_busiest_and_the_most_attributed():
    strength = np.array([[0.9, 0.1, -0.4], [0.2, np.nan, 0.3]])
    load = np.array([[0.1, 0.2, 0.3], [0.9, 0.5, 0.6]])
    result = Map(strength, load, Units.of("expert", (0, 2), 3))
    rivals = rival_selections(result, [1, 2], np.arange(6.0).reshape(2, 3))
    assert rivals["bottom"]["2"] == [[(0, 2), (0, 1)]]
    assert rivals["top_load"] == {"1": [[(2, 0)]], "2": [[(2, 0), (2, 2)]]}
    assert rivals["top_attribution"]["1"] == [[(2, 2)]]
    # A map of other units is no rival.
    assert set(rival_selections(result, [1], np.zeros(4))) == {"bottom", "top_load"}


def test_without_a_causal_map_nothing_is_attributed(tmp_path):
    assert direct_attribution(tmp_path, "refusal.attribution", "expert") is None
