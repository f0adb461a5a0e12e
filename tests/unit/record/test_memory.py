"""Freed memory stays with the process."""

import ctypes

import pytest

from lmri.record import memory


@pytest.fixture
def library(monkeypatch):
    """A C library that writes down what it is asked for, in place of the real one."""
    asked = []

    class Library:
        def mallopt(self, name, value):
            asked.append((name, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    return asked


def test_the_c_library_is_asked_to_keep_memory(library, monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert memory.keep_freed_memory()
    assert dict(library) == {
        memory.MMAP_THRESHOLD: memory.KEPT_BELOW,
        memory.TRIM_THRESHOLD: memory.LARGEST_TRIM,
    }


def test_other_systems_are_left_alone(library, monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not memory.keep_freed_memory()
    assert library == []


def test_a_c_library_without_the_call_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed_memory()
