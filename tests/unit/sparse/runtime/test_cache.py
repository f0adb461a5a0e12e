"""A cache that grows in place holds what that of transformers holds."""

import copy
import gc
from weakref import ref

import pytest
import torch
from sparse_products import random
from transformers import DynamicCache, LlamaConfig, StaticCache
from transformers.cache_utils import DynamicLayer

from lmri.sparse.kernels import backend
from lmri.sparse.kernels.cpu import Cpu
from lmri.sparse.runtime.cache import LEAST_ROOM, CacheBuffers


@pytest.fixture
def buffers():
    return CacheBuffers(backend("cpu"))


def new(seed, count=1, batch=2, dtype=torch.float32):
    """Keys and values, of sizes that differ."""
    return [random(batch, 3, count, n, seed=seed + n, dtype=dtype) for n in (4, 6)]


def prompted(cache, layers=2, **settings):
    for index in range(layers):
        cache.update(*new(100 + index, 5, **settings), index)
    return cache


def assert_same(got, expected):
    for one, other in zip(got.layers, expected.layers, strict=True):
        assert one.keys.equal(other.keys) and one.values.equal(other.values)
    assert got.get_seq_length() == expected.get_seq_length()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 3])
@torch.inference_mode()
def test_it_holds_what_it_was_given_beyond_its_room(buffers, dtype, count):
    cache, expected = (prompted(DynamicCache(), dtype=dtype) for _ in range(2))
    seen, addresses = [], set()
    for step in range(2 * LEAST_ROOM):
        for index in range(2):
            given = new(7 * step + index, count, dtype=dtype)
            got = buffers.update(cache, *given, index)
            held = expected.update(*given, index)
            assert all(one.equal(other) for one, other in zip(got, held, strict=True))
        seen.append((got, held))
        addresses.add(got[0].data_ptr())
    assert_same(cache, expected)
    assert 2 < len(addresses) <= 2 * count + 3  # moved when it was full, and not for every token
    for got, held in seen:  # those handed out before
        assert got[0].equal(held[0]) and got[1].equal(held[1])


def cropped(cache):
    cache.crop(-2)
    return cache


def reordered(cache):
    cache.batch_select_indices(torch.tensor([1, 1]))
    return cache


def set_by_hand(cache):
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys * 2, layer.values - 1
    return cache


def values_set_by_hand(cache):
    for layer in cache.layers:
        layer.values = 3 * layer.values
    return cache


def cropped_to_nothing(cache):
    cache.crop(-cache.get_seq_length())
    return cache


def begun_again(cache):
    cache.reset()
    return prompted(cache)


def told_more(cache):
    """As a second prompt does."""
    for index in range(2):
        cache.update(*new(50 + index, 7), index)
    return cache


def of_the_same_layers(cache):
    other = copy.copy(cache)
    other.layers = [copy.copy(layer) for layer in cache.layers]
    for index in range(2):
        cache.update(*new(60 + index), index)  # which the other must not see
    return other


def one_of_two(cache):
    """The other goes on by itself, from tensors they share."""
    other = DynamicCache()
    for layer in cache.layers:
        other.layers.append(DynamicLayer())
        other.layers[-1].lazy_initialization(layer.keys, layer.values)
        other.layers[-1].keys, other.layers[-1].values = layer.keys, layer.values
    cache.other = other
    return cache


CHANGES = [cropped, cropped_to_nothing, reordered, set_by_hand, values_set_by_hand, begun_again]
CHANGES += [told_more, of_the_same_layers, copy.deepcopy]


@pytest.mark.parametrize("change", CHANGES)
@torch.inference_mode()
def test_changes_of_a_cache_stay(buffers, change):
    cache, expected = (prompted(DynamicCache()) for _ in range(2))
    for step in range(9):
        if step == 4:
            cache, expected = change(cache), change(expected)
        for index in range(2):
            given = new(step)
            buffers.update(cache, *given, index)
            expected.update(*given, index)
    assert_same(cache, expected)


@torch.inference_mode()
def test_caches_that_share_tensors_go_their_own_ways(buffers):
    cache, expected = (prompted(DynamicCache()) for _ in range(2))
    for made in (cache, expected):
        buffers.update(made, *new(1), 0) if made is cache else made.update(*new(1), 0)
        one_of_two(made)
    for seed, names in ((2, "cache"), (3, "other"), (4, "cache"), (5, "other")):
        one, two = (made if names == "cache" else made.other for made in (cache, expected))
        buffers.update(one, *new(seed), 0)
        two.update(*new(seed), 0)
    assert_same(cache, expected)
    assert_same(cache.other, expected.other)


