"""The page of information says what its profiles say, greys what is flagged, and escapes names."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from analysis_files import CELLS, ESTIMATORS, changes, mutual, plain, profiles

from lmri.config import StudyConfig
from lmri.information.estimate import FLAGS as RAISED
from lmri.information.mutual_profile import NUMBERS as WRITTEN
from lmri.report.figures.curves import Curve, draw_curves
from lmri.report.files import Files
from lmri.report.information.changes import change_blocks
from lmri.report.information.figures import attribute_figure
from lmri.report.information.measures import code_figure
from lmri.report.information.names import FLAGS, estimator_name, flag_names, target_name
from lmri.report.information.page import information_leaf, information_table
from lmri.report.information.planes import layer_planes, training_planes
from lmri.report.information.tables import (
    ENDS,
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
MEASURES = [
    *("residual", "expert", "spectral", "resolution", "rate_reduction", "codes", "unit_entropy"),
    *("attention", "lens", "eigenscore", "massive", "active", "logits"),
]


@pytest.fixture
def config(repository):
    values = yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))
    values |= {"information": {"measures": MEASURES}, "sparse": {}}
    values["subjects"] = {"localised": values["subjects"]["localised"]}
    return StudyConfig.from_dict(values)


def write(study, found, left_out=None):
    folder = study / "analyses/information/localised"
    for measure, own in found.items():
        name = measure if measure == "logits" else f"events.{measure}"
        write_map(folder / f"{name}.zarr", own)
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
    assert leaf.answer.endswith(
        "0.70 about the condition in events (layer 1, last token of the prompt)."
    )
    assert [block.title for block in leaf.blocks if isinstance(block, Heading)] == [
        "What layers tell of trials",
        "What routing tells",
        "May one say “compression”?",
        "How states lie",
        "Resolution",
        "Classes",
        "Codes",
        "Units",
        "What layers would say",
        "Sampled answers",
        "How heads attend",
        "How sharp heads can be",
        "Massive activations",
        "Active neurons",
    ]
    figures = [block for block in leaf.blocks if isinstance(block, Figure)]
    assert len(figures) == 14
    for figure in figures:
        assert figure.look_for.startswith("Good")
        assert figure.falsify.startswith("Bad")
        assert figure.source
        assert figure.alt
    assert "at most 0.70 nats, in layer 1" in figures[0].alt
    html = render_leaf(leaf, [])
    assert 'class="number flagged"' in html
    assert "kernel fell; neighbours fell" in html


def test_an_axis_is_logarithmic_only_where_a_curve_gets_there():
    def drawn(highest, **scale):
        return draw_curves([Curve("a", [0, 1], [4.6, highest])], "x", names=("x", "y"), **scale)

    assert drawn(6.4, linear=100.0) == drawn(6.4)
    assert drawn(640.0, linear=100.0) != drawn(640.0)


def test_the_answer_tells_every_task_apart(config):
    tasks = {"events": (0.1, 0.7), "relations": (0.2, 1.4)}
    own = {task: {"x": mutual(ESTIMATORS, values=values)} for task, values in tasks.items()}
    answer = leaf_of(Information({"residual": own}), config).answer
    assert "0.70 about the condition in events" in answer
    assert "1.40 about the condition in relations" in answer


def test_nothing_is_said_of_a_probe_that_was_not_run(config):
    neighbours = mutual([name for name in ESTIMATORS if not name.startswith("probe ")])
    assert leaf_of(Information({"residual": {"events": {"x": neighbours}}}), config).answer == ""
    assert (
        leaf_of(Information({"lens": {"events": {"x": profiles()["lens"]}}}), config).answer == ""
    )


@pytest.mark.parametrize(
    ("values", "marks"),
    [((4.0, 12.0), {"4", "6", "8", "10", "12"}), ((4.0, 60.0), {"5", "10", "20", "50"})],
)
def test_a_logarithmic_axis_says_so_and_has_several_marks(values, marks):
    svg = draw_curves([Curve("a", [0, 1], values)], "x", names=("x", "wide"), linear=1.0)
    texts = set(re.findall(r">([^<>]+)</text>", svg))
    assert "wide (log)" in texts
    assert marks <= texts


def test_a_measure_without_a_curve_names_its_file(tmp_path, config):
    lens = profiles()["lens"]
    write(tmp_path, {"lens": lens.assign(information=lens["information"] * np.nan)})
    found, _ = read(tmp_path, config)
    (heading,) = (block for block in leaf_of(found, config).blocks if isinstance(block, Heading))
    assert (
        heading.text
        == "No curve can be drawn of it; the numbers are in files/information-lens.csv."
    )


def test_every_estimator_has_the_null_of_its_own(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "lmri.report.information.figures.draw_curves",
        lambda curves, key, **_: drawn.extend(curves) or "",
    )
    own = mutual(ESTIMATORS)
    own["null_upper"].loc[{"estimator": "probe I(T;Y)"}] = 0.5
    rows = mutual_frame({"events": {"x": own}})
    attribute_figure(rows, "events", "condition", "a", "")
    assert {curve.name: list(curve.bound) for curve in drawn} == {
        "neighbours": [0.25, 0.25],
        "held-out probe": [0.5, 0.5],
    }


def test_a_bound_is_drawn_beside_its_curve():
    def drawn(bound):
        curves = [Curve("a", [0, 1], [1, 2], bound=bound), Curve("b", [0, 1], [2, 3])]
        return draw_curves(curves, "x", names=("x", "y"))

    assert drawn([0.5, 0.5]).count("stroke-dasharray") == 1
    assert "stroke-dasharray" not in drawn([])


def test_curves_of_one_colour_have_another_stroke():
    def dashes(count):
        curves = [Curve(str(number), [0, 1], [number, number]) for number in range(count)]
        return re.findall(r"dasharray: ([\d.,]+)", draw_curves(curves, "x", names=("x", "y")))

    assert dashes(5) == []
    # Each is in the drawing and in its key.
    assert len(dashes(6)) == 2
    assert len(set(dashes(11))) == 2


def test_planes_name_the_ends_of_their_paths(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "lmri.report.information.planes.draw_curves",
        lambda curves, key, **_: drawn.extend(curves) or "",
    )
    own = mutual(ESTIMATORS)
    for found in (own, own.isel(layer=[1])):
        layer_planes(mutual_frame({"events": {"x": found}}), "")
    training_planes(curves()["plane"], "x", "")
    assert [list(curve.ends) for curve in drawn] == [["0", "1"], ["1"], ["0", "100"]]


def test_ends_are_written_beside_the_first_and_the_last_point():
    curve = Curve("a", [0.5, 2.5, 1.5], [1, 2, 3], ends=["begin", "end"])
    svg = draw_curves([curve], "x", names=("x", "y"))
    left, right = (re.search(rf'x="([\d.]+)"[^>]*>{name}<', svg) for name in curve.ends)
    assert float(left[1]) < float(right[1])


def test_every_way_of_reading_codes_is_grey_by_its_own_p(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "lmri.report.information.measures.draw_curves",
        lambda curves, key, **_: drawn.extend(curves) or "",
    )
    own = profiles()["codes"]
    own["k_means_p"].loc[{"layer": 1}] = 0.01
    code_figure({"x": own}, "events", ["prompt_last"], "")
    assert {curve.name: list(curve.faint) for curve in drawn} == {
        "nearest codes": [True, True],
        "logistic": [True, True],
        "clusters": [True, False],
    }
    assert "k_means_p" in plain_frame("codes", {"events": {"x": own}})


def test_compression_is_said_only_where_the_stage_says_it():
    rows = plain_frame("changes", {"events": {"x": changes()}})
    said = change_blocks(rows, "The last layer.", "", "")
    of_inputs = change_blocks(rows.assign(target=""), "The last layer.", "", "")
    assert of_inputs[0].rows[0][1].text == "\N{EN DASH}"
    assert [type(block) for block in said] == [Table]
    assert said[0].rows[0][4].text == "compression"
    assert said[0].rows[0][6].note == "2 estimates left out for a flag"
    rows = plain_frame("changes", {"events": {"x": changes("not shown")}})
    none, fold = change_blocks(rows, "The last layer.", "", "")
    assert isinstance(none, Prose)
    assert none.lines == [("Not shown", "in any of 1 comparison. The last layer.")]
    assert isinstance(fold, Fold)
    assert change_blocks(rows.iloc[:0], "", "", "") == []


def test_what_q_is_over_is_what_the_stage_corrected_together(config):
    own = {name: {"x": changes(), "y": changes()} for name in ("events", "relations")}
    leaf = leaf_of(Information({"changes": own}), config)
    heading, table = leaf.blocks
    assert "with q at most .05 over all comparisons of its subject in its task." in heading.text
    assert table.columns[5].hint == "q over subject and task"
    followed = plain_frame("changes", own).assign(series="growth", layer=1)
    (table,) = change_blocks(followed, "", "", "")
    assert table.columns[5].hint == "q over all comparisons"


@pytest.mark.parametrize("text", ["", "[]", "3", '{"kernel": 7}', '{"kernel": [1]}'])
def test_channels_that_cannot_be_read_say_nothing(text):
    rows = plain_frame("changes", {"events": {"x": changes()}}).assign(channels=text)
    assert change_blocks(rows, "", "", "")[0].rows[0][6].text == "none without a flag"


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
        warned = {"warning_tau": 0.9, "warning_p": 0.004, "warning_q": 0.008}
        dims = ("indicator", "number")
        found |= {name: (dims, [[value], [np.nan]]) for name, value in warned.items()}
        found["warning_flags"] = (dims, [["few_checkpoints"], [""]])
    claim = {"task": "events", "target": "condition", "phase": "prompt_last", "layer": 1}
    claim |= {"quantity": "I(T;Y)", "word": "compression", "p": 0.01, "q": 0.03, "left_out": ""}
    claim["channels"] = json.dumps({"probe": -1, "neighbours": -1})
    found |= {f"claim_{name}": (("claim",), [value]) for name, value in claim.items()}
    made = {name: ("number", [value]) for name, value in labels.items()}
    attributes = {} if followed else {"not_followed": "Record more checkpoints."}
    made["indicator"] = ["variance", "autocorrelation"]
    return xr.Dataset(found, {"step": steps, **made}, attributes)


def curves():
    """The other stores of a series: a plane, massive activations, sparsity, sensitive units."""
    steps = [0, 50, 100]
    plane = {"i_xt": [[4.0], [5.0], [3.0]], "i_ty": [[0.1], [0.5], [0.6]]}
    plane |= {"flagged_x": [[True], [False], [False]], "flagged_y": [[False]] * 3}
    labels = {"task": "events", "target": "condition", "phase": "prompt_last", "layer": 1}
    labels |= {"channel": "kt_upper 1 I(X;T)"}
    massive = {"task": "events", "layer": 1, "place": "after", "peak": 40.0, "r_squared": 0.99}
    massive |= {f"{n}{e}": 1.0 for n in ("A", "decay", "rate", "offset", "K") for e in ENDS}
    massive |= {"flags": "unidentified", "reason": ""}
    law = {"task": "events", "kind": "neuron", "layer": 1, "variable": "active", "limit": 0.1}
    law |= {"limit_low": 0.05, "limit_high": 0.2, "first": 0.5, "last": 0.2, "reason": ""}
    rows = [{**law, "law": "relu", "behind": 0.0, "r_squared": 0.9, "flags": ""}]
    rows += [{**law, "law": "logarithm", "behind": 9.0, "r_squared": 0.5, "flags": ""}]
    table = pd.DataFrame(rows)
    cells = ("task", *CELLS)
    return {
        "plane": xr.Dataset(
            {
                **{name: (("step", "point"), np.array(own)) for name, own in plane.items()},
                **{name: ("point", [own]) for name, own in labels.items()},
            },
            {"step": steps},
        ),
        "massive": xr.Dataset(
            {
                **{name: ("curve", [own]) for name, own in massive.items()},
                "ratio": (("curve", "step"), [[3.0, 40.0, 20.0]]),
                "fitted": (("curve", "step"), [[3.0, 39.0, 21.0]]),
            },
            {"step": steps},
        ),
        "sparsity": xr.Dataset({name: ("fit", table[name].to_numpy()) for name in table}),
        "sensitive": plain(
            variability=((*cells, "unit"), 1.0),
            selected=((*cells, "unit"), True),
            texts=(cells, 40),
            halves=(cells, 0.9),
            share=(cells, 0.7),
            flags=(cells, ""),
        ).assign_attrs(kind="residual", steps="0, 50, 100"),
    }


def test_training_is_drawn_and_its_changes_told(config):
    leaf = leaf_of(Information(dynamics={"growth": {"numbers": series()}}), config)
    heading, figure, jumps, warnings, claims = leaf.blocks
    assert heading.text.startswith("3 checkpoints, steps 0 to 100; 1 number")
    assert "layer 1 0.25" in figure.alt
    assert (jumps.rows[0][4].text, jumps.rows[0][4].note) == ("−0.75", "50 to 100")
    assert jumps.rows[0][6].text == "few checkpoints; flagged at a checkpoint"
    assert claims.rows[0][4].text == "compression"
    assert (claims.rows[0][5].text, claims.rows[0][5].note) == ("0.010", "q 0.030")
    assert claims.rows[0][2].text == "last token of the prompt, layer 1"
    (warning,) = warnings.rows
    assert [cell.text for cell in warning[2:6]] == ["variance", "50", "+0.90", "0.004"]
    assert warning[4].kind == "number flagged"
    assert warning[6].text == "few checkpoints"
    assert "of 1 indicator, 1 with q" in warnings.caption


@pytest.mark.parametrize(
    ("others", "drawn"), [([], ["growth_0", "growth_100"]), (["localised"], ["localised"])]
)
def test_a_series_is_drawn_by_its_ends_where_there_is_no_other_subject(config, others, drawn):
    steps = {
        f"growth_{step}": {"source": "base", "base_seed": 1, "series": "growth", "step": step}
        for step in (100, 0, 50)
    }
    study = StudyConfig.from_dict(
        config.to_dict() | {"subjects": config.to_dict()["subjects"] | steps}
    )
    own = profiles()["residual"]
    found = Information({"residual": {"events": dict.fromkeys([*others, *steps], own)}})
    leaf = leaf_of(found, study)
    told = leaf.answer.partition(": ")[2].split("; ")
    assert sorted(own.split(",")[0] for own in told) == drawn
    assert leaf.blocks[0].text.endswith(
        "Not every checkpoint of a series is drawn; the file has all."
    )


def test_a_series_that_was_not_followed_says_so(config):
    leaf = leaf_of(Information(dynamics={"growth": {"numbers": series(followed=False)}}), config)
    assert leaf.blocks[0].text == "Record more checkpoints."
    assert [type(block) for block in leaf.blocks[1:]] == [Figure, Prose, Table]
    assert "12 checkpoints" in leaf.blocks[2].lines[0][1]


def test_curves_over_training_are_drawn_and_told(config):
    stores = {"numbers": series(), **curves()}
    leaf = leaf_of(Information(dynamics={"growth": stores}), config)
    figures = {block.title: block for block in leaf.blocks if isinstance(block, Figure)}
    plane = figures["Information planes over training: a path per layer, a point per checkpoint"]
    assert "from 4.00, 0.10 to 3.00, 0.60" in plane.alt
    assert "kernel, upper bound, noise 1" in plane.panels[0].title
    massive = figures["The largest activation over the median one, over training"]
    assert "layer 1: 3.00 to 20.00" in massive.alt
    fold = next(block for block in leaf.blocks if isinstance(block, Fold))
    assert fold.table.rows[0][8].text == "unidentified"
    tables = {
        block.caption.split(":")[0]: block for block in leaf.blocks if isinstance(block, Table)
    }
    law = tables["The share of active neurons over training"].rows[0]
    assert [cell.text for cell in law[:3]] == [
        "neurons, layer 1: active",
        "0.500, 0.200",
        "falls to a limit",
    ]
    units = next(own for name, own in tables.items() if name.startswith("Units of the residual"))
    assert units.rows[0][4].text == "0, 1, 2"
    html = render_leaf(leaf, [])
    assert "information-plane-0.csv" in html


def test_a_law_that_a_logarithm_does_as_well_is_not_shown(config):
    own = curves()["sparsity"]
    own["behind"] = ("fit", [0.0, 1.5])
    leaf = leaf_of(Information(dynamics={"growth": {"numbers": series(), "sparsity": own}}), config)
    table = next(b for b in leaf.blocks if isinstance(b, Table) and "Akaike" in b.caption)
    assert table.rows[0][2].text == "not shown"


def test_stores_of_a_series_are_read_and_others_are_no_problem(tmp_path, config):
    values = config.to_dict()
    for step in (0, 50):
        entry = {"source": "base", "base_seed": 1, "series": "growth", "step": step}
        values["subjects"][f"growth_{step}"] = entry
    study = StudyConfig.from_dict(values)
    folder = tmp_path / "analyses/dynamics/growth"
    write_map(folder / "numbers.zarr", series())
    write_map(folder / "plane.zarr", curves()["plane"])
    write_text_atomic(folder / "left_out.json", json.dumps({"events.massive": "None."}))
    found, problems = read(tmp_path, study)
    assert set(found.dynamics["growth"]) == {"numbers", "plane"}
    assert found.left_out["growth"] == {"events.massive": "None."}
    assert not [problem for problem in problems if "dynamics" in problem.path]
    shutil.rmtree(folder / "numbers.zarr")
    _, problems = read(tmp_path, study)
    assert "analyses/dynamics/growth/numbers.zarr" in [problem.path for problem in problems]


def test_faint_points_are_drawn_over_their_curve():
    plain_svg = draw_curves([Curve("a", [0, 1], [1, 2])], "x", names=("x", "y"))
    faint = [Curve("a", [0, 1], [1, 2], faint=[False, True])]
    assert len(draw_curves(faint, "x", names=("x", "y"))) > len(plain_svg)
    none = [Curve("a", [0, 1], [1, 2], faint=[False, False])]
    assert draw_curves(none, "x", names=("x", "y")) == plain_svg
