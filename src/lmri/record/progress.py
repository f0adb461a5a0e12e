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
        Tokens in all; where responses are still to be generated, the most there can be.
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

    def spare(self, tokens: int) -> None:
        """Take back tokens that were reckoned with: responses ended before their limit.

        Parameters
        ----------
        tokens : int
            How many will not come.
        """
        self._bar.total -= tokens

    def advance(self, trials: int, tokens: int, total_bytes: int = 0) -> None:
        """Count finished trials and tokens.

        Parameters
        ----------
        trials, tokens : int
            How many more are done.
        total_bytes : int
            Bytes of values so far; 0 where none are kept.
        """
        self._done += trials
        self._tokens += tokens
        self._bytes = total_bytes
        kept = f", {total_bytes / 1e6:.1f} MB" if total_bytes else ""
        self._bar.set_postfix_str(f"{self._done}/{self._trials} trials{kept}", refresh=False)
        self._bar.update(tokens)

    def close(self) -> None:
        """End the bar, or write the line."""
        self._bar.close()
        if self._quiet:
            seconds = max(time.monotonic() - self._started, 1e-9)
            kept = f", {self._bytes / 1e6:.1f} MB of values" if self._bytes else ""
            print(
                f"{self._label}: {self._done} trials, {self._tokens} tokens in {seconds:.1f} s "
                f"({self._tokens / seconds:.0f} tokens/s){kept}",
                file=sys.stderr,
            )
