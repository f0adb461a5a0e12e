"""Every flag fires on its fixture, and none on a sound estimate."""

import math
from dataclasses import replace

import closed_forms as known
import numpy as np
import pytest

from lmri.information.binning import bin_information, ebab, fixed_bins
from lmri.information.contrastive import infonce
from lmri.information.estimate import FLAGS, Estimate, Flag, Interval, Null
from lmri.information.gaussian import gaussian
from lmri.information.guards import Evidence, guard
from lmri.information.kernel import kolchinsky_tracey, label_bounds
from lmri.information.neighbours import ksg
from lmri.information.nulls import exchanged_labels, null_of, with_label_null
from lmri.information.plugin import plug_in
from lmri.information.probe import probe_information
from lmri.information.samples import count_distinct

SOUND = Estimate(
    value=0.5,
    quantity="I(T;Y)",
    estimator="ross",
    family="neighbours",
    channel={},
    n=1_000,
    n_distinct=1_000,
    d=(2, 0),
    ceiling=math.log(4),
    null=Null(0.001, 0.02, 0.03, 0.005, 200, "samples"),
    interval=Interval(0.4, 0.6, 0.05, 4, 0.95, "5 disjoint parts"),
)
KNOWN = Evidence(probe=0.4, intrinsic_dimension=2.0, slope=0.02, groups=1_000)


def names(estimate, evidence=None):
    return [flag.name for flag in guard(estimate, evidence).flags]


def test_sound_estimates_have_no_flag():
    assert names(SOUND, KNOWN) == []
    assert names(replace(SOUND, null=None, interval=None)) == []


@pytest.mark.parametrize(
    ("flag", "change", "evidence"),
    [
        ("saturation", {"saturation": 0.96}, {}),
        ("saturation", {"singletons": 0.91, "saturation": 0.9}, {}),
        ("saturation", {"value": 1.35}, {"probe": 0.1}),
        ("failed_null", {"null": Null(0.06, 0.02, 0.1, 0.005, 200, "samples")}, {}),
        ("failed_null", {"null": Null(0.0, 0.4, 0.7, 0.2, 200, "samples")}, {}),
        ("dimension", {}, {"intrinsic_dimension": 3.1}),
        ("dimension", {"n": 30}, {"intrinsic_dimension": 2.0, "groups": 30}),
        ("dimension", {"family": "gaussian", "d": (60, 50)}, {}),
        ("dimension", {"family": "plug_in", "channel": {"cells": 300}}, {}),
        ("dimension", {"n_distinct": 1}, {}),
        ("ceiling", {"family": "neural", "ceiling": 0.55}, {}),
        ("ceiling", {"value": 7.0, "ceiling": None}, {}),
        ("instability", {"interval": Interval(0.1, 0.9, 0.2, 4, 0.95, "parts")}, {}),
        ("instability", {}, {"slope": -0.2}),
        ("dependent_tokens", {}, {"groups": 40}),
    ],
)
def test_each_rule(flag, change, evidence):
    own = replace(KNOWN, **evidence)
    assert names(replace(SOUND, **change), own) == [flag]


def test_negative_values_are_flagged_and_kept():
    below = replace(SOUND, value=-0.2, null=None)
    found = guard(below)
    assert found.value == -0.2
    assert found.has("negativity")
    assert names(replace(below, value=-0.02)) == ["instability"]  # within two standard errors


def test_thresholds_are_not_flagged_themselves():
    assert names(replace(SOUND, saturation=0.95, singletons=0.9), KNOWN) == []
    assert names(SOUND, replace(KNOWN, intrinsic_dimension=3.0, slope=0.1)) == []
    full = math.log(1_000)
    assert names(replace(SOUND, value=full + 1e-12, ceiling=full)) == []  # log n, rounded


@pytest.mark.parametrize("width", [64, 256])
def test_saturated_layers_are_flagged_and_the_probe_says_nothing(width):
    """Ten random classes: bins and kernels read all of 2.3 nats off a wide layer."""
    _, t, y = known.wide_layer(1_000, width)
    probe = probe_information(t, y)
    assert probe.value < 0.02
    labellings = exchanged_labels(y, None, 20, 0)
    binned = with_label_null(ebab(t, y)[1], bin_information(t), labellings)
    fixed = with_label_null(
        fixed_bins(t, y, width=0.5)[1], bin_information(t, bins=None, width=0.5), labellings
    )
    found = kolchinsky_tracey(t, y, noise=[math.sqrt(1e-3)], reference="absolute")[1]
    sd = found.channel["sd"]
    noisy = replace(found, null=null_of(found.value, label_bounds(t, sd, labellings)[0]))
    for own in (binned, fixed, noisy):
        assert own.value == pytest.approx(2.3, abs=0.01)
        flags = [flag.name for flag in guard(own, Evidence(probe=probe.value)).flags]
        assert flags == ["saturation", "failed_null"]
        # The rule about the probe finds it without the share of symbols.
        alone = replace(own, saturation=None, singletons=None, null=None)
        assert names(alone, Evidence(probe=probe.value)) == ["saturation"]


def test_flags_of_estimators():
    x, y = known.gaussian_pair(100, 8, 0.5)
    assert names(gaussian(x, y)) == ["dimension"]
    assert "dimension" in names(ksg(x, y), Evidence(intrinsic_dimension=8.0))
    assert names(plug_in(np.arange(60) % 20, np.arange(60) % 3)) == ["dimension"]
    close, same = known.gaussian_pair(600, 3, 0.999)
    assert "ceiling" in names(infonce(close, same, batch=4, steps=600))


def test_record_is_plain():
    own = guard(replace(SOUND, interval=replace(SOUND.interval, sd=math.nan), d=(2, 0)))
    found = own.flagged(Flag("dimension", "few")).record()
    assert found["unit"] == "nat"
    assert found["interval"]["sd"] is None
    assert found["n"] == 1_000
    assert found["flags"] == [{"name": "dimension", "reason": "few"}]
    assert set(FLAGS) >= {flag["name"] for flag in found["flags"]}


def test_a_flag_is_raised_once():
    twice = SOUND.flagged(Flag("dimension", "first")).flagged(Flag("dimension", "second"))
    assert [flag.reason for flag in twice.flags] == ["first"]


def test_distinct_rows_are_counted_as_by_sorting_them():
    rng = np.random.default_rng(0)
    samples = rng.integers(-2, 3, size=(200, 3)) * 0.5
    samples[0], samples[1] = 0.0, -0.0
    assert count_distinct(samples) == len(np.unique(samples, axis=0))
    assert count_distinct(rng.normal(size=(50, 2))) == 50
    assert count_distinct(np.full((4, 1), 0.1)) == 1
