"""Processes that measure themselves when they are told to, so that several can take turns."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from types import TracebackType

SECONDS_TO_END = 60


class SideError(Exception):
    """A side ended before it had answered; the message is the last line that it said."""


class Side:
    """A process that answers every line of its input with a line of JSON.

    Parameters
    ----------
    command : sequence of str
        What is run.
    environment : mapping of str to str
        Its environment variables.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (see __exit__)
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # It ends with its input, and tidies up.
        try:
            self._process.communicate(timeout=SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._said.close()

    def measure(self) -> dict:
        """Have the process measure once.

        Returns
        -------
        dict
            Its answer.

        Raises
        ------
        SideError
            If it ends instead.
        """
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it said on its way out is read below
        for line in self._process.stdout:
            if line.startswith("{"):  # libraries print what they like
                return json.loads(line)
        self._process.wait()
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()
        raise SideError(lines[-1] if lines else f"exit code {self._process.returncode}")