OTHERS = ["gradients", "own class", "own layer", "own update", "own update of layers", "static"]


@pytest.mark.parametrize("kind", [*OTHERS, "own update of this one"])
def test_other_caches_are_updated_by_their_own_code(buffers, kind, monkeypatch):
    class Own(DynamicCache):
        pass

    class Layer(DynamicLayer):
        pass

    cache = Own() if kind == "own class" else DynamicCache()
    if kind == "static":
        config = LlamaConfig(num_hidden_layers=2, num_attention_heads=3, hidden_size=12)
        cache = StaticCache(config=config, max_cache_len=20)
    if kind == "own layer":
        cache.layer_class_to_replicate = Layer
    if kind == "own update of this one":
        cache.update = lambda *given: DynamicCache.update(cache, *given)
    with torch.set_grad_enabled(kind == "gradients"):
        keys = new(1, 5)[0]
        for index in range(2):
            cache.update(keys, keys, index)
        if kind.startswith("own update") and kind != "own update of this one":
            owner = DynamicLayer if kind == "own update of layers" else DynamicCache
            own = owner.update
            monkeypatch.setattr(owner, "update", lambda self, *given: own(self, *given))
        more = new(2)[0]
        got = buffers.update(cache, more, more, 1)
    assert not buffers._buffers
    assert got[0][:, :, 5:6].equal(more) and got[0][:, :, :5].equal(keys)


@torch.no_grad()
def test_layers_that_hold_nothing_begin_by_their_own_code(buffers):
    cache = DynamicCache(config=LlamaConfig(num_hidden_layers=2))
    cache.early_initialization(2, 3, 4, torch.float32, torch.device("cpu"))
    keys = new(1)[0]
    for _ in range(3):
        for index in range(2):
            got = buffers.update(cache, keys, keys, index)
    assert len(buffers._buffers) == 2 and got[0].equal(keys.expand(2, 3, 1, 4).repeat(1, 1, 3, 1))


@torch.inference_mode()
def test_caches_that_are_reordered_for_every_token_are_not_copied_twice(buffers, monkeypatch):
    called = []
    monkeypatch.setattr(Cpu, "append", lambda self, *given: called.append(None))
    cache = prompted(DynamicCache())
    for step in range(4):
        for index in range(2):
            buffers.update(cache, *new(step), index)
        reordered(cache)
    assert not called and cache.get_seq_length() == 9


def test_memory_of_inference_is_not_written_outside_of_it(buffers):
    cache, expected = (prompted(DynamicCache()) for _ in range(2))
    for step in range(6):
        mode = torch.inference_mode() if step in (1, 2, 5) else torch.no_grad()
        with mode:
            buffers.update(cache, *new(step), 0)
            expected.update(*new(step), 0)
    assert_same(cache, expected)


@torch.no_grad()
def test_tokens_of_another_kind_are_refused_as_ever_and_change_nothing(buffers):
    cache, expected = (prompted(DynamicCache()) for _ in range(2))
    for seed in (1, 4):
        for made in (buffers.update(cache, *new(seed), 0), expected.update(*new(seed), 0)):
            assert made[0].shape[2] == 5 + (1 if seed == 1 else 2)
    for wrong in (new(2, batch=1), [random(2, 3, 1, 5), random(2, 3, 1, 6)]):
        with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
            buffers.update(cache, *wrong, 0)
    assert_same(cache, expected)
    doubled = [x.double() for x in new(3)]  # torch makes all of them double
    got, held = buffers.update(cache, *doubled, 0), expected.update(*doubled, 0)
    assert got[0].dtype is held[0].dtype is torch.float64
    assert_same(cache, expected)


@torch.no_grad()
def test_what_a_layer_holds_is_not_kept_before_there_is_room(buffers):
    cache = prompted(DynamicCache())
    keys = ref(buffers.update(cache, *new(1), 0)[0])
    assert keys() is not None
    cache.reset()
    gc.collect()
    assert keys() is None


@torch.no_grad()
def test_memory_goes_with_the_cache(buffers):
    cache = prompted(DynamicCache())
    buffers.update(cache, *new(1), 0)
    assert len(buffers._buffers) == 1
    del cache
    gc.collect()
    assert not buffers._buffers
