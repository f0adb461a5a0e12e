"""The one error family of the package.

Everything a user can cause (a wrong key, a missing column, a damaged file) raises
:class:`LmriError` or a subclass; the command line prints its message on one line, without a
traceback, and exits with a code that is not 0. Any other exception is a defect of the package.
"""


class LmriError(Exception):
    """A problem the user can act on: names what, whose, what was got and what is allowed."""


class ConfigError(LmriError):
    """A study configuration that cannot be used."""


class StimuliError(LmriError):
    """A stimuli table that cannot be used."""


class SubjectError(LmriError):
    """A subject that is missing, unsafe to load, damaged, or of an unknown architecture."""


class StoreError(LmriError):
    """A file of a study that is missing, damaged, unfinished, or changed after it was written."""


class AlteredError(StoreError):
    """A file of a study that was changed after it was written."""


class EvidenceError(LmriError):
    """A test that the rules of evidence refuse to run (too few trials, leaked splits)."""


class BuildError(LmriError):
    """A library of C++ that cannot be built here: what needs it does without."""


class SparseError(LmriError):
    """A sparse product or plan that cannot be run."""


class ScoreError(LmriError):
    """A scorer, saved responses or labels that cannot be used."""
