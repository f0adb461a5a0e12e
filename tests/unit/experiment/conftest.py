"""What experiments on the planted subject may read."""

import pytest
from planted_model import make_subject, make_trials

from lmri.config import ConditionOptions, ContrastOptions, EvidenceOptions
from lmri.experiment import Ground

REFUSAL = ContrastOptions(
    name="refusal",
    task="events",
    role="hypothesis",
    target=("sensitive",),
    controls=("benign",),
    bystanders=(ConditionOptions("events", "benign"),),
)


@pytest.fixture(scope="session")
def make_ground(tmp_path_factory):
    """Make the ground of experiments: a third of the places for each split."""

    def make(subject=None, trials=None, **changes):
        trials = make_trials() if trials is None else trials
        places = trials["carrier_place"].str[1:].astype(int)
        splits = ["selection", "calibration", "evaluation"]
        trials["split"] = [splits[place % 3] for place in places]
        folder = tmp_path_factory.mktemp("ground")
        values = {
            "subject": subject or make_subject(),
            "stimuli": {"events": trials},
            "recordings": folder,
            "findings": folder,
            "contrasts": [REFUSAL],
            "evidence": EvidenceOptions(),
            "max_new_tokens": 3,
            "rows": 256,
            "seed": 0,
            "bootstrap": 400,
        }
        return Ground(**{**values, **changes})

    return make
