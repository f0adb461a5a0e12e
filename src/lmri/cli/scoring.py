"""Commands on saved responses: scoring them again, and labels by hand."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmri.cli.declaring import Commands
from lmri.cli.slices import read_slice
from lmri.errors import ScoreError

if TYPE_CHECKING:
    import pandas as pd

    from lmri.intervene import AnyPlan
    from lmri.score import Answers

ROWS = 64
"""Rows per forward pass."""


def _score(options: argparse.Namespace) -> None:
    if options.sheet is not None:
        _write_sheet(options)
        return
    from lmri.config import ScorersOptions
    from lmri.score import rescored, study_scorers, write_scores

    values = {} if options.config is None else read_slice(options, "score")["scorers"]
    study = ScorersOptions.from_dict(values)
    if options.out is None or not (options.scorer or study.names):
        raise ScoreError(
            "lmri score needs --out and a --scorer (or the names of a study in --config), or "
            "--sheet and --key to label by hand."
        )
    scorers = study_scorers(study, options.scorer or ())
    complete = None if options.model is None else _reading(options.model, study.limits)
    if options.labels is not None:
        _write_agreement(options, scorers, complete)
        return
    write_scores(options.out, rescored(options.responses, scorers, complete), scorers)


def _write_sheet(options: argparse.Namespace) -> None:
    from lmri.score import read_responses, write_sheet

    if options.key is None or options.labels is not None or options.out is not None:
        raise ScoreError("lmri score --sheet needs --key, and neither --labels nor --out.")
    if options.per_arm is not None and options.per_arm < 1:
        raise ScoreError(f"--per-arm must be at least 1. Got {options.per_arm}.")
    rows = write_sheet(
        options.sheet,
        options.key,
        read_responses(options.responses),
        seed=options.seed or 0,
        per_arm=options.per_arm,
        with_prompts=options.with_prompts,
    )
    print(f"{rows} rows in {options.sheet}; what they are is in {options.key}: do not look yet.")


def _write_agreement(options: argparse.Namespace, scorers: dict, complete: Callable | None) -> None:
    import pandas as pd

    from lmri.score import agreement_by_arm, read_labels, rescored
    from lmri.store import atomic_file

    if options.key is None:
        raise ScoreError("lmri score --labels needs the --key of the sheet.")
    labels = read_labels(options.labels, options.key)
    tables = list(rescored(options.responses, scorers, complete))
    threshold = 0.5 if options.threshold is None else options.threshold
    scores = pd.concat(tables)
    found = []
    for name in scorers:
        own = agreement_by_arm(labels, scores, name, threshold=threshold, seed=options.seed or 0)
        own.insert(0, "scorer", name)
        found.append(own)
    with atomic_file(options.out) as partial:
        pd.concat(found).to_csv(partial, index=False)
    print(pd.concat(found).to_string(index=False, float_format="%.3f"))


def _reading(model: Path, limits: dict[str, float] | None) -> Callable[[Answers], Answers]:
    """Give responses their subject, each row under its own intervention, and without any."""
    from lmri.anatomy import load_subject
    from lmri.checks import check_columns
    from lmri.intervene import INTACT, continuation_log_probabilities

    subject = load_subject(model, model.name)

    def complete(answers: Answers) -> Answers:
        table = answers.table
        check_columns(table.columns, ["prompt_tokens", "plan"], "of the responses", ScoreError)
        prompts = [list(map(int, row)) for row in table["prompt_tokens"]]

        def read(rows: Sequence[int], continuations: Sequence[Sequence[int]]) -> list:
            plans, own = _plans(table.iloc[list(rows)])
            return _log(rows, continuations, plans, own)

        def intact(rows: Sequence[int], continuations: Sequence[Sequence[int]]) -> list:
            return _log(rows, continuations, [INTACT], [0] * len(rows))

        def _log(rows: Sequence, continuations: Sequence, plans: list, own: list) -> list:
            return continuation_log_probabilities(
                subject,
                [prompts[row] for row in rows],
                continuations,
                plans=plans,
                plan_of_row=own,
                rows=ROWS,
            )

        return replace(
            answers,
            tokenizer=subject.tokenizer,
            reader=read,
            intact_reader=intact,
            limits=limits,
        )

    return complete


def _plans(table: pd.DataFrame) -> tuple[list[AnyPlan], list[int]]:
    """Plans of rows, and the position of each row's."""
    from lmri.intervene import read_plan

    texts: dict[str, int] = {}
    own = []
    for arm, text in zip(table["arm"], table["plan"].fillna(""), strict=True):
        if not text:
            raise ScoreError(
                f"The plan of arm '{arm}' must be saved with its responses, so that its "
                "log-probabilities can be read again. Got none."
            )
        own.append(texts.setdefault(text, len(texts)))
    plans = []
    for text in texts:
        try:
            plans.append(read_plan(json.loads(text), "the responses"))
        except json.JSONDecodeError as error:
            raise ScoreError(f"The plan of responses must be JSON. Got {error.msg}.") from None
    return plans, own


COMMANDS: Commands = {
    "score": (
        _score,
        "score saved responses again, or write and read sheets for labels by hand",
        "responses --scorer? --out? --config? --model? --sheet? --key? --labels? --per-arm? "
        "--with-prompts? --threshold? --seed?",
    ),
}
