"""The words of the report cover what the other stages write."""

from __future__ import annotations

import pytest

from lmri import intervene
from lmri.localise import measures
from lmri.localise.statistics import LARGEST
from lmri.report import kinds, words
from lmri.report.kinds import COUNTED, KINDS, QUANTITIES, STATISTICS, MapName
from lmri.store import FIRST_QUANTITY


def test_every_kind_has_words_and_the_same_names():
    assert {kind: noun.dims for kind, noun in KINDS.items()} == {
        kind: own.names for kind, own in intervene.KINDS.items()
    }


def test_statistics_are_cut_where_the_report_says():
    assert words.CUT == LARGEST


def test_every_statistic_and_quantity_has_words():
    assert {*measures.STATISTICS, *measures.COUNTED} <= set(STATISTICS)
    assert measures.COUNTED == COUNTED
    for kind, own in measures.QUANTITIES.items():
        assert set(own) <= set(QUANTITIES)
        assert FIRST_QUANTITY[kind] == own[0]


def test_every_mode_has_words():
    modes = {mode for kind in intervene.KINDS.values() for mode in kind.modes}
    assert modes <= set(words.MODES)


@pytest.mark.parametrize(
    ("name", "title", "quantity"),
    [
        ("expert.resonance", "experts", "rate"),
        ("expert_neuron.welch_t", "neurons of experts, all tokens", "unconditional"),
        ("expert_neuron.conditional.welch_t", "neurons of experts, routed tokens", "conditional"),
        ("head.entropy.welch_t", "attention heads, entropy of attention", "entropy"),
        ("layer.welch_t", "layers", "after"),
        ("feature.relp", "features of a dictionary", ""),
    ],
)
def test_titles(name, title, quantity):
    assert (MapName(name).title, MapName(name).quantity) == (title, quantity)


def test_names_are_those_of_the_measure():
    for name in ("expert.resonance", "head.entropy.glm_t"):
        own, asked = MapName(name), measures.parse_measure(name)
        assert (own.kind, own.quantity, own.statistic) == (
            asked.kind,
            asked.quantity,
            asked.statistic,
        )
        assert (own.method, own.counted) == (asked.method, asked.counted)


def test_mixed_kinds_are_units():
    assert kinds.common_noun(["expert", "expert"]).many == "experts"
    assert kinds.common_noun(["expert", "head"]).many == "units"
    assert kinds.common_noun([]).many == "experts"
