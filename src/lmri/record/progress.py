"""Progress in trials, tokens, bytes and time: a bar on a terminal, one line in a log."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm


class Progress:
    """A progress bar with trials, tokens per second, bytes and time left.

    Where there is no terminal nothing is drawn; the end is told in one line.

    Parameters
    ----------
    label : str
        What is running.
    trials : int
        Trials in all.
    tokens : int
        Tokens in all.
    """

    def __init__(self, label: str, trials: int, tokens: int) -> None:
        self._label = label
        self._trials = trials
        self._done = 0
        self._bytes = 0
        self._tokens = 0
        self._started = time.monotonic()
        self._quiet = not sys.stderr.isatty()
        self._bar = tqdm(
            total=tokens, desc=label, unit="token", unit_scale=True, disable=self._quiet
        )

    def advance(self, trials: int, tokens: int, total_bytes: int) -> None:
        """Count finished trials and tokens.

        Parameters
        ----------
        trials, tokens : int
            How many more are done.
        total_bytes : int
            Bytes of values so far.
        """
        self._done += trials
        self._tokens += tokens
        self._bytes = total_bytes
        self._bar.set_postfix_str(
            f"{self._done}/{self._trials} trials, {total_bytes / 1e6:.0f} MB", refresh=False
        )
        self._bar.update(tokens)

    def close(self) -> None:
        """End the bar, or write the line."""
        self._bar.close()
        if self._quiet:
            seconds = max(time.monotonic() - self._started, 1e-9)
            print(
                f"{self._label}: {self._done} trials, {self._tokens} tokens in {seconds:.1f} s "
                f"({self._tokens / seconds:.0f} tokens/s), {self._bytes / 1e6:.1f} MB of values",
                file=sys.stderr,
            )
