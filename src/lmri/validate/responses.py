"""Free responses as they were said, kept so that another score needs no other run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from lmri.intervene import Responses, plan_record
from lmri.score import response_table, saving_responses
from lmri.validate.arms import Arm, Part

FOLDER = "responses"


class SavedResponses:
    """Writes ``<contrast>.<task>.parquet`` while responses are generated.

    An arm that does the same as one before it is not written again.

    Parameters
    ----------
    folder : Path
        Where to write; it is made, also if nothing comes.
    seed : int
        Seed of the study.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._stack = ExitStack()
        self._writers: dict[str, Callable[[pd.DataFrame], None]] = {}

    def __enter__(self) -> SavedResponses:
        """Make the folder."""
        self._folder.mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Complete the files, or leave none after an error."""
        self._stack.__exit__(kind, error, trace)

    def add(
        self,
        contrast: str,
        part: Part,
        tokenizer: PreTrainedTokenizerBase,
        arms: Sequence[Arm],
        prompts: Sequence[Sequence[int]],
        responses: Responses,
    ) -> None:
        """Write the responses of arms to the trials of a part.

        Parameters
        ----------
        contrast : str
            Name of the contrast; one finding of it is judged.
        part : Part
            The trials, with their role.
        tokenizer : transformers.PreTrainedTokenizerBase
            Of the subject.
        arms : sequence of Arm
            The arms; their plans say what was done, so that no other context may have acted.
        prompts : sequence of sequence of int
            Token ids of the prompts, trials within arms.
        responses : Responses
            In the same order.
        """
        count = len(part.trials)
        # Columns of text that are empty in one condition and not in another have one type.
        trials = part.trials.astype(
            dict.fromkeys(part.trials.select_dtypes(["object", "str"]), "string")
        )
        for number, arm in enumerate(arms):
            rows = np.arange(number * count, (number + 1) * count)
            table = response_table(
                tokenizer,
                trials,
                [prompts[row] for row in rows],
                [responses.tokens[row] for row in rows],
                responses.ended[rows],
                responses.onset_margin[rows],
                arm=arm.name,
                seed=self._seed,
                mode=arm.mode,
                dose=arm.dose,
                draw=arm.draw,
                plan=json.dumps(plan_record(arm.plan)),
            )
            self._writer(f"{contrast}.{part.task}")(table.assign(trial_role=part.role))

    def _writer(self, name: str) -> Callable[[pd.DataFrame], None]:
        if name not in self._writers:
            path = self._folder / f"{name}.parquet"
            self._writers[name] = self._stack.enter_context(saving_responses(path))
        return self._writers[name]
