"""What a subject says to the trials of a shard: greedy, or sampled several times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.anatomy import Prompt, Subject
from lmri.config import RecordOptions
from lmri.intervene import (
    INTACT,
    AfterBatch,
    BeforePass,
    Plan,
    Sampling,
    common_random_numbers,
    most_new_tokens,
    respond,
)
from lmri.record.progress import Progress
from lmri.score import SCORES, onset_tokens, score_responses


@dataclass(frozen=True)
class Text:
    """One row of a recording: a trial, or one repeat of it.

    Attributes
    ----------
    prompt : Prompt
        The rendered prompt.
    response : ndarray of shape (n_response,), int32
        Generated tokens, the end token included; none for an encoder.
    """

    prompt: Prompt
    response: np.ndarray

    @property
    def tokens(self) -> np.ndarray:
        """Prompt and response."""
        return np.concatenate([np.asarray(self.prompt.ids, np.int32), self.response])

    def __len__(self) -> int:
        return len(self.prompt.ids) + len(self.response)


def respond_to_trials(
    subject: Subject,
    trials: pd.DataFrame,
    prompts: list[Prompt],
    options: RecordOptions,
    seed: int,
) -> tuple[pd.DataFrame, list[Text]]:
    """Generate and score the responses to a table of trials.

    Parameters
    ----------
    subject : Subject
        The subject.
    trials : DataFrame
        The trials.
    prompts : list of Prompt
        One per trial.
    options : RecordOptions
        Limits, repeats and sampling.
    seed : int
        Seed of the study; greedy responses do not depend on it.

    Returns
    -------
    trials : DataFrame
        One row per trial and repeat, all repeats of a trial one after another, with the scores.
        An encoder says nothing: its scores are NaN.
    texts : list of Text
        One per row.
    """
    repeated, asked = repeat_trials(trials, prompts, options.repeats)
    if subject.anatomy.encoder:
        silent = [Text(prompt, np.empty(0, np.int32)) for prompt in asked]
        return _index(_unscored(repeated), silent), silent
    lengths = [len(prompt.ids) for prompt in asked]
    most = most_new_tokens(subject, options.max_new_tokens)
    progress = Progress(f"answer {subject.name}", len(asked), sum(lengths) + most * len(asked))

    def count(rows: list[int], said: list[int]) -> None:
        progress.spare(most * len(rows) - sum(said))
        progress.advance(len(rows), sum(lengths[row] for row in rows) + sum(said))

    answered = respond_to_rows(subject, repeated, asked, options, seed, after_batch=count)
    progress.close()
    return answered


def repeat_trials(
    trials: pd.DataFrame, prompts: list[Prompt], repeats: int
) -> tuple[pd.DataFrame, list[Prompt]]:
    """Repeat every trial: all repeats of a trial one after another.

    Parameters
    ----------
    trials : DataFrame
        The trials.
    prompts : list of Prompt
        One per trial.
    repeats : int
        Number of repeats.

    Returns
    -------
    trials : DataFrame
        With the number of the ``repeat``.
    prompts : list of Prompt
        One per row.
    """
    repeated = trials.loc[trials.index.repeat(repeats)].reset_index(drop=True)
    repeated["repeat"] = np.tile(np.arange(repeats), len(trials))
    return repeated, [prompt for prompt in prompts for _ in range(repeats)]


def respond_to_rows(
    subject: Subject,
    trials: pd.DataFrame,
    prompts: list[Prompt],
    options: RecordOptions,
    seed: int,
    before_pass: BeforePass | None = None,
    after_batch: AfterBatch | None = None,
) -> tuple[pd.DataFrame, list[Text]]:
    """Generate and score one response per row.

    Parameters
    ----------
    subject : Subject
        The subject.
    trials : DataFrame
        Trials with the number of their ``repeat``.
    prompts : list of Prompt
        One per row.
    options : RecordOptions
        Limits, sampling, and experts that are off.
    seed : int
        Seed of the study.
    before_pass, after_batch : callable, optional
        See :func:`lmri.intervene.respond`.

    Returns
    -------
    trials : DataFrame
        The rows with their scores.
    texts : list of Text
        One per row.
    """
    responses = respond(
        subject,
        [prompt.ids for prompt in prompts],
        onset_tokens(subject.tokenizer, trials),
        plans=[lesion(options)],
        max_new_tokens=options.max_new_tokens,
        rows=options.rows,
        padding=options.padding,
        batch_tokens=options.batch_tokens,
        before_pass=before_pass,
        after_batch=after_batch,
        **_sampling(subject, trials, options, seed),
    )
    scores = score_responses(
        subject.tokenizer, trials, responses.tokens, responses.ended, responses.onset_margin
    )
    said = [Text(p, r.astype(np.int32)) for p, r in zip(prompts, responses.tokens, strict=True)]
    return _index(pd.concat([trials, scores], axis=1), said), said


def lesion(options: RecordOptions) -> Plan:
    """Plan of the experts that are off while a subject is recorded; intact by default."""
    if options.without is None:
        return INTACT
    return Plan(options.without.mode, tuple((layer, unit) for layer, unit in options.without.units))


def _sampling(
    subject: Subject, trials: pd.DataFrame, options: RecordOptions, seed: int
) -> dict[str, object]:
    if not options.temperature:
        return {}
    limit = most_new_tokens(subject, options.max_new_tokens)
    draws = np.empty((len(trials), limit))
    for repeat in range(options.repeats):
        rows = (trials["repeat"] == repeat).to_numpy()
        names = trials["trial"][rows].tolist()
        draws[rows] = common_random_numbers(names, repeat, seed, limit)
    return {"sampling": Sampling(options.temperature, options.top_p), "draws": draws}


def _unscored(trials: pd.DataFrame) -> pd.DataFrame:
    return trials.assign(
        response="", ended=True, n_response=0, **dict.fromkeys(SCORES, float("nan"))
    )


def _index(trials: pd.DataFrame, texts: list[Text]) -> pd.DataFrame:
    return trials.assign(
        n_prompt=[len(text.prompt.ids) for text in texts],
        n_dropped=[text.prompt.dropped for text in texts],
        n_prefill=[text.prompt.n_prefill for text in texts],
        instruction_last=[text.prompt.instruction_last for text in texts],
    )
