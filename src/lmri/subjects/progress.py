"""Progress of a long loop: a bar on a terminal, a line every 10 % elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm
from transformers.utils import logging as library_logging

__all__ = ["Progress", "quiet_library"]


class Progress:
    """Report the progress of training on stderr.

    Parameters
    ----------
    label : str
        What is being trained.
    steps : int
        Steps in all.
    tokens_per_step : int
        For the rate.
    first : int
        Steps already done when resumed.
    """

    def __init__(self, label: str, steps: int, tokens_per_step: int, first: int = 0) -> None:
        self._label = label
        self._steps = steps
        self._tokens = tokens_per_step
        self._first = first
        self._start = time.monotonic()
        self._bar = (
            tqdm(total=steps, initial=first, desc=label, unit="step", file=sys.stderr)
            if sys.stderr.isatty()
            else None
        )

    def update(self, step: int, loss: float) -> None:
        """Report that a step is done.

        Parameters
        ----------
        step : int
            Steps done so far, in all.
        loss : float
            Loss of the text, in nats per weighted token.
        """
        seconds = max(time.monotonic() - self._start, 1e-9)
        done = step - self._first
        rate = done * self._tokens / seconds
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.3f}, {rate / 1000:.1f}k tokens/s")
            self._bar.update(1)
        elif step == self._steps or step * 10 // self._steps > (step - 1) * 10 // self._steps:
            left = seconds / done * (self._steps - step)
            print(
                f"{self._label}: step {step}/{self._steps}, loss {loss:.3f}, "
                f"{rate / 1000:.1f}k tokens/s, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def quiet_library() -> Iterator[None]:
    """Silence the model library's own bars for loading and saving, then restore them."""
    enabled = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            library_logging.enable_progress_bar()
