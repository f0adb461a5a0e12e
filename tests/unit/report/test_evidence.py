from __future__ import annotations

import json

import pandas as pd
import pytest

from lmri.report.control_tables import control_table
from lmri.report.evidence import Evidence
from lmri.report.evidence_figures import dose_figure
from lmri.report.evidence_tables import bystander_table, measure_table

ENDPOINT = {
    "dose": 2,
    "mode": "mask",
    "score": "refusal_onset",
    "direction": "decrease",
    "margin": 0.1,
    "bystanders": [{"task": "relations"}, {"task": "events", "condition": "benign"}],
}


def row(**changes) -> dict:
    return {
        "arm": "finding",
        "mode": "mask",
        "dose": 2,
        "draw": 0,
        "task": "events",
        "condition": "sensitive",
        "trial_role": "target",
        "held_out": "all",
        "score": "refusal_onset",
        "value": 0.1,
        "intact": 1.0,
        "effect": -0.9,
        "low": -1.0,
        "high": -0.8,
        "units": "[[0, 1], [0, 2]]",
    } | changes


def evidence(*rows: dict, **endpoint) -> Evidence:
    return Evidence(pd.DataFrame(rows), ENDPOINT | endpoint, {"doses": [4, 1]})


def test_doses_hold_the_primary_one():
    assert evidence(row()).doses == [1, 2, 4]


def test_target_leaves_out_other_scores_roles_and_held_out_items():
    found = evidence(
        row(),
        row(score="exact"),
        row(trial_role="transfer"),
        row(held_out="held_out"),
    )
    assert len(found.target()) == 1
    assert len(found.target("exact")) == 1


def test_pooled_target_conditions_are_the_endpoint():
    found = evidence(row(condition="a"), row(condition="b"), row(condition="all", value=0.5))
    assert found.target()["value"].tolist() == [0.5]


def test_endpoint_is_one_mode_and_dose():
    found = evidence(
        row(), row(dose=4), row(mode="zero"), row(arm="sham"), row(arm="positive_control", dose=0)
    )
    target = found.target()
    assert len(found.at_endpoint(target, "finding")) == 1
    assert len(found.at_endpoint(target, "sham")) == 1
    assert len(found.at_endpoint(target, "positive_control")) == 1


@pytest.mark.parametrize(
    ("direction", "expected"), [("decrease", (0.9, 0.8, 1.0)), ("increase", (-0.9, -1.0, -0.8))]
)
def test_effect_is_in_the_predicted_direction(direction, expected):
    found = evidence(row(), direction=direction)
    assert found.effect(found.target()) == pytest.approx(expected)


def test_bystanders_are_found_by_task_and_condition():
    found = evidence(
        row(trial_role="bystander", task="relations", condition="all", score="exact"),
        row(trial_role="bystander", task="events", condition="benign", score="exact"),
        row(trial_role="bystander", task="events", condition="benign", score="coherent"),
    )
    assert [entry.name for entry in found.bystanders] == ["relations", "events · benign"]
    assert [len(found.bystander(entry)) for entry in found.bystanders] == [1, 1]


def test_a_bystander_that_never_changed_shows_the_bound_by_carrier():
    shared = {"trial_role": "bystander", "score": "exact", "n": 150, "n_carriers": 12}
    rows = [
        row(task="relations", condition="all", effect=0.0, carrier_bound=0.26, **shared),
        row(task="events", condition="benign", effect=0.0, carrier_bound=float("nan"), **shared),
        row(task="copying", condition="all", effect=-1.0, carrier_bound=0.26, **shared),
    ]
    bystanders = [*ENDPOINT["bystanders"], {"task": "copying"}]
    table = bystander_table(evidence(*rows, bystanders=bystanders), "arms", "data")
    notes = [cells[5].note for cells in table.rows]
    assert notes == ["up to 0.26 by carrier", "", ""]
    assert "change together" in table.caption


def draws(arm: str, *values: float) -> list[dict]:
    return [row(arm=arm, draw=i, value=value) for i, value in enumerate(values)]


