"""Rules of the claims, on planted studies."""

import numpy as np
import pytest

from lmri.information.bottleneck.claims import (
    CLAIMS,
    FAILS,
    HOLDS,
    OPEN,
    bootstrap,
    decide,
    decide_claims,
    pooled_correlation,
)
from lmri.information.bottleneck.network import LAYERS
from lmri.information.bottleneck.scores import Trajectories

CHANNELS = ("ebab", "akde_0.01", "bins")
N = 20


@pytest.mark.parametrize(
    ("rule", "bound", "low", "high", "verdict"),
    [
        ("above", 0.05, 0.06, 0.2, HOLDS),
        ("above", 0.05, 0.01, 0.04, FAILS),
        ("above", 0.05, 0.01, 0.2, OPEN),
        ("below", 0.05, 0.01, 0.04, HOLDS),
        ("below", 0.05, 0.06, 0.2, FAILS),
        ("below", 0.05, 0.01, 0.2, OPEN),
        ("none", 0.3, -0.1, 0.2, HOLDS),
        ("none", 0.3, -0.1, 0.4, OPEN),
        ("none", 0.3, 0.01, 0.2, FAILS),
        ("none", 0.3, -0.2, -0.01, FAILS),
        ("above", 0.0, np.nan, np.nan, OPEN),
        ("none", 0.3, np.nan, np.nan, OPEN),
    ],
)
def test_rules(rule, bound, low, high, verdict):
    assert decide(rule, bound, low, high) == verdict


def planted(falls, learned=None, channels=CHANNELS, seed=0):
    """Trajectories that rise to 4 nats and fall by a share for each network.

    ``falls`` has the shares by setting: of shape (initialisation,), the same in all layers.
    """
    settings = {}
    for name in falls:
        activation, _, penalty = name.partition("_l2_")
        settings[name] = (activation, float(penalty or 0))
    shares = np.array([np.broadcast_to(own, N) for own in falls.values()])
    shape = np.array([1, 3, 4, 4, 4, 2, 1, 1, 1])
    fall = np.array([0, 0, 0, 0, 0, 0.5, 1, 1, 1])
    paths = np.where(fall > 0, 4 * (1 - shares[..., None] * fall), shape)  # (setting, n, epoch)
    values = np.repeat(paths[:, :, None], len(LAYERS), axis=2)
    accuracy = np.random.default_rng(seed).uniform(0.8, 1, size=shares.shape)
    learned = np.ones(shares.shape, bool) if learned is None else learned
    information = dict.fromkeys(channels, values)
    return Trajectories(settings, np.arange(9), information, accuracy, learned)


def verdicts(study, channel="all"):
    table = decide_claims(study, draws=200, seed=0)
    own = table[table["channel"] == channel]
    return dict(zip(own["claim"], own["verdict"], strict=True))


def spread(mean, width=0.02):
    return mean + width * np.linspace(-1, 1, N)


def test_claims_on_a_study_in_which_they_hold():
    relu = np.where(np.arange(N) % 2, 0.8, 0.0)
    study = planted(
        {
            "tanh": spread(0.9),
            "relu": relu,
            "relu_l2_0.01": relu + 0.1,
            "elu": spread(0.3),
            "swish": spread(0.3),
            "centred_softplus": spread(0.3),
        }
    )
    found = verdicts(study)
    told = ("tanh", "elu", "swish", "centred_softplus")
    assert {found[f"{name}_compresses"] for name in told} == {HOLDS}
    assert (found["tanh_most"], found["relu_varies"], found["l2_compresses"]) == (HOLDS,) * 3
    assert found["relu_average"] == FAILS  # the average of these does bend


def test_claims_on_a_study_in_which_nothing_compresses():
    names = ("tanh", "relu", "relu_l2_0.01", "elu", "swish", "centred_softplus")
    found = verdicts(planted(dict.fromkeys(names, np.zeros(N))))
    told = ("tanh", "elu", "swish", "centred_softplus")
    assert {found[f"{name}_compresses"] for name in told} == {FAILS}
    assert (found["relu_average"], found["relu_varies"]) == (HOLDS, FAILS)
    assert (found["tanh_most"], found["l2_compresses"]) == (OPEN, OPEN)
    # Where no score varies there is no correlation to tell of.
    assert (found["hidden_uncorrelated"], found["output_correlated"]) == (OPEN, OPEN)


def test_channels_that_disagree_decide_nothing_but_fixed_bins_do_not_count():
    falls = {"tanh": spread(0.5), "relu": spread(0.1)}
    study, none = planted(falls), planted(dict.fromkeys(falls, np.zeros(N)))
    for channel, verdict in (("akde_0.01", OPEN), ("bins", HOLDS)):
        mixed = {**study.information, channel: none.information[channel]}
        other = Trajectories(study.settings, study.epochs, mixed, study.accuracy, study.learned)
        assert verdicts(other)["tanh_compresses"] == verdict
        assert verdicts(other, channel)["tanh_compresses"] == FAILS


def test_settings_that_are_missing_or_did_not_learn_decide_nothing():
    found = verdicts(planted({"tanh": spread(0.9)}))
    assert found["tanh_compresses"] == HOLDS
    assert found["elu_compresses"] == found["l2_compresses"] == OPEN
    learned = np.zeros((1, N), bool)
    learned[0, :4] = True
    table = decide_claims(planted({"tanh": spread(0.9)}, learned), draws=100, seed=0)
    assert set(table["verdict"]) == {OPEN}
    assert table.loc[table["claim"] == "tanh_compresses", "n"].tolist() == [4] * 4


def test_networks_that_did_not_learn_are_left_out():
    learned = np.arange(N)[None] < 10
    falls = {"tanh": np.where(np.arange(N) < 10, 0.5, 0.0)}
    table = decide_claims(planted(falls, learned), draws=100, seed=0)
    own = table[(table["claim"] == "tanh_compresses") & (table["channel"] == "ebab")].iloc[0]
    assert (own["value"], own["n"]) == (pytest.approx(0.5), 10)


def test_a_setting_in_which_nothing_was_learned_does_not_hide_the_others():
    rng = np.random.default_rng(1)
    falls = {"tanh": rng.uniform(0, 1, N), "relu": rng.uniform(0, 1, N), "elu": np.zeros(N)}
    learned = np.array([[True], [True], [False]]) & np.ones(N, bool)
    study = planted(falls, learned)
    same = np.array([*falls.values()])  # accuracy that goes with compression
    study = Trajectories(study.settings, study.epochs, study.information, same, learned)
    table = decide_claims(study, draws=100, seed=0)
    own = table[table["claim"] == "output_correlated"]
    assert set(own["verdict"]) == {HOLDS}
    assert set(own["n"]) == {2 * N}


def test_correlation_is_within_settings():
    """Settings that differ in both make none; within them the ranks are opposite."""
    scores = np.array([[0.1, 0.2, 0.3], [0.7, 0.8, 0.9]])
    accuracy = np.array([[0.63, 0.62, 0.61], [0.93, 0.92, 0.91]])
    assert pooled_correlation(scores, accuracy) == pytest.approx(-1)
    scores[1, 0] = np.nan
    assert pooled_correlation(scores, accuracy) == pytest.approx(-1)
    assert np.isnan(pooled_correlation(np.zeros((1, 3)), accuracy[:1]))


def test_an_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(100):
        values = rng.normal(size=20)
        low, high = bootstrap(lambda chosen, own=values: own[chosen].mean(), 20, 200, seed)
        hits += low <= 0 <= high
    assert 83 <= hits <= 99


def test_claims_have_names_of_their_own():
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
