"""Phases of a text: which of its recorded tokens belong to one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmri.anatomy.prompts import POST_INSTRUCTION


def phase_tokens(trials: pd.DataFrame, index: dict[str, np.ndarray], phase: str) -> np.ndarray:
    """Tokens that belong to a phase.

    Parameters
    ----------
    trials : DataFrame
        Trials of the recording, with ``n_prompt``, ``content_last``, and for post-instruction
        positions ``instruction_last`` and ``n_prefill``.
    index : dict of str to ndarray of shape (n_tokens,)
        ``trial``, ``position`` and ``phase`` of each token, and ``spans``, the names of phases.
    phase : str
        The phase.

    Returns
    -------
    ndarray of shape (n_tokens,), bool
        Whether each token belongs to it.
    """
    spans = list(index["spans"])
    if phase in spans:
        return index["phase"] == spans.index(phase)
    if phase == "prompt_last":
        at = trials["n_prompt"] - 1
    elif phase == "content_last":
        at = trials["content_last"]
    elif phase.startswith(POST_INSTRUCTION):
        at = trials["instruction_last"] + 1 + int(phase.removeprefix(POST_INSTRUCTION))
        at = at.where(at < trials["n_prompt"] - trials["n_prefill"], -1)
    else:  # a span that this recording does not have: think, where the subject does not
        return np.zeros(len(index["position"]), dtype=bool)
    return index["position"] == at.to_numpy()[index["trial"]]
