"""What a study asks of the trials of a task."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lmri.checks import check_columns
from lmri.config import InformationOptions
from lmri.errors import EvidenceError
from lmri.information.question import Question
from lmri.store import Recording


def questions_of(
    task: str,
    recordings: Sequence[Recording],
    carriers: Sequence[str],
    options: InformationOptions,
) -> list[Question]:
    """Say what is asked of a task: what the study asks, or else what its trials suggest.

    Parameters
    ----------
    task : str
        The task.
    recordings : sequence of Recording
        Its shards.
    carriers : sequence of str
        Its carriers; empty, all that its trials have.
    options : InformationOptions
        Questions of the study; those of other tasks are left aside.

    Returns
    -------
    list of Question
        By default the condition, and the class of each carrier where there are several.

    Raises
    ------
    EvidenceError
        If a question names a column that the trials do not have.
    """
    table = pd.concat([own.trials for own in recordings], ignore_index=True)
    if options.questions:
        asked = [own for own in options.questions if own.task == task]
        for own in asked:
            wanted = [own.target, *(f"carrier_{name}" for name in own.carriers)]
            check_columns(table.columns, wanted, f"of the trials of '{task}'", EvidenceError)
        return [Question(own.target, own.carriers, own.scheme) for own in asked]
    # Sorted: columns of a store are in no order.
    named = carriers or sorted(
        str(name).removeprefix("carrier_") for name in table if str(name).startswith("carrier_")
    )
    found = [_about_conditions(table, list(named))]
    for name in named:
        if f"class_{name}" in table and table[f"class_{name}"].nunique() > 1:
            found.append(Question(f"class_{name}", (name,)))
    return found


def _about_conditions(table: pd.DataFrame, carriers: list[str]) -> Question:
    """Ask about the condition, and exchange what carries it."""
    for name in carriers:
        if (table.groupby(f"carrier_{name}")["condition"].nunique() == 1).all():
            return Question("condition", (name,))
    if len(carriers) > 1 and all(f"class_{name}" in table for name in carriers):
        return Question("condition", tuple(carriers))
    if carriers:
        return Question("condition", (carriers[0],), "within")
    return Question("condition", (), "trials")
