"""Freed memory goes back where the C library can do so, and nothing happens elsewhere."""

import sys

import pytest
import torch

from lmri.record import memory
from lmri.record.memory import give_back_freed_memory


def resident():
    """Memory of this process in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_holes_between_living_tensors_are_given_back():
    give_back_freed_memory()
    # Small enough to lie in the heap, one in two freed: what is left keeps the heap from shrinking.
    tensors = [torch.ones(20_000) for _ in range(4000)]
    held = resident()
    kept = tensors[::2]
    del tensors
    assert give_back_freed_memory()
    assert held - resident() > 0.4 * len(kept) * 80_000


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_another_system_is_left_alone(platform, monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", platform)
    assert not give_back_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert not give_back_freed_memory()
