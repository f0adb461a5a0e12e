"""Confounds of the rows of a map, see :mod:`lmri.stimuli.confounds`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from lmri.localise.values import Rows
from lmri.stimuli.confounds import token_frequency, trial_confounds

CONSTANT = 1e-6
"""Relative spread up to which a confound is the same in all trials."""


def row_confounds(rows: Rows, phase: str, names: Sequence[str]) -> pd.DataFrame:
    """Confounds of rows, averaged over their trials.

    Parameters
    ----------
    rows : Rows
        Rows and shards.
    phase : str
        The phase.
    names : sequence of str
        Which of :data:`lmri.stimuli.confounds.CONFOUNDS`.

    Returns
    -------
    DataFrame
        float64, one row for each of ``rows.labels``. A confound that is the same in all trials,
        such as the length of a phase of one token, explains nothing and is left out.
    """
    frequency = token_frequency(rows.recordings)

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for recording, row_of in zip(rows.recordings, rows.row_of, strict=True):
            values = trial_confounds(recording, phase, frequency)[list(names)].to_numpy()
            yield row_of[row_of >= 0], values[row_of >= 0]

    means = rows.mean(parts(), len(names)).astype(np.float64)
    table = pd.DataFrame(means, columns=list(names))
    spread = table.max() - table.min()
    return table.loc[:, spread > CONSTANT * table.abs().max()]
