"""The page of information says what its profiles say, greys what is flagged, and escapes names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
import yaml

from lmri.config import StudyConfig
from lmri.information.estimate import FLAGS as RAISED
from lmri.information.mutual_profile import NUMBERS as WRITTEN
from lmri.report.figures.curves import Curve, draw_curves
from lmri.report.files import Files
from lmri.report.information.changes import change_blocks
from lmri.report.information.names import FLAGS, estimator_name, flag_names, target_name
from lmri.report.information.page import information_leaf, information_table
from lmri.report.information.tables import (
    NUMBERS,
    Information,
    mutual_frame,
    plain_frame,
    read_information,
)
from lmri.report.inputs import StudyInputs
from lmri.report.leaves import leaf_links
from lmri.report.page import render_leaf
from lmri.report.reader import Reader
from lmri.report.view import Figure, Fold, Heading, Prose, Table
from lmri.store import write_map, write_text_atomic

HOSTILE = "<script>alert(1)</script>"
MEASURES = ["residual", "expert", "spectral", "rate_reduction", "attention", "lens"]
ESTIMATORS = ["probe I(T;Y)", "compressed I(T;Y)", "kt_upper 0.1 I(X;T)"]


@pytest.fixture
def config(repository):
    values = yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))
    values |= {"information": {"measures": MEASURES}, "sparse": {}}
    values["subjects"] = {"localised": values["subjects"]["localised"]}
    return StudyConfig.from_dict(values)


def mutual(estimators, target="condition", values=(0.1, 0.7)):
    """Two layers; the first is flagged as no more than chance."""
    dims = ("target", "phase", "layer", "estimator")
    shape = (1, 1, 2, len(estimators))
    numbers = {name: (dims, np.full(shape, 0.25)) for name in NUMBERS}
    numbers["value"] = (dims, np.tile(np.reshape(values, (1, 1, 2, 1)), (1, 1, 1, shape[-1])))
    texts = np.full(shape, "", dtype="U64")
    reasons = texts.copy()
    reasons[0, 0, 0] = "0.09 of 0.10 is there without any relation."
    flagged = np.zeros((*shape, 2), dtype=bool)
    flagged[0, 0, 0, :, 1] = True
    return xr.Dataset(
        {
            **numbers,
            "reasons": (dims, reasons),
            "refused": (dims, texts),
            "flagged": ((*dims, "flag"), flagged),
        },
        {
            "target": [target],
            "phase": ["prompt_last"],
            "layer": [0, 1],
            "estimator": estimators,
            "flag": ["saturation", "failed_null"],
        },
    )


def changes(word="compression", target="condition"):
    own = {"quantity": "I(X;T)", "target": target, "phase": "prompt_last", "word": word}
    own |= {"layer": 0, "until_layer": 1}
    own |= {"channels": json.dumps({"kernel": -1, "neighbours": -1}), "left_out": "a, b"}
    return xr.Dataset({name: ("change", np.array([value])) for name, value in own.items()})


def plain(**variables):
    sizes = {"scaling": 2, "phase": 1, "layer": 2, "target": 1, "measure": 2}
    coordinates = {
        "scaling": ["raw", "standardised"],
        "phase": ["prompt_last"],
        "layer": [0, 1],
        "target": ["condition"],
        "measure": ["all", "without_first"],
    }
    made = {}
    for name, (dims, value) in variables.items():
        made[name] = (dims, np.full([sizes[own] for own in dims], value))
    used = {own for dims, _ in variables.values() for own in dims}
    return xr.Dataset(made, {name: own for name, own in coordinates.items() if name in used})


CELLS = ("phase", "layer")


def profiles(target="condition"):
    ranks = dict.fromkeys(("effective_rank", "participation_ratio"), (("scaling", *CELLS), 3.5))
    flags = {f"{name}_flags": (own[0], "") for name, own in ranks.items()}
    dimension = {"dimension_two_nn": (CELLS, 2.5), "dimension_two_nn_flags": (CELLS, "dimension")}
    classes = {"excess": 1.5, "p": 0.01, "flags": "", "reason": ""}
    lens = {"information": 2.0, "information_error": 0.1, "information_flags": ""}
    return {
        "residual": mutual(ESTIMATORS, target),
        "expert": mutual(["plug_in I(E;Y)"], target),
        "changes": changes(target=target),
        "spectral": plain(**ranks, **flags, **dimension, samples=(CELLS, 40)),
        "rate_reduction": plain(**{k: (("target", *CELLS), v) for k, v in classes.items()}),
        "attention": plain(
            collapsed_share=(("measure", *CELLS), 0.25), overloaded_share=(("measure", *CELLS), 0.0)
        ),
        "lens": plain(**{name: (CELLS, value) for name, value in lens.items()}),
    }


def write(study, found, left_out=None):
    folder = study / "analyses/information/localised"
    for measure, own in found.items():
        write_map(folder / f"events.{measure}.zarr", own)
    write_text_atomic(folder / "left_out.json", json.dumps(left_out or {}))


def read(study, config):
    reader = Reader(study)
    return read_information(reader, config), reader.problems


def leaf_of(found, config):
    inputs = StudyInputs(config, [], None, information=found)
    return information_leaf(inputs, "information.html", Files())


def test_words_fit_the_stage():
    assert set(FLAGS) == set(RAISED)
    assert set(NUMBERS) <= set(WRITTEN)


def test_names_are_for_people():
    assert estimator_name("kt_upper 0.1 I(X;T)") == "kernel, upper bound, noise 0.1"
    assert estimator_name("probe I(T;Y)") == "held-out probe"
    assert estimator_name("pair") == "KSG, inputs and states"
    assert target_name("class_place") == "class of the place"
    assert flag_names(["failed_null", "new_one"]) == "no more than chance; new one"


def test_known_numbers_are_told_and_flagged_ones_are_grey(tmp_path, config):
    write(tmp_path, profiles())
    found, problems = read(tmp_path, config)
    assert problems == []
    table = information_table(mutual_frame(found.of("residual")), "")
    # Swept bounds are in the file only.
    assert [row[4].text for row in table.rows] == ["held-out probe", "neighbours"] * 2
    assert [(row[5].text, row[5].kind) for row in table.rows[::2]] == [
        ("0.10", "number flagged"),
        ("0.70", "number"),
    ]
    assert table.rows[0][8].text == "no more than chance"
    assert table.rows[0][8].note == "0.09 of 0.10 is there without any relation."
    assert table.rows[2][8].text == ""


def test_every_part_is_on_the_page(tmp_path, config):
    write(tmp_path, profiles())
    found, _ = read(tmp_path, config)
    leaf = leaf_of(found, config)
    assert leaf.answer.endswith("0.70 about the condition (layer 1, last token of the prompt).")
    assert [block.title for block in leaf.blocks if isinstance(block, Heading)] == [
        "What layers tell of trials",
        "What routing tells",
        "May one say “compression”?",
        "How states lie",
        "Classes",
        "What layers would say",
        "How heads attend",
    ]
    figures = [block for block in leaf.blocks if isinstance(block, Figure)]
    assert len(figures) == 6
    for figure in figures:
        assert figure.look_for.startswith("Good")
        assert figure.falsify.startswith("Bad")
        assert figure.source
        assert figure.alt
    assert "at most 0.70 nats, in layer 1" in figures[0].alt
    html = render_leaf(leaf, [])
    assert 'class="number flagged"' in html
    assert "kernel fell; neighbours fell" in html


def test_compression_is_said_only_where_the_stage_says_it():
    rows = plain_frame("changes", {"events": {"x": changes()}})
    said = change_blocks(rows, "The last layer.", "", "")
    assert [type(block) for block in said] == [Table]
    assert said[0].rows[0][4].text == "compression"
    assert said[0].rows[0][5].note == "2 estimates left out for a flag"
    rows = plain_frame("changes", {"events": {"x": changes("not shown")}})
    none, fold = change_blocks(rows, "The last layer.", "", "")
    assert isinstance(none, Prose)
    assert none.lines == [("Not shown", "in any of 1 comparison. The last layer.")]
    assert isinstance(fold, Fold)
    assert change_blocks(rows.iloc[:0], "", "", "") == []


@pytest.mark.parametrize("text", ["", "[]", "3", '{"kernel": 7}', '{"kernel": [1]}'])
def test_channels_that_cannot_be_read_say_nothing(text):
    rows = plain_frame("changes", {"events": {"x": changes()}}).assign(channels=text)
    assert change_blocks(rows, "", "", "")[0].rows[0][5].text == "none without a flag"


def test_without_measures_there_is_no_page(tmp_path, config):
    values = {**config.to_dict(), "information": {}}
    found, problems = read(tmp_path, StudyConfig.from_dict(values))
    assert not found
    assert problems == []
    assert "Information" not in [link.title for link in leaf_links(StudyInputs(config, [], None))]


def test_what_is_missing_is_a_problem_and_what_was_left_out_is_said(tmp_path, config):
    own = profiles()
    del own["lens"], own["spectral"]
    write(tmp_path, own, {"events.lens": "The head has no lens."})
    found, problems = read(tmp_path, config)
    assert [problem.path for problem in problems] == [
        "analyses/information/localised/events.spectral.zarr"
    ]
    last = leaf_of(found, config).blocks[-1]
    assert last.lines == [("localised", "events.lens: The head has no lens.")]


def test_a_profile_of_another_shape_is_a_problem(tmp_path, config):
    write(tmp_path, {**profiles(), "lens": profiles()["attention"]})
    found, problems = read(tmp_path, config)
    assert "has no 'information' by phase, layer" in problems[0].message
    assert found.of("lens") == {}


def test_hostile_names_are_escaped(tmp_path, config):
    write(tmp_path, profiles(HOSTILE), {"events.ebab": HOSTILE})
    found, _ = read(tmp_path, config)
    html = render_leaf(leaf_of(found, config), [])
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html


def test_nothing_but_refusals_has_no_figure(config):
    empty = mutual(ESTIMATORS, values=(np.nan, np.nan))
    empty["refused"] = xr.full_like(empty["refused"], "constant activity")
    leaf = leaf_of(Information({"residual": {"events": {"localised": empty}}}), config)
    assert leaf.answer == "No held-out probe reads an attribute without a flag."
    assert not [block for block in leaf.blocks if isinstance(block, Figure)]
    fold = next(block for block in leaf.blocks if isinstance(block, Fold))
    assert fold.table.rows[0][8].text == "constant activity"


def series(followed=True):
    steps, labels = [0, 50, 100], {"task": "events", "measure": "residual", "variable": "value"}
    labels |= {"target": "condition", "phase": "prompt_last", "layer": "1", "detail": ESTIMATORS[0]}
    found = {
        "value": (("step", "number"), np.array([[1.0], [1.0], [0.25]])),
        "flagged": (("step", "number"), np.array([[True], [False], [False]])),
    }
    if followed:
        numbers = {"first": 1.0, "last": 0.25, "changes": 1, "after": 50, "until": 100}
        numbers |= {"jump": -0.75, "p": 0.01, "q": 0.02}
        found |= {name: (("number",), [value]) for name, value in numbers.items()}
        found["flags"] = (("number",), ["few_checkpoints"])
    claim = {"task": "events", "target": "condition", "phase": "prompt_last", "layer": 1}
    claim |= {"quantity": "I(T;Y)", "word": "compression", "left_out": ""}
    claim["channels"] = json.dumps({"probe": -1, "neighbours": -1})
    found |= {f"claim_{name}": (("claim",), [value]) for name, value in claim.items()}
    made = {name: ("number", [value]) for name, value in labels.items()}
    attributes = {} if followed else {"not_followed": "Record more checkpoints."}
    return xr.Dataset(found, {"step": steps, **made}, attributes)


def test_training_is_drawn_and_its_changes_told(config):
    leaf = leaf_of(Information(dynamics={"growth": series()}), config)
    heading, figure, jumps, claims = leaf.blocks
    assert heading.text.startswith("3 checkpoints, steps 0 to 100; 1 number")
    assert "layer 1 0.25" in figure.alt
    assert (jumps.rows[0][4].text, jumps.rows[0][4].note) == ("−0.75", "50 to 100")
    assert jumps.rows[0][6].text == "few checkpoints; flagged at a checkpoint"
    assert claims.rows[0][4].text == "compression"
    assert claims.rows[0][2].text == "last token of the prompt, layer 1"


def test_a_series_that_was_not_followed_says_so(config):
    leaf = leaf_of(Information(dynamics={"growth": series(followed=False)}), config)
    assert leaf.blocks[0].text == "Record more checkpoints."
    assert [type(block) for block in leaf.blocks[1:]] == [Figure, Table]


def test_faint_points_are_drawn_over_their_curve():
    plain_svg = draw_curves([Curve("a", [0, 1], [1, 2])], "x", names=("x", "y"))
    faint = [Curve("a", [0, 1], [1, 2], faint=[False, True])]
    assert len(draw_curves(faint, "x", names=("x", "y"))) > len(plain_svg)
    none = [Curve("a", [0, 1], [1, 2], faint=[False, False])]
    assert draw_curves(none, "x", names=("x", "y")) == plain_svg
