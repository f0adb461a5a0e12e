"""Labels of trials, and what carries them."""

import numpy as np
import pytest

from lmri.decode import Question, label_trials
from lmri.errors import EvidenceError

REFUSAL = Question(
    "refusal", "events", sides=(("benign", "near_miss_place", "near_miss_year"), ("sensitive",))
)


def test_a_conjunction_is_carried_by_both(make_trials):
    labelled = label_trials(REFUSAL, make_trials["crossed"](), ("place", "year"))
    assert [own.name for own in labelled.carriers] == ["place", "year"]
    assert labelled.table.sum() == 1
    assert labelled.counts.tolist() == [128, 16]


def test_without_near_misses_both_still_are_kept_apart(make_trials):
    # Place alone would tell the label, and so would a year that was trained on.
    simple = Question("simple", "events", sides=(("benign",), ("sensitive",)))
    labelled = label_trials(simple, make_trials["crossed"](), ("place", "year"))
    assert [own.name for own in labelled.carriers] == ["place", "year"]
    assert (labelled.codes == -1).sum() == 64  # near misses: labelled after an exchange


def test_the_class_of_a_place_is_carried_by_the_place(make_trials):
    question = Question("class_place", "events", "class_place")
    labelled = label_trials(question, make_trials["crossed"](), ("place", "year"))
    assert [own.name for own in labelled.carriers] == ["place"]
    assert labelled.names == ("null", "sensitive")


def test_relations_are_exchanged_within_places(make_trials):
    question = Question("condition", "relations")
    labelled = label_trials(question, make_trials["relations"](), ("place",))
    assert labelled.table is None
    assert labelled.exchanged == "trials of each place"
    assert labelled.counts.tolist() == [12, 12, 12]


def test_the_highest_carrier_counts(make_trials):
    trials = make_trials["entities"](20).assign(class_entity="null")
    trials["carrier_pair"] = trials["condition"] + (np.arange(20) // 4).astype(str)
    labelled = label_trials(Question("condition", "pairs"), trials, ("entity", "pair"))
    assert [own.name for own in labelled.carriers] == ["pair"]


def test_without_carriers_trials_are_exchanged(make_trials):
    labelled = label_trials(Question("condition", "table"), make_trials["entities"](20), ())
    assert labelled.exchanged == "trial"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question("colour", "events", "colour"), "lacks the column"),
        (Question("x", "events", sides=(("benign",), ("rude",))), "must be one of"),
        (
            Question("split", "events", "task"),
            r"needs 2 classes\. Got 1 \('events'\) in 144 trials",
        ),
    ],
)
def test_what_cannot_be_decoded_is_refused(make_trials, question, said):
    trials = make_trials["crossed"]().assign(task="events")
    with pytest.raises(EvidenceError, match=said):
        label_trials(question, trials, ("place", "year"))
