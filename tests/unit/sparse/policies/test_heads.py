"""Which heads keep their cache, and which write."""

import numpy as np
import pytest

from lmri.errors import SparseError
from lmri.sparse.policies import calibrate

# two layers of four heads, each two of which share keys and values
INDUCTION = [[0.1, 0.0, 0.2, 0.9], [0.8, 0.0, 0.0, 0.1]]
ECHO = [[0.0, 0.7, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
FEW = {"window": 3, "sinks": 1}


def heads_of(plan):
    return [rule.heads for rule in plan.rules]


def test_heads_of_the_best_scores_keep_their_cache(reading):
    options = {
        "scores": {"induction": INDUCTION, "duplicate": ECHO},
        "shares": {"induction": 0.25, "duplicate": 0.125},
        **FEW,
    }
    plan = calibrate("cache_heads", reading("llama"), options)
    assert heads_of(plan) == [(0, 1), (0,)]
    assert plan.parameters["found"] == {"heads": 3, "of_heads": 4}
    assert "scores" not in plan.parameters
    assert plan.achieved[0].achieved == 0 and plan.achieved[1].achieved > 0


def test_heads_given_are_turned_into_those_of_keys_and_values(reading):
    plan = calibrate("cache_heads", reading("llama"), {"heads": [[0, 3], [0, 2]], **FEW})
    assert heads_of(plan) == [(1,), ()]
    full = calibrate("cache_heads", reading("gpt2"), {"heads": [[0, 3], [0, 2]], **FEW})
    assert heads_of(full) == [(2, 3), ()]


def test_random_heads_have_the_same_cache(reading):
    own = calibrate("cache_heads", reading("gpt2"), {"heads": [[0, 0], [1, 1], [1, 2]], **FEW})
    cache = sum(found.achieved for found in own.achieved)
    drawn = set()
    for seed in range(12):
        options = {"heads": [[0, 0], [1, 1], [1, 2]], "random_seed": seed, **FEW}
        plan = calibrate("cache_heads", reading("gpt2"), options)
        assert sum(map(len, heads_of(plan))) == 3
        assert sum(found.achieved for found in plan.achieved) == pytest.approx(cache)
        drawn.add(str(heads_of(plan)))
    assert len(drawn) > 4


def test_of_equal_scores_the_first_heads_are_kept(reading):
    options = {"scores": {"induction": np.zeros((2, 4))}, "shares": {"induction": 0.25}, **FEW}
    assert heads_of(calibrate("cache_heads", reading("gpt2"), options)) == [(0, 1), ()]


def test_only_the_heads_named_write(reading):
    plan = calibrate("keep_heads", reading("llama"), {"heads": [[1, 3], [1, 0]]})
    assert heads_of(plan) == [(), (0, 3)]
    assert [found.achieved for found in plan.achieved] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("llama", {}, "either 'heads' or 'scores'.*none"),
        ("llama", {"heads": [[0, 1]], "scores": {"induction": INDUCTION}}, "both"),
        ("llama", {"heads": [[2, 1]]}, r"layers 0 to 1.*\(2, 1\)"),
        ("llama", {"heads": [[0, 4]]}, r"heads 0 to 3.*\(0, 4\)"),
        ("llama", {"scores": {"induction": [[0.0]]}}, r"shape \(2, 4\)"),
        ("llama", {"scores": {"other": INDUCTION}}, "'shares'.*'other'"),
        ("bert", {"heads": [[0, 1]]}, "caches the keys"),
        ("deepseek_v3", {"heads": [[0, 1]]}, "one latent for all heads"),
    ],
)
def test_heads_that_cannot_be_kept_are_refused(reading, kind, options, message):
    with pytest.raises(SparseError, match=message):
        calibrate("cache_heads", reading(kind), options)
