"""Preview: one trial of every condition as the subject reads it, each token with its phase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from lmri.anatomy import SPANS, Prompt, read_template, render_trials, template_tail

COLOURS = {
    "system": "90",  # grey
    "content": "32",  # green
    "content_last": "1;32",
    "think": "35",  # magenta
    "post_instruction": "36",  # cyan
    "prompt_last": "1;33",  # yellow
}
"""ANSI codes of the phases of a prompt."""

CONTINUED = "\N{MIDDLE DOT}"
"""Stands for a token that only finishes the character of the one before it."""


def preview_task(
    task: str, trials: pd.DataFrame, tokenizer: PreTrainedTokenizerBase, *, colour: bool
) -> Iterator[str]:
    """Show the first trial of every condition of a task.

    Parameters
    ----------
    task : str
        Name of the task.
    trials : DataFrame
        Its stimuli.
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject; no weights are needed.
    colour : bool
        Whether to colour the tokens by phase; else each run of one phase is in brackets after
        the name of the phase. Characters that a terminal would obey are always escaped.

    Yields
    ------
    str
        Lines.

    Raises
    ------
    StimuliError
        If a trial cannot be rendered or read.
    """
    prompts = render_trials(tokenizer, trials)
    template = read_template(trials["template"].iloc[0])
    conditions = trials["condition"].to_numpy()
    lengths = np.array([len(prompt.ids) for prompt in prompts])
    yield f"{task}: {len(trials)} trials, template {template.kind}"
    tail = template_tail(tokenizer, template, trials["prompt"].iloc[0])
    for condition in dict.fromkeys(conditions):
        own = np.flatnonzero(conditions == condition)
        first = prompts[own[0]]
        yield ""
        yield (
            f"{escaped(condition)}: {len(own)} trials of {_span(lengths[own])} tokens; "
            f"{escaped(trials['trial'].iloc[own[0]])}:"
        )
        names = token_phases(first, tail)
        yield _painted(tokenizer, first, names, colour=colour)
        counts = Counter(SPANS[code] for code in first.spans)
        yield f"{len(first.ids)} tokens: " + ", ".join(f"{n} {name}" for name, n in counts.items())


def token_phases(prompt: Prompt, tail: int) -> list[str]:
    """Most particular phase of every token of a prompt.

    Parameters
    ----------
    prompt : Prompt
        The prompt.
    tail : int
        Number of post-instruction positions.

    Returns
    -------
    list of str
        ``prompt_last``, ``content_last`` or ``post_instruction`` where a token is one of them,
        else its span.
    """
    names = [SPANS[code] for code in prompt.spans]
    after = range(prompt.instruction_last + 1, len(names) - prompt.n_prefill)[:tail]
    for position in after:
        if names[position] == "system":
            names[position] = "post_instruction"
    names[len(names) - 1 - names[::-1].index("content")] = "content_last"
    names[-1] = "prompt_last"
    return names


def escaped(text: str) -> str:
    """Text without characters that a terminal would obey or hide.

    Parameters
    ----------
    text : str
        From a table or a tokenizer.

    Returns
    -------
    str
        Everything but printable characters as in a Python literal, such as a line break as two
        characters.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def legend(*, colour: bool) -> str:
    """Say how to read a preview.

    Parameters
    ----------
    colour : bool
        As for :func:`preview_task`.

    Returns
    -------
    str
        One line.
    """
    if colour:
        return " ".join(f"\x1b[{code}m{name}\x1b[0m" for name, code in COLOURS.items())
    return "phase[token|token] phase[token]"


def _span(lengths: np.ndarray) -> str:
    low, high = int(lengths.min()), int(lengths.max())
    return str(low) if low == high else f"{low} to {high} (median {np.median(lengths):g})"


def _painted(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, names: Sequence[str], *, colour: bool
) -> str:
    pieces = zip(names, _pieces(tokenizer, prompt), strict=True)
    runs = [(name, [piece for _, piece in run]) for name, run in groupby(pieces, lambda p: p[0])]
    if colour:
        return "|".join(f"\x1b[{COLOURS[name]}m{'|'.join(run)}\x1b[0m" for name, run in runs)
    return " ".join(f"{name}[{'|'.join(run)}]" for name, run in runs)


def _pieces(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> Iterator[str]:
    shown = 0
    for id_, (start, end) in zip(prompt.ids, prompt.offsets.tolist(), strict=True):
        if start == end:  # added by the tokenizer: it stands for no characters
            yield escaped(tokenizer.convert_ids_to_tokens(id_))
            continue
        yield escaped(prompt.text[shown:end]) or CONTINUED
        shown = max(shown, end)
