"""Bands of tokens that change places: whole trials do, the null is uniform, what acts is found."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest
from streams import FakeRecording

from lmri.encode.activity import Units
from lmri.encode.analysis import Design, carrier_table, encode_sums
from lmri.encode.folds import carrier_folds
from lmri.encode.moments import Moments
from lmri.encode.ridge import search_of
from lmri.encode.scores import plain_r2
from lmri.encode.token_tests import token_tests
from lmri.encode.tokens import TokenDesign, moving, token_moments, without_still
from lmri.errors import EvidenceError
from lmri.stimuli.confounds import token_frequency

VOCABULARY, UNITS = 11, 4
EMBEDDINGS = np.random.default_rng(5).normal(size=(VOCABULARY, 2))


class InMemory(FakeRecording):
    """A recording that is indexed by rows and layers."""

    def holds(self, name):
        """Whether there is such an array."""
        return name in self._arrays

    def array(self, name):
        """With the names of its dimensions."""
        found = super().array(name)
        found.dims = ("token", "layer", "neuron")
        return found


def recording(rng, lengths, activity, block=13):
    """Trials of these lengths, all of them prompt; ``activity`` makes it of tokens and trial."""
    trial = np.repeat(np.arange(len(lengths)), lengths)
    token_id = rng.integers(0, VOCABULARY, size=len(trial))
    surprisal = rng.exponential(size=len(trial))
    index = {
        "trial": trial,
        "position": np.concatenate([np.arange(own) for own in lengths]),
        "phase": np.zeros(len(trial), dtype=int),
        "token_id": token_id,
        "logp_next": -np.append(surprisal[1:], 0.0),
    }
    arrays = {f"tokens/index/{name}": own for name, own in index.items()}
    values = activity(token_id, trial, surprisal)
    arrays["tokens/neuron/activation"] = values[:, None].astype(np.float32)
    table = pd.DataFrame(
        {
            "carrier_item": [f"i{i:02d}" for i in range(len(lengths))],
            "condition": np.resize(["a", "b"], len(lengths)),
            "n_prompt": lengths,
            "content_last": np.asarray(lengths) - 1,
        }
    )
    return InMemory(table, arrays, block)


def prepared(own, names, draws, delays=(1,), seed=0):
    """Sums, design and tests of one layer."""
    folds = carrier_folds(own.trials, 4, seed, "a test")
    frequency = token_frequency([own])
    made = TokenDesign.of(own.trials, names, EMBEDDINGS, delays, frequency)
    units, rows = Units("neuron", (0,), (UNITS,)), [np.arange(len(own.trials))]
    sums = token_moments([own], made, folds, rows, units, 0, "prompt")
    kept, layout = without_still(sums, made.layout)
    design = Design(
        np.empty((0, kept.features)), layout, folds, search_of(len(layout.names), 1, seed)
    )
    tests = token_tests(
        [own],
        rows,
        "prompt",
        made,
        moving(sums),
        design,
        kept,
        carrier_table(own.trials),
        draws,
        seed,
    )
    return units, kept, design, tests


def encoded(own, names, draws, seed=0):
    units, kept, design, tests = prepared(own, names, draws, seed=seed)

    def null(layer, name):
        return tests.null_scores(units, layer, kept, design, name)

    return encode_sums([kept], units, design, tests.exchange, null)


def noise(rng, trials, tokens):
    """What units do anyway: of their trial, and on from token to token."""
    return rng.normal(size=(trials, UNITS))[tokens] + rng.normal(size=(len(tokens), UNITS))


@pytest.mark.parametrize("name", ["identity", "previous", "condition", "all"])
def test_draws_are_those_of_exchanged_rows(rng, name):
    """Every sum of a draw is that of a design whose rows were moved by hand."""
    lengths = np.resize([5, 5, 7, 7], 24)
    own = recording(rng, lengths, lambda ids, trial, surprisal: noise(rng, 24, trial))
    units, kept, design, tests = prepared(own, ("condition", "identity", "previous"), 3)
    drawn = tests.null_scores(units, 0, kept, design, name)
    blocks = list(tests.made.blocks(own, 0))
    X = np.concatenate([rows for rows, _, _ in blocks])[:, tests.kept]
    trial = np.repeat(np.arange(24), lengths)
    place = np.concatenate([np.arange(own) for own in lengths])
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    Y = own.array("tokens/neuron/activation")[:, 0].astype(np.float64)
    columns = design.tested[name]
    order = tests.exchange[name].orders[1]
    if name != "condition":
        assert (lengths[order] == lengths).all()
    source = first[order[trial]] + (place if name != "condition" else 0)
    nuisance = X[:, design.layout.columns_of("nuisance")]
    group = trial if name == "condition" else np.arange(len(trial))
    mean = pd.DataFrame(nuisance).groupby(group).transform("mean").to_numpy()
    ones = np.column_stack([np.ones(len(mean)), mean])
    told = ones @ np.linalg.lstsq(ones, X[:, columns], rcond=None)[0]
    moved = X.copy()
    moved[:, columns] = told + (X[:, columns] - told)[source]
    by_hand = Moments(kept.cells, kept.features, UNITS)
    by_hand.add(moved, Y, design.folds.cell[trial])
    expected = plain_r2(by_hand, design.folds, design.search.alphas)
    assert drawn[1] == pytest.approx(expected, abs=1e-6)


def test_only_trials_of_as_many_tokens_change_places(rng):
    own = recording(rng, np.arange(4, 28), lambda ids, trial, surprisal: noise(rng, 24, trial))
    tests = prepared(own, ("condition", "identity"), 9)[-1]
    assert set(tests.exchange) == {"condition"}


def test_p_is_uniform_where_tokens_say_nothing(rng):
    """Units follow their trial, surprisal and the frequency of a token; nothing else of it."""
    p = []
    for seed in range(25):
        values = noise(rng, 24, np.repeat(np.arange(24), 6))

        def activity(ids, trial, surprisal, values=values):
            return values + 2 * surprisal[:, None] + np.bincount(ids)[ids][:, None] / 4

        own = recording(rng, [6] * 24, activity, block=1000)
        found = encoded(own, ("condition", "identity", "previous"), 19, seed)
        p.append(found["p"].values)
    p = np.concatenate(p, axis=2)
    for tested in p:
        assert np.mean(tested <= 0.05) < 0.12
        assert kstest(tested.ravel(), "uniform").statistic < 0.2


def test_the_band_that_acts_is_found_and_no_other(rng):
    def activity(ids, trial, surprisal):
        before = np.where(np.diff(trial, prepend=-1) == 0, np.roll(ids, 1), 0)
        loaded = EMBEDDINGS[before] @ np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])
        return 1.5 * loaded + noise(rng, 24, trial)

    own = recording(rng, [8] * 24, activity)
    found = encoded(own, ("condition", "identity", "previous"), 99)
    assert found.attrs["exchanged"] == dict.fromkeys(
        ("condition", "identity", "previous", "all"), "between"
    )
    p = found["p_max"].squeeze("layer").to_pandas()
    assert (p.loc["previous"][:2] <= 0.02).all()
    assert (p.loc["previous"][2:] > 0.05).all()
    assert (p.loc[["condition", "identity"]] > 0.04).all(axis=None)
    assert (found["q"] >= found["p"]).all()


def test_units_that_are_all_constant_are_refused(rng):
    own = recording(rng, [6] * 24, lambda ids, trial, surprisal: np.ones((len(ids), UNITS)))
    said = r"tokens of 'neuron' needs units that vary\. All 4 are constant in 144 tokens"
    with pytest.raises(EvidenceError, match=said):
        encoded(own, ("condition", "identity"), 3)


def test_no_draws_make_no_tests(rng):
    own = recording(rng, [6] * 24, lambda ids, trial, surprisal: noise(rng, 24, trial))
    assert "p" not in encoded(own, ("condition", "identity"), 0)
