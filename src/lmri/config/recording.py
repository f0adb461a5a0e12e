"""Contradictions within the options of a recording, and with what a study claims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmri.config.study import StudyConfig


def record_problems(study: StudyConfig) -> Iterator[str]:
    """Find contradictions in the section ``record``.

    Parameters
    ----------
    study : StudyConfig
        Sections that fit the schema.

    Yields
    ------
    str
        One line: the key, what was got, what is allowed.
    """
    record = study.record
    for name in record.full:
        if name not in record.quantities:
            yield (
                f"'record.full' must name quantities that are recorded. Got '{name}', which is not "
                "in 'record.quantities'."
            )
    if record.repeats > 1 and not record.temperature:
        yield (
            "'record.repeats' must be 1 where 'record.temperature' is 0: every repeat would be the "
            f"same. Got {record.repeats}."
        )
    if not record.next_token and (reader := _reader_of_surprisal(study)):
        yield (
            "'record.next_token' must be true for the surprisal of tokens, which "
            f"'{reader}' reads. Got false."
        )
    if record.without is not None and study.hypotheses:
        yield (
            "'record.without' must be left out of a study with a hypothesis: its maps would be of "
            "another subject than its claims. Make the contrasts exploratory."
        )


def _reader_of_surprisal(study: StudyConfig) -> str:
    if study.localise.confounds:
        return "localise.confounds"
    return "encode.tasks" if study.encoded_tasks else ""
