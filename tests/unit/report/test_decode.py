"""The page of decoding says what was decoded, puts it beside what was switched off, and escapes."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from analysis_files import decoded

from lmri.config import StudyConfig
from lmri.report.decode import figures
from lmri.report.decode.page import decoding_leaf
from lmri.report.decode.tables import VARIABLES, Decoding, read_decoding, used_frame
from lmri.report.files import Files
from lmri.report.inputs import ARMS, StudyInputs, SubjectInputs
from lmri.report.leaves import leaf_links
from lmri.report.page import render_leaf
from lmri.report.reader import Reader
from lmri.report.view import Figure, Heading, Prose, Table
from lmri.store import write_map, write_text_atomic

HOSTILE = "<script>alert(1)</script>"
ANALYSES = list(VARIABLES)


@pytest.fixture
def config(repository):
    """The default study of one subject with all analyses of one task."""
    values = yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))
    values |= {"sparse": {}, "decode": {"analyses": ANALYSES, "labels": [{"task": "events"}]}}
    values["record"]["full"] = ["router", "residual"]
    values["subjects"] = {"localised": values["subjects"]["localised"]}
    return StudyConfig.from_dict(values)


def arm(layers, dose, effect, **more):
    """Units of some layers that were switched off."""
    row = dict.fromkeys(ARMS, "") | {
        "subject": "localised",
        "contrast": "refusal",
        "phase": "prompt_last",
        "kind": "expert",
        "method": "resonance",
        "arm": "finding",
        "mode": "mask",
        "trial_role": "target",
        "held_out": "all",
        "score": "refusal_onset",
        "dose": dose,
        "n": 60,
        "intact": 1.0,
        "effect": effect,
        "low": effect - 0.1,
        "high": effect + 0.1,
        "units": json.dumps([[layer, number] for number, layer in enumerate(layers)]),
    }
    return row | more


ARM_ROWS = [
    arm([1], 1, -0.2),
    arm([1, 1], 2, -0.8),
    arm([1, 1, 0], 3, -0.9),
    arm([1, 1], 4, -6.2, score="onset_margin"),
    arm([1, 1], 4, 0.9, mode="force"),
    arm([1], 1, -0.9, arm="sham"),
    arm([0, 1], 2, -0.3, arm="sham"),
    arm([0, 0], 2, 0.0, arm="sham", draw=1),
    arm([0, 0], 2, -1.0, arm="sham", mode="force"),
    arm([1], 1, -0.4, trial_role="bystander"),
]


def inputs_of(config, found=None, left_out=None, arms=ARM_ROWS):
    """A study with what was decoded, and arms."""
    decoding = Decoding(
        found or {name: {"events": {"localised": decoded(name)}} for name in ANALYSES},
        {"localised": left_out or {}},
    )
    empty = pd.DataFrame()
    subject = SubjectInputs("localised", pd.DataFrame(arms), empty, empty, {}, {}, {})
    return StudyInputs(config, [subject], empty, decoding=decoding)


def tables_of(inputs):
    leaf = decoding_leaf(inputs, "pages/decoding.html", Files())
    return [block for block in leaf.blocks if isinstance(block, Table)]


def test_what_is_decodable_stands_beside_what_is_used(config):
    inputs = inputs_of(config)
    arms = {"localised": inputs.subjects[0].arms}
    rows = used_frame(inputs.decoding.of("profile"), arms, config)
    by_layer = rows.set_index("layer")
    # Layer 1: the most units that are all in it; layer 0: only together with those of layer 1.
    assert by_layer.loc[1, "effect"] == -0.8
    assert by_layer.loc[1, "alone"]
    assert by_layer.loc[0, "effect"] == -0.9
    assert by_layer.loc[0, "others"] == [1]
    assert by_layer["accuracy"].tolist() == [0.25, 0.9]
    # Beside it the shams of as many units; of three there are none.
    assert by_layer.loc[1, ["shams", "sham_least", "sham_most"]].tolist() == [2, -0.3, 0]
    assert by_layer.loc[0, "shams"] == 0
    used = tables_of(inputs)[0]
    assert [(row[-1].text, row[-1].note) for row in used.rows] == [
        *(("\N{EN DASH}", ""), ("\N{MINUS SIGN}0.30 to 0.00", "2"))
    ]


def answer_of(inputs):
    return decoding_leaf(inputs, "pages/decoding.html", Files()).answer


def test_units_that_do_no_more_than_shams_are_not_said_to_matter(config):
    as_far = [*ARM_ROWS, arm([1, 0], 2, -0.8, arm="sham", draw=2)]
    for arms in (as_far, [row for row in ARM_ROWS if row["arm"] != "sham"]):
        assert "not shown to lower the behaviour more than shams do" in answer_of(
            inputs_of(config, arms=arms)
        )


def test_what_was_not_switched_off_is_said(config):
    only_both = [row for row in ARM_ROWS if row["units"] == "[[1, 0], [1, 1], [0, 2]]"]
    assert len(only_both) == 1
    assert "units of one layer alone were not switched off" in answer_of(
        inputs_of(config, arms=only_both)
    )
    # A contrast of the same page without any arm is not said to have no effect.
    entry = config.contrasts["refusal"]
    own = replace(config, contrasts={"refusal": entry, "condition": entry})
    answer = answer_of(inputs_of(own))
    assert "condition can be read at the last token of the prompt in 1 layer (1), and nothing " in (
        answer
    )
    assert "switching off 2 experts" in answer


def test_a_layer_is_called_by_its_number(config):
    whole = {"kind": "layer", "method": "welch_t", "mode": "zero", "units": "[[1]]"}
    arms = [arm([1], 1, -0.8, **whole), arm([1], 1, -0.1, arm="sham", **whole | {"units": "[[0]]"})]
    assert "switching off layer 1 (1 sham) alone" in answer_of(inputs_of(config, arms=arms))


def test_a_layer_without_an_arm_still_says_what_is_decodable(config):
    profiles = {"events": {"localised": decoded("profile")}}
    rows = used_frame(profiles, {}, config)
    assert rows["layer"].tolist() == [0, 1]
    assert "effect" not in rows


def test_the_page_shows_every_analysis(config, tmp_path):
    inputs = inputs_of(config)
    assert "pages/decoding.html" in {link.path for link in leaf_links(inputs)}
    leaf = decoding_leaf(inputs, "pages/decoding.html", Files())
    assert (
        "localised: refusal can be read at the last token of the prompt in 1 layer (1), and "
        "switching off 2 experts of layer 1 (2 shams) alone lowers the behaviour more than any "
        "sham of as many units."
    ) in leaf.answer
    sources = " ".join(b.source for b in leaf.blocks if isinstance(b, Figure | Table))
    for name in set(ANALYSES) - {"profile"}:
        assert f".{name}.zarr" in sources
    assert [block.title for block in leaf.blocks if isinstance(block, Heading)][:2] == [
        *("Decodable is not used", "Where labels can be read")
    ]
    assert "<svg" in render_leaf(leaf, [])


def test_the_diagonal_of_generalisation_falls_and_columns_have_names(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        figures, "draw_map", lambda score, *_, **named: drawn.append((score, named)) or ""
    )
    found = decoded("generalisation")
    found["value"].loc[{"train_position": "content", "test_position": "content"}] = 1.0
    figures.generalisation_figure({"localised": found}, "events", "refusal", "data")
    score, named = drawn[0]
    assert named["columns"] == ["content", "prompt last"]
    # Rows are drawn from the bottom: the first position is the uppermost.
    assert named["rows"] == ["prompt last", "content"]
    assert score[1, 0] == 0.5


def test_random_masks_are_counted_with_the_least_p(config):
    masks = decoded("masks")
    masks["masks"] = masks["masks"] * 0 + 3
    inputs = inputs_of(config, {"masks": {"events": {"localised": masks}}})
    (table,) = (own for own in tables_of(inputs) if ".masks.zarr" in own.source)
    at = [column.label for column in table.columns].index("Random masks")
    assert [cell.note for cell in table.rows[0][at : at + 2]] == ["3", "0.250"]


def test_reasons_are_told_and_escaped(config):
    inputs = inputs_of(config, left_out={"events.trace.condition": f"needs 2. Got {HOSTILE}"})
    leaf = decoding_leaf(inputs, "pages/decoding.html", Files())
    lines = [line for block in leaf.blocks if isinstance(block, Prose) for line in block.lines]
    assert any("needs 2. Got" in text for _, text in lines)
    assert HOSTILE not in render_leaf(leaf, [])


def test_a_study_without_analyses_has_no_page(repository):
    values = yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))
    inputs = StudyInputs(StudyConfig.from_dict(values), [], pd.DataFrame())
    assert "pages/decoding.html" not in {link.path for link in leaf_links(inputs)}


def write(study, names=ANALYSES, left_out=None):
    folder = study / "analyses/decode/localised"
    for name in names:
        write_map(folder / f"events.{name}.zarr", decoded(name))
    write_text_atomic(folder / "left_out.json", json.dumps(left_out or {}))


def test_files_are_read(config, tmp_path):
    write(tmp_path)
    reader = Reader(tmp_path)
    found = read_decoding(reader, config)
    assert set(found.found) == set(ANALYSES)
    assert reader.problems == []


def test_what_is_missing_without_a_reason_is_a_problem(config, tmp_path):
    write(tmp_path, [name for name in ANALYSES if name != "bags"])
    reader = Reader(tmp_path)
    read_decoding(reader, config)
    assert [own.path for own in reader.problems] == ["analyses/decode/localised/events.bags.zarr"]
    write(tmp_path, [], {"events.bags.refusal": "too few carriers"})
    reader = Reader(tmp_path)
    assert "bags" not in read_decoding(reader, config).found
    assert reader.problems == []


def test_a_file_of_another_version_is_a_problem(config, tmp_path):
    write(tmp_path)
    path = tmp_path / "analyses/decode/localised/events.regions.zarr"
    write_map(path, decoded("regions").drop_vars("loss"))
    reader = Reader(tmp_path)
    read_decoding(reader, config)
    assert "has no 'loss'" in reader.problems[0].message
