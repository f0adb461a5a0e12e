"""A user's own scorer: a function that is named as ``package.module:function``.

Importing runs code, so nothing is imported that the user did not name: the package must be an
installed one, or lie in a folder that was named with it. The working directory is no such folder.
The function is called as ``function(answer, trial)`` with the answer as text and the trial as a
mapping of its columns (never the arm or its draw), and gives a number within the range that was
named, or None where the score does not apply.
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lmri.checks import shortened
from lmri.errors import ScoreError

NAME = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<function>[A-Za-z_]\w*)")

Function = Callable[[str, Mapping[str, Any]], float | None]


@dataclass(frozen=True)
class Custom:
    """A user's scorer.

    Attributes
    ----------
    name : str
        What its scores are called.
    function : str
        ``package.module:function``.
    low, high : float
        Range of the scores; may be infinite.
    folder : Path or None
        Where the package lies; None for an installed one.
    """

    name: str
    function: str
    low: float = -math.inf
    high: float = math.inf
    folder: Path | None = None

    def load(self) -> Function:
        """Import the function and check how it can be called.

        Returns
        -------
        callable
            The function.

        Raises
        ------
        ScoreError
            If the name is none, the package is neither installed nor in the folder, it cannot be
            imported, or has no such function of two arguments: one line.
        """
        match = NAME.fullmatch(self.function)
        if match is None:
            raise ScoreError(
                f"The function of scorer '{self.name}' must be 'package.module:function'. "
                f"Got {shortened(self.function)}."
            )
        if not self.low <= self.high:
            raise ScoreError(
                f"The range of scorer '{self.name}' must go up. Got {self.low} to {self.high}."
            )
        module = self._module(match["module"])
        function = getattr(module, match["function"], None)
        if not callable(function):
            raise ScoreError(
                f"The function of scorer '{self.name}' must be one of {match['module']}. "
                f"Got '{match['function']}', which is none."
            )
        try:
            inspect.signature(function).bind("", {})
        except TypeError:
            raise ScoreError(
                f"The function of scorer '{self.name}' must take an answer and a trial. Got "
                f"{self.function}{inspect.signature(function)}."
            ) from None
        return function

    def _module(self, name: str) -> ModuleType:
        top = name.partition(".")[0]
        if self.folder is None and top not in packages_distributions():
            raise ScoreError(
                f"The package of scorer '{self.name}' must be installed. Found no '{top}': install "
                "it, or name the 'folder' that it lies in."
            )
        folder = None if self.folder is None else self.folder.resolve()
        if folder is not None and not folder.is_dir():
            raise ScoreError(f"The folder of scorer '{self.name}' must exist. Got {self.folder}.")
        with _found_in(folder):
            try:
                module = importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - a user's module may raise anything
                reason = f"{type(error).__name__}: {shortened(str(error))}"
                raise ScoreError(
                    f"The module '{name}' of scorer '{self.name}' cannot be imported ({reason})."
                ) from None
        if folder is not None and not _is_within(module, folder):
            raise ScoreError(
                f"The module '{name}' of scorer '{self.name}' must lie in {self.folder}. Got "
                f"another of that name, {module.__file__}: rename it."
            )
        return module

    def score(self, answers: list[str], trials: list[dict[str, Any]]) -> np.ndarray:
        """Score answers one by one.

        Parameters
        ----------
        answers : list of str
            The answers.
        trials : list of dict
            Columns of each one's trial.

        Returns
        -------
        ndarray of shape (n_answers,), float64
            The scores; NaN where the function gave None.

        Raises
        ------
        ScoreError
            If the function raises, or gives what is no number within the range.
        """
        function = self.load()
        found = np.full(len(answers), np.nan)
        for row, (answer, trial) in enumerate(zip(answers, trials, strict=True)):
            try:
                value = function(answer, dict(trial))
            except Exception as error:  # noqa: BLE001 - a user's function may raise anything
                reason = f"{type(error).__name__}: {shortened(str(error))}"
                raise ScoreError(
                    f"Scorer '{self.name}' failed on trial {trial.get('trial', row)!r} ({reason})."
                ) from None
            if value is not None:
                found[row] = self._checked(value, trial.get("trial", row))
        return found

    def _checked(self, value: object, trial: object) -> float:
        is_number = isinstance(value, (Real, np.bool_))
        if not is_number or not self.low <= float(value) <= self.high:
            raise ScoreError(
                f"Scorer '{self.name}' must give a number in [{self.low}, {self.high}], or None. "
                f"Got {shortened(value)} on trial {trial!r}."
            )
        return float(value)


@contextmanager
def _found_in(folder: Path | None) -> Iterator[None]:
    """Look for modules in a folder first."""
    before = list(sys.path)
    if folder is not None:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def _is_within(module: ModuleType, folder: Path) -> bool:
    return module.__file__ is not None and Path(module.__file__).resolve().is_relative_to(folder)
