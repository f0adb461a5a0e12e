"""Recording while a response is generated, pass by pass over the cache.

The same activity as one pass over the complete response, up to rounding, of the very computation
that chose each token: what an intervention run is asked for. The last token of a response is never
run, so it has no activity; whether a head retrieves is not known before the next token is, nor
what attention a token receives before all that see it are there.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from lmri.anatomy import SPANS, Prompt, Subject, equal_length_batches, trunk
from lmri.config import RecordOptions
from lmri.intervene import most_new_tokens
from lmri.record.capture import RECEIVED, Batch, Capture, ExpertStorage
from lmri.record.generation import Text, repeat_trials, respond_to_rows
from lmri.record.next_token import next_token_statistics
from lmri.record.progress import Progress
from lmri.record.scan import ScanReport, Sink, make_batch, opened
from lmri.store import RecordingWriter


@torch.inference_mode()
def scan_during_generation(
    subject: Subject,
    trials: pd.DataFrame,
    prompts: list[Prompt],
    phases: tuple[str, ...],
    options: RecordOptions,
    seed: int,
    writer: RecordingWriter,
    storage: ExpertStorage | None = None,
) -> tuple[pd.DataFrame, ScanReport]:
    """Generate, score and record the responses to a table of trials in one go.

    The activity of a batch is held until its responses are complete; rows of a batch have prompts
    of one length.

    Parameters
    ----------
    subject : Subject
        The subject, a decoder.
    trials : DataFrame
        The trials.
    prompts : list of Prompt
        One per trial.
    phases : tuple of str
        From :func:`lmri.record.phases.phase_names`.
    options : RecordOptions
        What is recorded, and how.
    seed : int
        Seed of the study.
    writer : RecordingWriter
        Where to.
    storage : ExpertStorage, optional
        How neurons of experts are kept, see :func:`lmri.record.scan.scan`.

    Returns
    -------
    trials : DataFrame
        The rows in the order in which they were written, with their scores.
    report : ScanReport
        What was met.

    Raises
    ------
    StimuliError
        If an activation is not finite and the options say to stop.
    """
    repeated, asked = repeat_trials(trials, prompts, options.repeats)
    lengths = [len(prompt.ids) for prompt in asked]
    # The last token of a response is chosen and never run.
    most = most_new_tokens(subject, options.max_new_tokens) - 1
    progress = Progress(f"record {subject.name}", len(asked), sum(lengths) + most * len(asked))
    rows_at_once = _rows_at_once(subject, options, max(lengths))
    done = []
    with opened(subject, options) as capture:
        for path in ("attention/retrieval", RECEIVED):
            capture.variables.pop(path, None)
        sink = Sink(subject, capture, phases, options, writer, progress, storage)
        for rows in equal_length_batches(lengths, rows_at_once):
            own = repeated.iloc[rows].reset_index(drop=True)
            with _Passes(subject, capture, [asked[row] for row in rows]) as passes:
                scored, texts = respond_to_rows(
                    subject, own, passes.prompts, options, seed, passes.begin
                )
            run = [Text(text.prompt, text.response[:-1]) for text in texts]
            batch, spans = _on_processor(subject, run, phases)
            capture.settle(batch)
            found = passes.next_token(texts, batch) if options.next_token else {}
            index = {"spans": spans, **found}
            progress.spare(sum(most - len(text.response) for text in run))
            sink.write(scored, batch, index)
            done.append(scored)
    progress.close()
    return pd.concat(done, ignore_index=True), sink.report


class _Passes:
    """Tells the capture of every pass, and keeps the last hidden states."""

    def __init__(self, subject: Subject, capture: Capture, prompts: list[Prompt]) -> None:
        self.prompts = prompts
        self._subject, self._capture = subject, capture
        self._past: Batch | None = None
        self._states: list[torch.Tensor] = []
        content = torch.zeros(len(prompts), len(prompts[0].ids), dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            content[row] = torch.from_numpy(prompt.spans == SPANS.index("content"))
        self._content = content.to(subject.device)

    def __enter__(self) -> _Passes:
        self._hook = trunk(self._subject.model).register_forward_hook(self._keep_states)
        return self

    def __exit__(self, *details: object) -> None:
        self._hook.remove()

    def begin(self, ids: torch.Tensor) -> None:
        """Announce the tokens of the next pass."""
        new = torch.zeros_like(ids, dtype=torch.bool)
        content = self._content if self._past is None else new
        batch = Batch(ids, ~new, new.unsqueeze(1), content)
        self._capture.collect(batch, self._past)
        if self._past is not None:
            parts = zip(vars(self._past).values(), vars(batch).values(), strict=True)
            batch = Batch(*(torch.cat(pair, dim=-1) for pair in parts))
        self._past = batch

    def _keep_states(self, module: torch.nn.Module, arguments: tuple, output: object) -> None:
        self._states.append(output.last_hidden_state)

    def next_token(self, texts: list[Text], batch: Batch) -> dict[str, np.ndarray]:
        """Of every token that was run: each has one after it."""
        states = torch.cat(self._states, dim=1)
        states = states[batch.real.to(states.device)]
        following = np.concatenate([text.tokens[1:] for text in texts]).astype(np.int64)
        targets = torch.from_numpy(following).to(states.device)
        values = next_token_statistics(self._subject.model, states, targets)
        names = ("logp_next", "entropy_next")
        return {name: own.cpu().numpy() for name, own in zip(names, values, strict=True)}


def _on_processor(
    subject: Subject, texts: list[Text], phases: tuple[str, ...]
) -> tuple[Batch, np.ndarray]:
    batch, spans = make_batch(subject, texts, phases)
    return Batch(*(values.cpu() for values in vars(batch).values())), spans


def _rows_at_once(subject: Subject, options: RecordOptions, longest: int) -> int:
    tokens = longest + most_new_tokens(subject, options.max_new_tokens)
    return max(1, min(options.rows, options.batch_tokens // tokens))
