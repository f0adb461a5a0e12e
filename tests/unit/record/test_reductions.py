"""Reductions in C++: against closed forms, against torch, and what happens without a compiler."""

import ctypes
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from scipy.special import entr, log_softmax

from lmri.errors import BuildError
from lmri.native import built, find_compiler
from lmri.record import attention, next_token, pooling, reductions
from lmri.record.attention import Attention, summarise, value_norms, weights_of
from lmri.record.pooling import STATISTICS, Pooling, pool
from lmri.record.reductions import REDUCTIONS, Reductions, load_reductions, norms
from lmri.record.repeats import Repeats

COMPARE = """
import torch
from lmri.record.reductions import load_reductions, norms
from lmri.record.pooling import pool
print(torch.backends.cpu.get_cpu_capability())
torch.manual_seed(0)
values, masks = torch.randn(2, 9, 77), torch.rand(2, 3, 9) < 0.6
statistics = pool(values, masks)
expected = torch.einsum("bpt,btf->bpf", masks.double(), values.double()).float()
torch.testing.assert_close(statistics[:, :, 2], expected, rtol=1e-6, atol=1e-6)
logits, following = torch.randn(5, 203) * 5, torch.arange(5)
found, entropy = load_reductions().next_token(logits, following)
logs = logits.double().log_softmax(1)
torch.testing.assert_close(found, logs[range(5), range(5)].float(), rtol=1e-5, atol=1e-5)
torch.testing.assert_close(entropy, -(logs.exp() * logs).sum(1).float(), rtol=1e-5, atol=1e-5)
torch.testing.assert_close(norms(values.unsqueeze(2)).squeeze(2), values.norm(dim=-1))
"""


@pytest.fixture(autouse=True)
def compiled():
    try:
        find_compiler(REDUCTIONS)
    except BuildError:
        pytest.skip("there is no C++ compiler")
    assert load_reductions() is not None


@pytest.fixture
def by_torch(monkeypatch):
    """Call a function without the loops."""

    def call(function, *arguments):
        with monkeypatch.context() as patched:
            for module in (pooling, attention, next_token, reductions):
                patched.setattr(module, "load_reductions", lambda: None)
            return function(*arguments)

    return call


def phases(batch, tokens, seed=0):
    """Masks of six phases: runs, single tokens, scattered ones, all, and none."""
    drawn = torch.Generator().manual_seed(seed)
    masks = torch.zeros(batch, 6, tokens, dtype=torch.bool)
    masks[:, 0, : tokens // 2] = True
    masks[:, 1, tokens // 2 :] = True
    masks[:, 2, -1] = True
    masks[:, 3] = torch.rand(batch, tokens, generator=drawn) < 0.5
    masks[:, 4] = True
    return masks


def test_what_is_not_on_a_processor_is_reduced_by_torch():
    assert reductions.what_reduces(torch.device("meta")) == "torch"
    assert reductions.what_reduces(torch.device("cpu")) == load_reductions().instructions


def test_a_manifest_says_what_reduced(record, by_torch, tmp_path):
    assert record(tmp_path / "own")["reductions"] == load_reductions().instructions
    assert by_torch(record, tmp_path / "torch")["reductions"] == "torch"


def test_pools_of_whole_numbers_are_exact():
    values = torch.arange(24.0).view(1, 4, 6)
    masks = torch.tensor([[[True, False, True, True], [False, False, False, False]]])
    found = dict(zip(STATISTICS, pool(values, masks)[0].unbind(1), strict=True))
    own = values[0, [0, 2, 3]]
    assert found["mean"][0].equal(own.sum(0) / 3)
    assert found["last"][0].equal(own[-1])
    assert found["sum"][0].equal(own.sum(0))
    assert found["sum_squares"][0].equal(own.square().sum(0))
    assert found["count"][0].equal(torch.full((6,), 3.0))
    for name in ("mean", "last"):
        assert found[name][1].isnan().all()
    for name in ("sum", "sum_squares", "count"):
        assert not found[name][1].any()


@pytest.mark.parametrize("features", [1, 3, 8, 16, 31, 64, 100, 256])
@pytest.mark.parametrize("tokens", [1, 2, 37])
def test_pools_are_those_of_torch(features, tokens, by_torch):
    values = torch.randn(3, tokens, features, generator=torch.Generator().manual_seed(features))
    masks = phases(3, tokens)
    got, expected = pool(values, masks), by_torch(pool, values, masks)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-5, equal_nan=True)


def test_large_values_that_cancel_leave_the_small_ones():
    values = torch.tensor([1e8, 1.0, -1e8]).view(1, 3, 1).repeat(1, 1, 40)
    found = pool(values, torch.ones(1, 1, 3, dtype=torch.bool))
    assert found[0, 0, STATISTICS.index("sum")].equal(torch.ones(40))


def test_a_value_that_is_not_finite_shows_in_its_own_phases_only():
    values = torch.ones(1, 4, 40)
    values[0, 3, 7] = torch.inf
    found = pool(values, phases(1, 4))[0, :, STATISTICS.index("sum")]
    assert found[0].isfinite().all()
    assert found[1, 7].isinf()
    assert found[1].isfinite().sum() == 39


@pytest.mark.parametrize("feature", [0, 5, 100, 127, 130, 140])  # in a block, half a one, the rest
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan, 3e38])
def test_filling_tells_whether_all_sums_are_finite(feature, value, by_torch):
    values, masks = torch.ones(2, 4, 141), phases(2, 4)
    out = torch.empty(2, len(masks[0]), len(STATISTICS), 141)
    assert Pooling(masks).fill(values, out)
    values[1, 2:, feature] = value  # twice: the sum of two large ones is not finite in float32
    assert not Pooling(masks).fill(values, out)
    assert not by_torch(Pooling, masks).fill(values, out)


