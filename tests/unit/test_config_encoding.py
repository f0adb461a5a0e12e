"""The section encode: off by default, checked, and cut into the slice of its stage."""

import pytest

from lmri.config import StudyConfig, stage_slice
from lmri.errors import ConfigError

STUDY = {
    "study": "s",
    "subjects": {"only": {"source": "embedded", "state": "localised"}},
    "tasks": {"events": {"source": "world"}, "relations": {"source": "world"}},
    "contrasts": {"c": {"task": "events", "target": ["sensitive"], "controls": ["benign"]}},
}


def test_encoding_is_off_unless_tasks_are_named():
    study = StudyConfig.from_dict(STUDY)
    assert study.encoded_tasks == []
    assert study.jobs["encode"] == 0


def test_the_slice_has_tasks_in_their_order_and_phases_of_the_maps():
    study = StudyConfig.from_dict({**STUDY, "encode": {"tasks": ["relations", "events"]}})
    assert study.jobs["encode"] == 1
    own = stage_slice(study, "encode", subject="only")
    assert list(own["tasks"]) == ["events", "relations"]
    assert own["encode"]["phases"] == list(study.localise.phases)
    assert StudyConfig.from_dict(study.to_dict()) == study


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tasks": ["nothing"]}, r"'encode.tasks.0' must be one of 'events', 'relations'. Got"),
        ({"tasks": ["events"], "folds": 2}, "encode.folds"),
        ({"tasks": ["events"], "kinds": ["voxel"]}, "encode.kinds"),
        ({"tasks": ["events"], "levels": ["words"]}, "encode.levels"),
        ({"tasks": ["events"], "brains": 1}, "brains"),
    ],
)
def test_what_cannot_be_asked_for(values, message):
    with pytest.raises(ConfigError, match=message):
        StudyConfig.from_dict({**STUDY, "encode": values})
