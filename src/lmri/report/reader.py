"""Reading files of a study one by one: what cannot be read becomes a problem, no failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lmri.errors import AlteredError, LmriError

Content = TypeVar("Content")


@dataclass(frozen=True)
class Problem:
    """Something that is missing or wrong.

    Attributes
    ----------
    level : str
        ``error`` (something is missing) or ``warning`` (there, but to be read with care).
    subject : str
        Whose; ``study`` when it concerns all.
    path : str
        The file, relative to the folder of the study.
    message : str
        What was found.
    """

    level: str
    subject: str
    path: str
    message: str


class Reader:
    """Reads files below a study and remembers what could not be read.

    Parameters
    ----------
    study : Path
        Folder of the study.

    Attributes
    ----------
    problems : list of Problem
        What was missing or wrong.
    altered : list of AlteredError
        Those of them that somebody caused.
    """

    def __init__(self, study: Path) -> None:
        self.study = study
        self.problems: list[Problem] = []
        self.altered: list[AlteredError] = []

    def read(
        self,
        subject: str,
        path: str,
        how: Callable[[Path], Content],
        otherwise: Content,
        level: str = "error",
    ) -> Content:
        """Read a file, or note why not.

        Parameters
        ----------
        subject, path : str
            Whose file; where it is, relative to the study.
        how : callable
            Reads a path; raises an :class:`LmriError` where it cannot.
        otherwise : Content
            What stands in for it.
        level : str
            Of the problem.

        Returns
        -------
        Content
            What was read, or ``otherwise``.
        """
        try:
            return how(self.study / path)
        except LmriError as error:
            self.note(subject, path, str(error), level)
            if isinstance(error, AlteredError):
                self.altered.append(error)
            return otherwise

    def note(self, subject: str, path: str, message: str, level: str = "error") -> None:
        """Note a problem: whose, in which file, what was found."""
        # Messages begin with the path on this machine, which is nobody else's business.
        message = message.replace(f"{self.study / path}: ", "").replace(f"{self.study}/", "")
        problem = Problem(level, subject, path, message)
        # A file may be read for more than one section.
        if problem not in self.problems:
            self.problems.append(problem)
