"""Work done by background threads, begun in order, with a bound on the bytes that wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """Threads that do what is submitted, begun in the order in which it is submitted.

    Parameters
    ----------
    limit : int
        Bytes that may wait or be worked on; a submission beyond them blocks until there is room. A
        single larger one is taken when there is nothing else.
    name : str
        What the names of the threads begin with.
    threads : int
        How many; with one, work is also finished in order.
    """

    def __init__(self, limit: int, name: str, threads: int = 1) -> None:
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        self._waiting: deque[tuple[Future, int]] = deque()
        self._bytes = 0
        self._limit = limit
        self._error: BaseException | None = None

    def submit(self, size: int, function: Callable[..., object], *arguments: object) -> None:
        """Add work.

        Parameters
        ----------
        size : int
            Bytes the arguments hold.
        function : callable
            What to do.
        *arguments
            Its arguments; they must not change until it is done.

        Raises
        ------
        BaseException
            What earlier work raised, unchanged.
        """
        while self._waiting and (self._waiting[0][0].done() or self._bytes + size > self._limit):
            self._settle()
        self._raise()
        self._waiting.append((self._executor.submit(function, *arguments), size))
        self._bytes += size

    def close(self) -> None:
        """Finish all work and end the threads.

        Raises
        ------
        BaseException
            What any work raised, unchanged.
        """
        try:
            while self._waiting:
                self._settle()
        finally:
            self.abort()
        self._raise()

    def abort(self) -> None:
        """Drop the work that has not begun, and end the threads."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()

    def _settle(self) -> None:
        """Wait for the oldest work."""
        future, size = self._waiting[0]
        self._error = self._error or future.exception()
        self._waiting.popleft()
        self._bytes -= size

    def _raise(self) -> None:
        if self._error is not None:
            self.abort()
            raise self._error
