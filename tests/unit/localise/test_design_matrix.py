"""Design matrices: which rows an event reaches, and that it never leaves its trial."""

import numpy as np
import pandas as pd
import pytest
from streams import FakeRecording

from lmri.errors import EvidenceError
from lmri.localise.design_matrix import TokenDesign, token_blocks, trial_design
from lmri.localise.least_squares import least_squares, least_squares_stream
from lmri.stimuli.confounds import CONFOUNDS

LENGTHS = [20, 1, 6]
EVENTS = pd.DataFrame(
    [(0, 10, 5, "told"), (0, 19, 1, "asked"), (1, 0, 1, "asked"), (2, 4, 9, "told")],
    columns=["trial", "onset", "duration", "trial_type"],
)


def all_tokens():
    trial = np.repeat(np.arange(3), LENGTHS)
    return trial, np.concatenate([np.arange(n) for n in LENGTHS])


def test_an_event_is_1_in_the_rows_of_its_tokens():
    design = TokenDesign(LENGTHS, EVENTS)
    rows = design.rows(*all_tokens())
    assert design.columns == ("asked", "told", "constant")
    assert np.flatnonzero(rows[:, 0]).tolist() == [19, 20]
    assert np.flatnonzero(rows[:, 1]).tolist() == [10, 11, 12, 13, 14, 25, 26]
    assert set(np.unique(rows)) == {0.0, 1.0}
    assert (rows[:, 2] == 1).all()


def test_delays_shift_an_event_and_stop_at_the_end_of_its_trial():
    design = TokenDesign(LENGTHS, EVENTS, delays=[0, 1, 3], constant=False)
    rows = design.rows(*all_tokens())
    assert design.columns == tuple(f"{c}_delay_{d}" for c in ("asked", "told") for d in (0, 1, 3))
    assert np.flatnonzero(rows[:, 0]).tolist() == [19, 20]
    assert np.flatnonzero(rows[:, 1]).tolist() == []
    assert np.flatnonzero(rows[:, 4]).tolist() == [11, 12, 13, 14, 15, 26]
    assert np.flatnonzero(rows[:, 5]).tolist() == [13, 14, 15, 16, 17]


def test_rows_do_not_depend_on_what_is_asked_for_with_them():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, size=200)
    onset = rng.integers(0, lengths)
    names = rng.choice(["a", "b", "c"], size=200)
    events = pd.DataFrame(
        {"trial": np.arange(200), "onset": onset, "duration": 2, "trial_type": names}
    )
    events["modulation"] = rng.normal(size=200)
    design = TokenDesign(lengths, events, delays=[0, 1])
    trial = np.repeat(np.arange(200), lengths)
    position = np.concatenate([np.arange(n) for n in lengths])
    rows = design.rows(trial, position)
    for chosen in ([7], [150, 3, 3, 70], rng.permutation(len(trial))):
        assert np.allclose(design.rows(trial[chosen], position[chosen]), rows[chosen], atol=1e-9)
    expected = np.zeros((len(trial), 3, 2))  # written event by event
    for i, name in enumerate(names):
        for reached in (onset[i], onset[i] + 1):
            for delay in (0, 1):
                if reached < lengths[i] and reached + delay < lengths[i]:
                    row = (trial == i) & (position == reached + delay)
                    expected[row, "abc".index(name), delay] = events["modulation"][i]
    assert np.allclose(rows[:, :-1], expected.reshape(-1, 6), atol=1e-9)


def test_long_runs_do_not_lose_a_token_to_rounding():
    onsets = np.arange(0, 3000, 7)
    events = pd.DataFrame(
        {"trial": onsets % 40, "onset": onsets, "duration": 3, "trial_type": "told"}
    )
    design = TokenDesign([3001] * 40, events, constant=False)
    trial, position = np.repeat(np.arange(40), 3001), np.tile(np.arange(3001), 40)
    told = design.rows(trial, position).reshape(40, 3001)
    expected = np.zeros((40, 3001))
    for step in range(3):
        expected[onsets % 40, onsets + step] = 1
    assert np.array_equal(told, expected)


@pytest.mark.parametrize(
    "event", [(3, 0, 1), (0, 20, 1), (0, -1, 1), (0, 3, 0), (0, 1.5, 1)], ids=str
)
def test_events_outside_their_trial_are_refused(event):
    events = pd.DataFrame([(*event, "told")], columns=EVENTS.columns)
    with pytest.raises(EvidenceError, match=r"must start at a token of its trial.*'told'"):
        TokenDesign(LENGTHS, events)
    with pytest.raises(EvidenceError, match="'onset' is missing"):
        TokenDesign(LENGTHS, EVENTS.drop(columns="onset"))


def test_streamed_blocks_fit_as_the_whole_matrix_does():
    rng = np.random.default_rng(1)
    trial, position = all_tokens()
    units = rng.normal(size=(27, 2, 3))
    arrays = {
        "tokens/index/trial": trial,
        "tokens/index/position": position,
        "tokens/index/token_id": rng.integers(0, 4, size=27),
        "tokens/index/logp_next": -rng.exponential(size=27),
        "tokens/layer/norm": units,
    }
    recording = FakeRecording(pd.DataFrame(index=range(3)), arrays, 4)
    design = TokenDesign(LENGTHS, EVENTS)
    blocks = list(token_blocks(recording, "tokens/layer/norm", design))
    assert np.array_equal(np.concatenate([X for X, _ in blocks]), design.rows(trial, position))
    frequency = np.log(np.full(4, 0.25))
    columns = (*design.columns, *CONFOUNDS)
    blocks = list(token_blocks(recording, "tokens/layer/norm", design, frequency))
    keep = [i for i, name in enumerate(columns) if name != "frequency"]  # here it is constant
    names = [columns[i] for i in keep]
    fit = least_squares_stream(((X[:, keep], Y) for X, Y in blocks), names)
    whole = np.concatenate([X for X, _ in blocks])[:, keep]
    expected = least_squares(whole, units.reshape(27, 6), names)
    assert fit.coefficients == pytest.approx(expected.coefficients)


def test_a_trial_has_one_row_in_the_column_of_its_condition():
    table = trial_design(["b", "a", "b"], pd.DataFrame({"length": [4, 5, 9]}, index=[7, 8, 9]))
    assert list(table) == ["a", "b", "length"]
    assert table.to_numpy().tolist() == [[0, 1, 4], [1, 0, 5], [0, 1, 9]]
    assert trial_design(["a"]).to_numpy().tolist() == [[1]]


def test_confounds_with_gaps_or_names_of_conditions_are_refused():
    with pytest.raises(EvidenceError, match=r"each of the 2 trials.*gaps: 'length'"):
        trial_design(["a", "b"], pd.DataFrame({"length": [1, np.nan]}))
    with pytest.raises(EvidenceError, match="Got 1 trials"):
        trial_design(["a", "b"], pd.DataFrame({"length": [1]}))
    with pytest.raises(EvidenceError, match=r"must not be named as a condition\. Got 'a'"):
        trial_design(["a", "b"], pd.DataFrame({"a": [1, 2]}))
