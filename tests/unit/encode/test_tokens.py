"""Features of tokens: what came before never comes from another trial."""

import numpy as np
import pandas as pd
import pytest
from streams import FakeRecording

from lmri.encode.activity import Units
from lmri.encode.folds import carrier_folds
from lmri.encode.ridge import search_of
from lmri.encode.scores import held_out_scores
from lmri.encode.tokens import Delayed, TokenDesign, token_moments, without_still
from lmri.stimuli.confounds import token_frequency

TRIALS, LENGTH = 24, 9
EMBEDDINGS = np.random.default_rng(5).normal(size=(11, 3))


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


def _recording(rng, block, units=4):
    token_id = rng.integers(0, 11, size=(TRIALS, LENGTH))
    index = {
        "trial": np.repeat(np.arange(TRIALS), LENGTH),
        "position": np.tile(np.arange(LENGTH), TRIALS),
        "phase": np.tile([0] * 7 + [1] * 2, TRIALS),
        "token_id": token_id.ravel(),
        "logp_next": -rng.exponential(size=TRIALS * LENGTH),
    }
    # Neurons answer to the token two before, in its own trial.
    before = np.zeros((TRIALS, LENGTH, 3))
    before[:, 2:] = EMBEDDINGS[token_id[:, :-2]]
    activity = (before @ rng.normal(size=(3, units))).reshape(-1, 1, units)
    arrays = {f"tokens/index/{name}": own for name, own in index.items()}
    arrays["tokens/neuron/activation"] = activity.astype(np.float32)
    trials = pd.DataFrame(
        {
            "carrier_item": [f"i{i:02d}" for i in range(TRIALS)],
            "condition": ["a", "b"] * (TRIALS // 2),
            "n_prompt": 7,
            "content_last": 6,
        }
    )
    return InMemory(trials, arrays, block)


@pytest.mark.parametrize("block", [1, 4, 1000])
def test_earlier_tokens_are_of_the_same_trial(rng, block):
    recording = _recording(rng, block)
    delayed = Delayed(EMBEDDINGS, (1, 3))
    names = [f"tokens/index/{name}" for name in ("trial", "position", "token_id")]
    rows = np.concatenate([delayed.rows(*own) for own in recording.stream(*names)])
    ids = recording.array(names[2]).reshape(TRIALS, LENGTH)
    made = rows.reshape(TRIALS, LENGTH, 2, 3)
    for place, delay in enumerate((1, 3)):
        assert (made[:, :delay, place] == 0).all()
        assert (made[:, delay:, place] == EMBEDDINGS[np.asarray(ids[:, :-delay])]).all()


@pytest.mark.parametrize("block", [5, 1000])
def test_activity_that_follows_an_earlier_token_is_found(rng, block):
    recording = _recording(rng, block)
    folds = carrier_folds(recording.trials, 4, 0, "a test")
    design = TokenDesign.of(
        recording.trials,
        ("condition", "identity", "previous"),
        EMBEDDINGS,
        (1, 2),
        token_frequency([recording]),
    )
    units = Units("neuron", (0,), (4,))
    rows = [np.arange(TRIALS)]
    sums = token_moments([recording], design, folds, rows, units, 0, "prompt")
    assert sums.n.sum() == TRIALS * 7
    kept, layout = without_still(sums, design.layout)
    assert layout.left_out == {"length": "no variance in 168 tokens"}
    assert kept.features == 3 + 2 + 3 + 6
    search = search_of(len(layout.names), 12, 0)
    scores = held_out_scores(kept, folds, search, layout.sizes)
    assert (scores.r2 > 0.9).all()
    assert scores.split[layout.names.index("previous")].min() > 0.8
    assert abs(scores.split[layout.names.index("identity")]).max() < 0.1


def test_trials_of_other_splits_are_left_aside(rng):
    recording = _recording(rng, 7)
    folds = carrier_folds(recording.trials[:12], 3, 0, "a test")
    rows = np.where(np.arange(TRIALS) < 12, np.arange(TRIALS), -1)
    design = TokenDesign.of(
        recording.trials, ("identity",), EMBEDDINGS, (), token_frequency([recording])
    )
    units = Units("neuron", (0,), (4,))
    sums = token_moments([recording], design, folds, [rows], units, 0, "response")
    assert sums.n.sum() == 12 * 2
