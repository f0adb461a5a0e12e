"""Freed memory is kept or goes back where the C library can do so; elsewhere nothing happens."""

import subprocess
import sys

import pytest
import torch

from lmri.record import memory
from lmri.record.memory import give_back_freed_memory, keep_freed_memory


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


FAULTS = """
import resource, sys
import torch
from lmri.record.memory import keep_freed_memory

assert sys.argv[1] == "default" or keep_freed_memory()
for step in range(30):
    if step == 20:  # small pieces come to lie where a large one was, until there is room for both
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(12 * 2**20)  # 48 MiB: more than the largest threshold the library sets by itself
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts faults of pages")
def test_memory_that_is_kept_is_not_asked_for_again():
    """In processes of their own: it cannot be taken back."""

    def faults(how):
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    assert faults("kept") < faults("default") / 4


@pytest.mark.parametrize("platform", ["darwin", "win32"])
@pytest.mark.parametrize("function", [give_back_freed_memory, keep_freed_memory])
def test_another_system_is_left_alone(function, platform, monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", platform)
    assert not function()


@pytest.mark.parametrize("function", [give_back_freed_memory, keep_freed_memory])
def test_another_c_library_is_left_alone(function, monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert not function()