def test_every_kind_of_control_has_a_row():
    found = evidence(
        row(),
        *draws("sham", 0.9, 0.7),
        *draws("massive_matched", 0.05, 0.5, 0.95),
        row(arm="load_matched", dose=4, value=0.0),
    )
    found.arms.loc[2, "units"] = "[[0, 1]]"
    table = control_table(found, "", "")
    assert [own[0].note for own in table.rows] == ["decides; 1 to 2 experts", "2 experts each"]
    assert "2 experts have an effect of 0.90" in table.caption
    assert [[cell.text for cell in own] for own in table.rows] == [
        ["Sham maps", "2", "0.20", "0 of 2"],
        ["Other experts that get as massive", "3", "0.50", "1 of 3"],
    ]
    assert control_table(evidence(row()), "", "") is None


@pytest.mark.parametrize("arm", ["massive_matched", "load_matched"])
def test_massive_controls_are_in_the_figure_and_its_legend_where_they_were_run(arm):
    figure = dose_figure(evidence(row(), *draws(arm, 0.9, 0.8), bystanders=[]), "a", "", "")
    massive = arm == "massive_matched"
    assert ("var(--massive-matched)" in figure.panels[0].svg) == massive
    marks = [mark for mark, _ in figure.legend]
    assert ("massive-matched" in marks) == massive
    assert marks[:4] == ["finding", "sham", "layer-matched", "load-matched"]


def test_sham_maps_stand_at_the_dose_that_was_chosen_for_each():
    one, two, five = "[[0, 1]]", "[[0, 1], [0, 2]]", json.dumps([[0, n] for n in range(5)])
    found = evidence(
        row(),
        *(row(arm="sham", draw=n, units=own) for n, own in enumerate((one, two, five))),
        row(arm="sham", dose=1, units=one),  # the first map once more
        row(arm="sham", dose=4, draw=0, units=five),
        row(arm="layer_matched", units=two),
    )
    moved = found.shams_by_own_dose(found.target())
    shams = moved[moved["arm"] == "sham"].sort_values(["dose", "draw"])
    assert shams[["dose", "draw"]].to_numpy().tolist() == [[1, 0], [2, 1], [4, 0], [4, 2]]
    assert (moved["arm"] != "sham").sum() == 2
    told = dose_figure(found, "a", "", "").look_for
    assert "the dose that was chosen for each, as the finding's was (1 to 5 experts)" in told
    same = evidence(row(), *draws("sham", 0.9, 0.7))
    assert "chosen for each" not in dose_figure(same, "a", "", "").look_for


@pytest.mark.parametrize(
    ("bound", "told"),
    [(float("nan"), "-1.00 to -0.80"), (0.31, "-1.00 to -0.80;\nby carrier -1.00 to -0.69")],
)
def test_a_change_without_variation_has_the_interval_by_carrier_beside(bound, told):
    rows = [row(effect=-1.0, carrier_bound=bound, n=120, n_carriers=10)]
    table = measure_table(evidence(*rows), "", "")
    assert told.replace("-", "\N{MINUS SIGN}") in table.rows[0][2].note


def test_the_random_direction_stands_beside_the_positive_control():
    sizes = {"n": 120, "n_carriers": 10}
    table = measure_table(
        evidence(
            row(**sizes),
            row(arm="positive_control", mode="ablate", dose=0, value=0.0, effect=-1.0, **sizes),
            row(arm="random_direction", mode="ablate", dose=0, value=0.95, effect=-0.05, **sizes),
        ),
        "",
        "",
    )
    heads = [column.label for column in table.columns]
    shown = dict(zip(heads, (cell.text for cell in table.rows[0]), strict=True))
    assert (shown["Positive control"], shown["Random direction"]) == ("0.00", "0.95")


def test_what_was_not_run_along_a_direction_is_left_open():
    table = measure_table(evidence(row(n=120, n_carriers=10)), "", "")
    assert [cell.text for cell in table.rows[0][4:6]] == ["\N{EN DASH}"] * 2
