"""Names of the carriers that a table of trials has."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

CARRIER = "carrier_"
"""What the name of a column of a carrier begins with."""


def carriers_of(table: pd.DataFrame, named: Sequence[str] = ()) -> tuple[str, ...]:
    """Name the carriers of trials: those that the study names, or all that the table has.

    Parameters
    ----------
    table : DataFrame
        Trials, with ``carrier_<name>``.
    named : sequence of str
        Carriers that the study names; none takes all of the table.

    Returns
    -------
    tuple of str
        Their names.
    """
    # Sorted: columns of a store are in no order.
    found = sorted(str(name) for name in table if str(name).startswith(CARRIER))
    return tuple(named) or tuple(name.removeprefix(CARRIER) for name in found)
