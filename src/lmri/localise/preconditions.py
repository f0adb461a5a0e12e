"""What the tables of stimuli must offer to a contrast; told before anything is recorded."""

from __future__ import annotations

from itertools import combinations

import pandas as pd

from lmri.checks import check_choice
from lmri.config import ConditionOptions, ContrastOptions
from lmri.errors import EvidenceError

CARRIER = "carrier_"


def check_conditions(stimuli: dict[str, pd.DataFrame], contrast: ContrastOptions) -> None:
    """Check that the null condition, the bystanders and the transfer are in the tables.

    Parameters
    ----------
    stimuli : dict of str to DataFrame
        Stimuli of every task.
    contrast : ContrastOptions
        The contrast; its target and controls are checked with its design.

    Raises
    ------
    EvidenceError
        Naming the key of the study, the condition and those of the table.
    """
    places = {f"bystanders.{i}": place for i, place in enumerate(contrast.bystanders)}
    places["transfer"] = contrast.transfer
    places["null_condition"] = ConditionOptions(contrast.task, contrast.null_condition)
    for key, place in places.items():
        if place is None or place.condition is None:
            continue
        check_choice(
            place.condition,
            set(stimuli[place.task]["condition"]),
            "condition",
            f"'contrasts.{contrast.name}.{key}' (task '{place.task}')",
            EvidenceError,
        )


def check_separation(stimuli: dict[str, pd.DataFrame], contrast: ContrastOptions) -> None:
    """Check that no carrier is evaluated in one task and selected or tuned on in another.

    Splits are drawn per task, so tasks that share only some of their entities, or have other
    shares, may put one entity in different splits (``lmri.stimuli.splits``).

    Parameters
    ----------
    stimuli : dict of str to DataFrame
        Stimuli of every task.
    contrast : ContrastOptions
        The contrast: its own task and those of its bystanders and transfer are compared.

    Raises
    ------
    EvidenceError
        Naming both tasks, the carrier and one of its values.
    """
    places = [*contrast.bystanders, *([contrast.transfer] if contrast.transfer else [])]
    used = dict.fromkeys([contrast.task, *(place.task for place in places)])
    for first, second in combinations(used, 2):
        for carrier in _carriers(stimuli[first]):
            if carrier not in _carriers(stimuli[second]):
                continue
            for seen, unseen in ((first, second), (second, first)):
                shared = _values(stimuli[seen], carrier, evaluation=False)
                shared &= _values(stimuli[unseen], carrier, evaluation=True)
                if shared:
                    raise EvidenceError(
                        f"'contrasts.{contrast.name}' would leak: {min(shared)!r} of the carrier "
                        f"'{carrier}' is selected or calibrated on in the task '{seen}' and "
                        f"evaluated in the task '{unseen}'. Give both tables the same entities, "
                        "classes and 'splits', or give the carrier another name in one of them if "
                        "they have nothing in common."
                    )


def _carriers(table: pd.DataFrame) -> list[str]:
    return [c.removeprefix(CARRIER) for c in table.columns if c.startswith(CARRIER)]


def _values(table: pd.DataFrame, carrier: str, *, evaluation: bool) -> set[str]:
    rows = (table["split"] == "evaluation") == evaluation
    return set(table.loc[rows, f"{CARRIER}{carrier}"])
