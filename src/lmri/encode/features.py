"""Bands of features of a trial: what it says, and what it differs in besides.

=================  =========  ==================================================================
band               role       columns
=================  =========  ==================================================================
``length``         nuisance   tokens of the phase, and of the prompt
``position``       nuisance   mean position of the tokens of the phase
``frequency``      nuisance   mean log frequency of the tokens of the phase, and of the content
``surprisal``      nuisance   mean surprisal of the same, in nat
``embedding``      interest   mean input embedding of the content, projected at random
``numbers``        interest   first two numbers of the content, and their logarithms
any column         interest   of the table of trials (``condition``, ``family``, ``class_place``): a
                              column for each label; of numbers, the number and its logarithm
=================  =========  ==================================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from lmri.anatomy import phase_tokens
from lmri.encode.activity import Trials
from lmri.encode.bands import Band, one_hot
from lmri.errors import EvidenceError
from lmri.stimuli.confounds import CONFOUNDS, token_frequency, trial_confounds
from lmri.store import Recording

CONTENT = "content"
"""Phase that embeddings and the frequency of what is asked are taken from."""

MADE = ("embedding", "numbers")
"""Bands that are no column of the table."""

TAILS = (0.01, 0.99)
"""Quantiles that nuisance columns are clipped to."""

NUMBER = re.compile(r"\d+(?:\.\d+)?")

MOST_LABELS = 64
"""Labels of a column, above which it is an identity and no category."""


def projected_embeddings(model: PreTrainedModel, dimensions: int, seed: int) -> np.ndarray:
    """Project the input embeddings of a subject at random.

    A Gaussian projection keeps distances between tokens about as they are (Johnson and
    Lindenstrauss) and is fitted to nothing, so that no fold sees another.

    Parameters
    ----------
    model : PreTrainedModel
        The subject's model.
    dimensions : int
        Columns; with at least as many as the embeddings have, these are taken as they are.
    seed : int
        Seed of the projection.

    Returns
    -------
    ndarray of shape (n_vocabulary, n_columns), float32
        A row for each token.
    """
    own = model.get_input_embeddings().weight.detach().float().cpu().numpy()
    if dimensions >= own.shape[1]:
        return own
    rng = np.random.default_rng(seed)
    return own @ (rng.normal(size=(own.shape[1], dimensions)) / dimensions**0.5).astype(np.float32)


def default_bands(table: pd.DataFrame) -> tuple[str, ...]:
    """Bands of interest of a task for which none are named.

    Parameters
    ----------
    table : DataFrame
        Its trials.

    Returns
    -------
    tuple of str
        The condition, the template family and the class of each carrier, where there are several,
        then numbers and embedding.
    """
    classes = sorted(str(name) for name in table if str(name).startswith("class_"))
    several = [
        name
        for name in ("condition", "family", *classes)
        if name in table and table[name].nunique() > 1
    ]
    return (*several, *MADE[::-1])


def known_bands(
    table: pd.DataFrame, names: Sequence[str], made: Sequence[str] = MADE
) -> tuple[list[str], dict[str, str]]:
    """Choose the bands that the trials of a task have.

    Parameters
    ----------
    table : DataFrame
        The trials.
    names : sequence of str
        Bands that are asked for.
    made : sequence of str
        Those that are no columns.

    Returns
    -------
    list of str
        Bands that can be made, each once.
    dict of str to str
        Why the others cannot.
    """
    kept, reasons = [], {}
    for name in dict.fromkeys(names):
        if name not in (*table, *made):
            reasons[name] = "the trials of this task have no such column"
        elif name not in made and not _numeric(table[name]) and table[name].nunique() > MOST_LABELS:
            reasons[name] = (
                f"{table[name].nunique()} labels, of at most {MOST_LABELS}: an identity predicts "
                "nothing of others, use 'embedding'"
            )
        else:
            kept.append(name)
    return kept, reasons


def trial_bands(
    trials: Trials, names: Sequence[str], embeddings: np.ndarray | None = None
) -> list[Band]:
    """Make the bands of trials.

    Parameters
    ----------
    trials : Trials
        The rows.
    names : sequence of str
        Bands of interest, see :func:`known_bands`.
    embeddings : ndarray of shape (n_vocabulary, n_columns), optional
        See :func:`projected_embeddings`; needed by ``embedding``.

    Returns
    -------
    list of Band
        Nuisance bands first.
    """
    made = nuisance_bands(trials)
    for name in names:
        if name == "embedding":
            made.append(_embedding(trials, embeddings))
        elif name == "numbers":
            made.append(number_band(trials.table[CONTENT]))
        else:
            made.append(column_band(name, trials.table[name]))
    return made


def nuisance_bands(trials: Trials) -> list[Band]:
    """Make the bands that are in every model."""
    frequency = token_frequency(trials.recordings)
    own = _rows(trials, trials.phase, frequency)
    content = _rows(trials, CONTENT, frequency)
    prompt = trials.table["n_prompt"].to_numpy(dtype=np.float64)
    columns = {
        "length": {"phase": own["length"], "prompt": prompt},
        "position": {"phase": own["position"]},
        "frequency": {"phase": own["frequency"], "content": content["frequency"]},
        "surprisal": {"phase": own["surprisal"], "content": content["surprisal"]},
    }
    made = []
    for name, parts in columns.items():
        values = np.nan_to_num(np.column_stack(list(parts.values())))
        # One trial of a surprisal far from all others would decide the fold that it is tested in.
        values = np.clip(values, *np.quantile(values, TAILS, axis=0))
        made.append(Band(name, "nuisance", tuple(parts), values))
    return made


def column_band(name: str, values: pd.Series) -> Band:
    """Make a band of a column of the table.

    Parameters
    ----------
    name : str
        The column.
    values : Series
        Its values.

    Returns
    -------
    Band
        The number and its logarithm where all values are numbers; else a column for each label.
    """
    if not _numeric(values):
        return one_hot(name, "interest", values)
    numbers = pd.to_numeric(values).to_numpy(dtype=np.float64)
    log = np.sign(numbers) * np.log1p(np.abs(numbers))
    return Band(name, "interest", ("value", "log"), np.column_stack([numbers, log]))


def number_band(texts: Sequence[str]) -> Band:
    """Make the band of the first two numbers of each text; 0 where there is none."""
    found = [[float(own) for own in NUMBER.findall(str(text))][:2] for text in texts]
    values = np.array([own + [0.0] * (2 - len(own)) for own in found]).reshape(-1, 2)
    both = np.column_stack([values, np.log1p(values)])
    return Band("numbers", "interest", ("first", "second", "log_first", "log_second"), both)


def _numeric(values: pd.Series) -> bool:
    numbers = pd.to_numeric(values, errors="coerce") if values.dtype != bool else np.nan
    return bool(np.isfinite(numbers).all())


def _embedding(trials: Trials, embeddings: np.ndarray | None) -> Band:
    if embeddings is None:
        raise EvidenceError("The band 'embedding' needs the embeddings of the subject. Got none.")
    width = embeddings.shape[1]
    total = np.zeros((len(trials.table), width))
    count = np.zeros(len(trials.table))
    for recording, row_of in zip(trials.recordings, trials.row_of, strict=True):
        for trial, token_id in _content_tokens(recording):
            place = row_of[trial]
            np.add.at(total, place[place >= 0], embeddings[token_id[place >= 0]])
            np.add.at(count, place[place >= 0], 1)
    mean = total / np.maximum(count, 1)[:, None]
    return Band("embedding", "interest", tuple(f"p{i}" for i in range(width)), mean)


def _content_tokens(recording: Recording):
    spans = recording.array("tokens/index/phase").attrs["phases"]
    names = [f"tokens/index/{name}" for name in ("trial", "position", "phase", "token_id")]
    for trial, position, span, token_id in recording.stream(*names):
        index = {"trial": trial, "position": position, "phase": span, "spans": spans}
        inside = phase_tokens(recording.trials, index, CONTENT)
        yield trial[inside], token_id[inside]


def _rows(trials: Trials, phase: str, frequency: np.ndarray) -> pd.DataFrame:
    """Confounds of the rows in a phase."""
    found = np.full((len(trials.table), len(CONFOUNDS)), np.nan)
    for recording, row_of in zip(trials.recordings, trials.row_of, strict=True):
        values = trial_confounds(recording, phase, frequency)[list(CONFOUNDS)].to_numpy()
        found[row_of[row_of >= 0]] = values[row_of >= 0]
    return pd.DataFrame(found, columns=list(CONFOUNDS))