def test_pools_are_written_between_the_places_of_others(by_torch):
    values, masks = torch.randn(2, 9, 20), phases(2, 9)
    whole = torch.full((2, 6, len(STATISTICS), 3, 20), -7.0)
    Pooling(masks).fill(values, whole[:, :, :, 1])
    torch.testing.assert_close(whole[:, :, :, 1], by_torch(pool, values, masks), equal_nan=True)
    assert (whole[:, :, :, [0, 2]] == -7).all()


def test_values_that_lie_apart_are_pooled(by_torch):
    values, masks = torch.randn(2, 20, 9).transpose(1, 2), phases(2, 9)
    torch.testing.assert_close(pool(values, masks), by_torch(pool, values, masks), equal_nan=True)


def drawn_attention(heads, key_heads, tokens, past, size, seed=0):
    """Attention with repeated tokens, the last row padded, and what it read."""
    drawn = torch.Generator().manual_seed(seed)
    query = torch.randn(2, tokens, heads, size, generator=drawn).transpose(1, 2) * 2
    key, value = (
        torch.randn(2, key_heads, past + tokens, size, generator=drawn) * 2 for _ in range(2)
    )
    ids = torch.randint(0, 5, (2, past + tokens), generator=drawn)
    ids[1, -max(1, tokens // 3) :] = -1
    content = torch.rand(2, past + tokens, generator=drawn) < 0.7
    call = Attention(query, key, value, None, True, size**-0.5, None, None)
    return call, Repeats(ids, content, past)


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (6, 2)])
@pytest.mark.parametrize(("tokens", "past"), [(1, 0), (5, 0), (70, 0), (3, 40), (1, 9)])
@pytest.mark.parametrize("size", [5, 32])
def test_summaries_are_those_of_torch(heads, key_heads, tokens, past, size, by_torch):
    call, found = drawn_attention(heads, key_heads, tokens, past, size)
    got, expected = summarise(call, found), by_torch(summarise, call, found)
    assert got.keys() == expected.keys()
    for name, values in got.items():
        real = found.real
        torch.testing.assert_close(
            values[real], expected[name][real], rtol=1e-5, atol=2e-6, msg=lambda m, n=name: n + m
        )
        assert not values[~real].any()


def test_summaries_are_those_of_weights_in_float64():
    call, found = drawn_attention(3, 3, 40, 0, 16)
    got = summarise(call, found)
    weights = weights_of(call, slice(0, 40))[0].double().numpy()
    real = found.real
    expected = torch.from_numpy(entr(weights).sum(-1)).transpose(1, 2)
    torch.testing.assert_close(got["entropy"][real].double(), expected[real], rtol=0, atol=1e-5)
    rest = weights[..., 1:] / np.maximum(weights[..., 1:].sum(-1, keepdims=True), 1e-30)
    expected = torch.from_numpy(entr(rest).sum(-1)).transpose(1, 2)
    torch.testing.assert_close(
        got["entropy_rest"][real].double(), expected[real], rtol=0, atol=1e-5
    )


