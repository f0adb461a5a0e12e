"""Which units are looked at, and that names of quantities are those of the maps."""

import pytest

from lmri.examples import tables
from lmri.examples.asked import FIRST_QUANTITY, quantity_of
from lmri.localise.measures import QUANTITIES
from lmri.report.examples.tables import COLUMNS
from lmri.report.kinds import FIRST_QUANTITY as TOLD


def test_first_quantities_are_those_of_maps_and_of_the_report():
    assert {kind: names[0] for kind, names in QUANTITIES.items()} == FIRST_QUANTITY == TOLD


@pytest.mark.parametrize(
    ("kind", "method", "quantity"),
    [
        ("expert", "resonance", "rate"),
        ("expert", "logits.welch_t", "logits"),
        ("head", "entropy.d_prime", "entropy"),
        ("expert_neuron", "conditional.welch_t", "unconditional"),
        ("neuron", "preactivation.mean_difference", "preactivation"),
        ("head", "relp", "norm"),
        ("feature", "relp", "activation"),
    ],
)
def test_what_a_map_compares(kind, method, quantity):
    assert quantity_of(kind, method) == quantity


def test_the_report_reads_the_columns_that_are_written():
    for name, columns in COLUMNS.items():
        assert set(columns) == set(getattr(tables, name.upper())), name
