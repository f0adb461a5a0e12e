"""Progress in trials and tokens: a bar on a terminal, nothing in a log."""

from __future__ import annotations

import sys

from tqdm import tqdm


class Progress:
    """A progress bar with trials, tokens per second and time left.

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
        self._bar = tqdm(
            total=tokens,
            desc=label,
            unit="token",
            disable=not sys.stderr.isatty(),
            postfix={"trials": trials},
        )

    def advance(self, trials: int, tokens: int) -> None:
        """Count finished trials and tokens."""
        self._bar.update(tokens)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()