def test_scores_that_are_not_numbers_show():
    call, found = drawn_attention(2, 2, 6, 0, 8)
    call.key[0, 1, 2] = torch.nan
    got = summarise(call, found)["entropy"]
    assert got[0, :2, 1].isfinite().all()
    assert got[0, 2:, 1].isnan().all()
    assert got[0, :, 0].isfinite().all()


def test_earlier_is_the_last_time_before():
    ids = torch.tensor([[4, 7, 4, 4, 7, -1, -1]])
    found = Repeats(ids, torch.ones_like(ids, dtype=torch.bool)).earlier
    assert found.tolist() == [[-1, -1, 0, 2, 1, -1, -1]]


def test_repeats_follow_the_attention_to_its_device():
    found = Repeats(torch.tensor([[4, 7, 4]]), torch.ones(1, 3, dtype=torch.bool), 1)
    assert found.on(torch.device("cpu")) is found
    moved = found.on(torch.device("meta"))
    assert moved is found.on(torch.device("meta"))
    assert {moved.ids.device.type, moved.content.device.type} == {"meta"}
    assert moved.start == 1


@pytest.mark.parametrize("words", [1, 15, 16, 17, 1000])
def test_next_token_statistics_are_those_of_float64(words):
    drawn = np.random.default_rng(words)
    logits = (drawn.standard_normal((7, words)) * 6).astype(np.float32)
    following = drawn.integers(0, words, 7)
    got = load_reductions().next_token(torch.from_numpy(logits), torch.from_numpy(following))
    logs = log_softmax(logits.astype(float), axis=1)
    np.testing.assert_allclose(got[0], logs[range(7), following], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(got[1], entr(np.exp(logs)).sum(1), rtol=1e-5, atol=2e-6)


def test_a_word_that_is_ruled_out_has_no_share():
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    chance, entropy = load_reductions().next_token(logits, torch.tensor([0]))
    assert chance.item() == pytest.approx(-np.log(2))
    assert entropy.item() == pytest.approx(np.log(2))


@pytest.mark.parametrize("word", [-1, 5])
def test_a_word_outside_the_vocabulary_is_refused(word):
    with pytest.raises(IndexError, match="is not one of 5"):
        load_reductions().next_token(torch.zeros(1, 5), torch.tensor([word]))


@pytest.mark.parametrize("size", [1, 7, 8, 50])
def test_norms_are_those_of_torch(size):
    values = torch.randn(2, 3, 5, size).transpose(1, 2)
    torch.testing.assert_close(norms(values), values.norm(dim=-1))
    assert norms(torch.full((1, 1, 1, 4), 1e30)).item() == pytest.approx(2e30)


@pytest.fixture(params=["portable", "avx2", "avx512"])
def narrow(request):
    """The function of every set of instructions that this processor has."""
    capability = torch.backends.cpu.get_cpu_capability().lower()
    has = {"avx2": ("avx2", "avx512"), "avx512": ("avx512",)}
    if not capability.startswith(has.get(request.param, "")):
        pytest.skip(f"this processor has no {request.param}")
    return Reductions(ctypes.CDLL(str(built(REDUCTIONS))), request.param).narrow


def assert_same_halves(got, values):
    """Bits are those of torch; of what is no number there are several, and any will do."""
    expected = values.half()
    numbers = ~expected.isnan()
    assert got.view(torch.int16)[numbers].equal(expected.view(torch.int16)[numbers])
    assert got.isnan().equal(~numbers)


def all_halves():
    return torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.float16).float()


def between_halves():
    """The middle of every two neighbours, where ties are, and the numbers beside it."""
    positive = torch.arange(0x7C00, dtype=torch.int16).view(torch.float16).float()
    middle = (positive + torch.cat([positive[1:], torch.tensor([65536.0])])) / 2
    beside = [middle.nextafter(torch.tensor(to)) for to in (0.0, torch.inf)]
    found = torch.cat([middle, *beside])
    return torch.cat([found, -found])


