"""What a map selects, as a finding lists it."""

from types import SimpleNamespace

import pytest

from lmri.config import EvidenceOptions
from lmri.localise.findings import EMPTY, REASONS, base_finding, unmapped_finding

OPTIONS = EvidenceOptions(doses=(1, 2), neuron_doses=(1, 3))


def selection(kind: str, *units: tuple[int, int]) -> SimpleNamespace:
    """A map that selects these units at every level."""
    return SimpleNamespace(
        kind=kind,
        method="contrast",
        selected=lambda alpha: list(units),
        described=lambda chosen: [{"layer": layer, "unit": unit} for layer, unit in chosen],
    )


@pytest.mark.parametrize(
    ("kind", "kept"), [("expert", [(0, 1), (1, 0)]), ("neuron", [(0, 1), (1, 0), (1, 2)])]
)
def test_a_finding_lists_the_units_of_the_largest_dose(crossed, kind, kept):
    result = selection(kind, (0, 1), (1, 0), (1, 2), (0, 3))
    finding = base_finding("tiny", crossed, "prompt_last", "hypothesis", result, OPTIONS, {})
    assert [(unit["layer"], unit["unit"]) for unit in finding["units"]] == kept
    assert finding["status"] == "not_testable"  # until it is calibrated
    assert finding["reason"] == REASONS["hypothesis", True]
    assert "primary_endpoint" not in finding


def test_a_map_that_selects_nothing_is_null(crossed):
    result = selection("expert")
    finding = base_finding("tiny", crossed, "prompt_last", "hypothesis", result, OPTIONS, {})
    assert (finding["status"], finding["reason"], finding["units"]) == ("null", EMPTY, [])


def test_units_of_a_negative_control_are_called_a_false_positive(crossed):
    result = selection("expert", (0, 1))
    finding = base_finding("tiny", crossed, "prompt_last", "negative_control", result, OPTIONS, {})
    assert finding["status"] == "not_testable"
    assert finding["reason"].startswith("a false positive")


def test_a_subject_without_units_of_a_kind_is_not_testable(crossed):
    made = {"version": "1"}
    finding = unmapped_finding(
        "dense", crossed, "content", "hypothesis", "expert", "contrast", made
    )
    assert finding["status"] == "not_testable"
    assert finding["reason"] == "the subject has no experts, so there is nothing to map"
    assert (finding["subject"], finding["phase"], finding["units"]) == ("dense", "content", [])
    assert (finding["task"], finding["contrast"]) == (crossed.task, crossed.name)
    assert finding["provenance"] is made
