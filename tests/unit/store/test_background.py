"""Threads, in order, with a bound on what waits."""

import threading

import pytest

from lmri.store.background import Background


@pytest.fixture
def background():
    """A thread with room for 100 bytes; afterwards none may be left."""
    made = Background(100, "lmri-test")
    yield made
    made.abort()
    assert not [t for t in threading.enumerate() if t.name.startswith("lmri-test")]


def fail():
    raise ZeroDivisionError("broken")


def test_work_is_done_in_order_in_one_other_thread(background):
    done = []
    for i in range(100):
        background.submit(10, lambda i=i: done.append((i, threading.current_thread().name)))
    background.close()
    assert [i for i, _ in done] == list(range(100))
    assert len({name for _, name in done} - {threading.current_thread().name}) == 1


def test_a_submission_waits_for_room(background):
    gate, done = threading.Event(), []
    background.submit(60, gate.wait)
    background.submit(40, done.append, "fits")
    third = threading.Thread(target=background.submit, args=(1, done.append, "had to wait"))
    third.start()
    third.join(0.2)
    assert third.is_alive()
    gate.set()
    third.join()
    background.close()
    assert done == ["fits", "had to wait"]


def test_a_submission_larger_than_the_room_is_taken_alone(background):
    done = []
    for size in (1000, 1000):
        background.submit(size, done.append, size)
    background.close()
    assert done == [1000, 1000]


def test_the_first_error_is_raised_unchanged_from_then_on(background):
    background.submit(100, fail)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="broken"):
            background.submit(100, fail)
    with pytest.raises(ZeroDivisionError, match="broken"):
        background.close()


def test_several_threads_work_side_by_side():
    background = Background(100, "lmri-test", threads=3)
    together = threading.Barrier(3)
    for _ in range(3):
        background.submit(10, together.wait, 10)  # breaks unless three wait at a time
    background.close()
    assert not together.broken


def test_of_several_errors_that_of_the_first_work_is_raised():
    background = Background(100, "lmri-test", threads=2)
    later = threading.Event()

    def fail_later():
        later.wait(10)
        raise ZeroDivisionError("first")

    def fail_at_once():
        later.set()
        raise OverflowError("second")

    background.submit(10, fail_later)
    background.submit(10, fail_at_once)
    with pytest.raises(ZeroDivisionError, match="first"):
        background.close()


def test_abort_drops_what_has_not_begun(background):
    begun, gate, done = threading.Event(), threading.Event(), []
    background.submit(10, lambda: (begun.set(), gate.wait()))
    background.submit(10, done.append, "never")
    assert begun.wait(10)
    threading.Timer(0.1, gate.set).start()  # abort waits for what has begun
    background.abort()
    assert done == []


def test_closing_without_work_is_fine(background):
    background.close()
    background.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        background.submit(1, fail)