def any_bits():
    """Of single precision: the ends of the range, its subnormal numbers, and a million others."""
    ends = [1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FFFFFFF]
    drawn = np.random.default_rng(0).integers(0, 2**31, 2**20)
    bits = np.concatenate([ends, drawn]).astype(np.uint32)
    return torch.from_numpy(np.concatenate([bits, bits | 2**31]).astype(np.uint32).view(np.float32))


@pytest.mark.parametrize("made", [all_halves, between_halves, any_bits])
def test_halves_are_those_of_torch(made, narrow):
    values = made()
    out = torch.empty(1, len(values), dtype=torch.float16)
    assert narrow(values.view(1, 1, -1), [1], out) == bool(values.half().isfinite().all())
    assert_same_halves(out[0], values)


@pytest.mark.parametrize("features", [1, 3, 4, 8, 15, 16, 17, 100])
@pytest.mark.parametrize("lengths", [[7, 7, 7], [7, 0, 4], [0, 0, 0]])
def test_halves_of_rows_lie_one_after_another_without_padding(features, lengths, narrow):
    values = torch.randn(7, 3, features + 2).transpose(0, 1)[..., 1:-1]  # (batch, tokens, features)
    for row, length in zip(values, lengths, strict=True):
        row[length:] = torch.inf
    whole = torch.full((sum(lengths), features + 3), 7.0).half()
    assert narrow(values, lengths, whole[:, 2:-1])
    real = torch.cat([row[:length] for row, length in zip(values, lengths, strict=True)])
    assert whole[:, 2:-1].equal(real.half())
    assert (whole[:, [0, 1, -1]] == 7).all()


@pytest.mark.parametrize("feature", [0, 5, 31, 32, 36])  # in a register, in the rest
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan, 65520.0, -1e30])
def test_narrowing_tells_whether_all_is_finite(feature, value, narrow):
    values, out = torch.full((2, 3, 37), 65519.0), torch.empty(5, 37).half()
    assert narrow(values, [3, 2], out)
    values[1, 1, feature] = value
    assert not narrow(values, [3, 2], out)


@pytest.mark.parametrize("lengths", [[2, 2], [2, 4], [3], [1, 1, 3]])
def test_halves_that_have_no_place_are_refused(lengths):
    with pytest.raises(ValueError, match=r"tokens of \(2, 3, 4\) do not go to \(5, 4\)"):
        load_reductions().narrow(torch.zeros(2, 3, 4), lengths, torch.zeros(5, 4).half())


def test_half_precision_is_left_to_torch():
    values = torch.randn(2, 3, 4, 8).bfloat16()
    assert norms(values).equal(values.float().norm(dim=-1))
    assert value_norms(Attention(*[values] * 3, None, True, 1.0, None, None)).shape == (2, 4, 3)


def test_bits_do_not_depend_on_threads():
    call, found = drawn_attention(4, 2, 33, 0, 16)
    values, masks = torch.randn(5, 33, 70), phases(5, 33)
    logits, following = torch.randn(33, 500), torch.randint(0, 500, (33,))

    def everything():
        chances = load_reductions().next_token(logits, following)
        halves = torch.empty(5 * 33, 70).half()
        load_reductions().narrow(values, [33] * 5, halves)
        summaries = summarise(call, found).values()
        return [pool(values, masks), *summaries, *chances, norms(call.query), halves]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = everything()
        torch.set_num_threads(3)
        together = everything()
    finally:
        torch.set_num_threads(before)
    for one, other in zip(alone, together, strict=True):
        assert one.nan_to_num(-1).equal(other.nan_to_num(-1))


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_every_set_of_instructions_gives_the_same(capability):
    environment = os.environ | {"ATEN_CPU_CAPABILITY": capability}
    command = [sys.executable, "-c", COMPARE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if done.stdout.strip().lower() != capability:
        pytest.skip(f"this processor has no {capability}")


def test_no_compiler_warns_once_and_leaves_it_to_torch(monkeypatch, tmp_path):
    values, masks = torch.randn(2, 9, 20), phases(2, 9)
    expected = pool(values, masks)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    load_reductions.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=r"no C\+\+ compiler .* Recording reduces by torch"):
            got = pool(values, masks)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pool(values, masks)
    finally:
        load_reductions.cache_clear()
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-5, equal_nan=True)
