"""The scan: one labelled pass over prompt and response, written batch by batch.

Batches hold rows of similar length in the order of the table, so their composition is fixed by
the shard and a recording is the same to the bit whenever it is made on the same machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from lmri.anatomy import SPANS, Subject, pad, similar_length_batches, trunk
from lmri.config import RecordOptions
from lmri.errors import StimuliError
from lmri.intervene import Session, intervened
from lmri.record.arrays import ArrayWriter
from lmri.record.capture import Batch, Capture, ExpertStorage
from lmri.record.generation import Text, lesion
from lmri.record.hooks import capturing
from lmri.record.memory import give_back_freed_memory, keep_freed_memory
from lmri.record.next_token import next_token_statistics
from lmri.record.phases import phase_masks, trial_spans
from lmri.record.progress import Progress
from lmri.store import RecordingWriter

BYTES_BETWEEN_CLEARINGS = 512 * 2**20
"""Bytes of values after which freed memory is given back."""

MOST_COMPARED = 8
"""Rows that are run again alone, at most: one in five hundred."""


@dataclass
class ScanReport:
    """What a scan met.

    Attributes
    ----------
    tokens : int
        Tokens recorded.
    non_finite : list of dict
        Trial, layer and variable of every activation that was not finite.
    compared, flipped : int
        Choices of experts that were made again without a batch, and how many were others.
    """

    tokens: int = 0
    non_finite: list[dict] = field(default_factory=list)
    compared: int = 0
    flipped: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return it for the manifest."""
        return {
            "tokens": self.tokens,
            "non_finite": self.non_finite,
            "unbatched": {"choices_compared": self.compared, "choices_flipped": self.flipped},
        }


@torch.inference_mode()
def scan(
    subject: Subject,
    trials: pd.DataFrame,
    texts: list[Text],
    phases: tuple[str, ...],
    options: RecordOptions,
    writer: RecordingWriter,
    storage: ExpertStorage | None = None,
) -> ScanReport:
    """Record every text.

    Parameters
    ----------
    subject : Subject
        The subject.
    trials : DataFrame
        One row per text.
    texts : list of Text
        Prompts and responses.
    phases : tuple of str
        From :func:`lmri.record.phases.phase_names`.
    options : RecordOptions
        What is recorded, and how.
    writer : RecordingWriter
        Where to.
    storage : ExpertStorage, optional
        How neurons of experts are kept; None where the options or the subject leave no choice.

    Returns
    -------
    ScanReport
        What it met.

    Raises
    ------
    StimuliError
        If an activation is not finite and the options say to stop.
    """
    progress = Progress(f"record {subject.name}", len(texts), sum(map(len, texts)))
    compared = set(_rows_to_compare(len(texts)))
    lengths = [len(text) for text in texts]
    kept: dict[int, np.ndarray] = {}
    with opened(subject, options) as capture, without_experts(subject, options) as session:
        sink = Sink(subject, capture, phases, options, writer, progress, storage)
        limits = options.rows, options.padding, options.batch_tokens
        for rows in similar_length_batches(lengths, *limits):
            batch, spans = make_batch(subject, [texts[row] for row in rows], phases)
            states = run_batch(subject, capture, batch, session)
            found = _next_token(subject, states, batch) if options.next_token else {}
            index = {"spans": spans, **found}
            sink.write(trials.iloc[rows].reset_index(drop=True), batch, index)
            if len(rows) > 1:
                kept |= _choices(capture, batch, rows, compared)
    _compare(subject, texts, phases, kept, options, sink.report)
    progress.close()
    return sink.report


def opened(subject: Subject, options: RecordOptions) -> AbstractContextManager[Capture]:
    """Capture what the options ask for, see :func:`lmri.record.capture.capturing`."""
    return capturing(subject, set(options.quantities), set(options.full), options.stored)


@contextmanager
def without_experts(subject: Subject, options: RecordOptions) -> Iterator[Session | None]:
    """Switch off the experts that a subject is recorded without; yields None if there are none."""
    plan = lesion(options)
    if not plan.units:
        yield None
        return
    with intervened(subject, [plan]) as session:
        yield session


class Sink:
    """Checks and writes what each batch left behind.

    Parameters
    ----------
    subject : Subject
        The subject.
    capture : Capture
        What the passes leave behind.
    phases : tuple of str
        Phases that are pooled.
    options : RecordOptions
        What is done about activity that is not finite.
    writer : RecordingWriter
        Where to.
    progress : Progress
        Told of every batch.
    storage : ExpertStorage, optional
        How neurons of experts are kept, see :func:`scan`.

    Attributes
    ----------
    report : ScanReport
        What was met so far.
    """

    def __init__(
        self,
        subject: Subject,
        capture: Capture,
        phases: tuple[str, ...],
        options: RecordOptions,
        writer: RecordingWriter,
        progress: Progress,
        storage: ExpertStorage | None = None,
    ) -> None:
        self.report = ScanReport()
        self._subject, self._capture, self._phases = subject, capture, phases
        self._options, self._writer, self._progress = options, writer, progress
        self._arrays = ArrayWriter(writer, capture, phases)
        if storage is not None:
            capture.experts_full = storage.full
            self._arrays.expert_storage = storage.reason
        self._written = 0
        self._cleared = 0
        keep_freed_memory()

    def write(self, trials: pd.DataFrame, batch: Batch, index: dict[str, np.ndarray]) -> None:
        """Write one batch.

        Parameters
        ----------
        trials : DataFrame
            Its rows.
        batch : Batch
            Its tokens.
        index : dict of str to ndarray of shape (n_tokens,)
            ``spans`` and what is known of the next tokens.

        Raises
        ------
        StimuliError
            If an activation is not finite and the options say to stop.
        """
        _check_finite(self._capture, self._subject, trials, self.report, self._options)
        arrays, tokens = self._arrays, int(batch.real.sum())
        arrays.write(batch, index, first_trial=self._written)
        last = batch.masks[:, self._phases.index("content_last")].int().argmax(dim=1)
        self._writer.append_trials(trials.assign(content_last=last.cpu().numpy()))
        self._written += len(trials)
        self.report.tokens += tokens
        self._progress.advance(len(trials), tokens, arrays.bytes)
        if arrays.bytes - self._cleared > BYTES_BETWEEN_CLEARINGS:
            give_back_freed_memory()
            self._cleared = arrays.bytes


def make_batch(
    subject: Subject, texts: list[Text], phases: tuple[str, ...]
) -> tuple[Batch, np.ndarray]:
    """Put texts into a batch.

    Parameters
    ----------
    subject : Subject
        The subject.
    texts : list of Text
        The rows.
    phases : tuple of str
        Phases that are pooled.

    Returns
    -------
    batch : Batch
        On the subject's device.
    spans : ndarray of shape (n_tokens,), uint8
        Span of every token, row after row.
    """
    filler = subject.tokenizer.pad_token_id or 0
    # A token for padding that was added to the tokenizer alone has no embedding.
    filler = filler if filler < subject.anatomy.vocabulary else 0
    ids, real = pad([text.tokens for text in texts], filler, left=False)
    masks = torch.zeros(len(texts), len(phases), ids.shape[1], dtype=torch.bool)
    content = torch.zeros_like(real)
    spans = []
    for i, text in enumerate(texts):
        own = trial_spans(subject.tokenizer, text.prompt, text.response.tolist(), phases)
        prompt = text.prompt
        at = prompt.instruction_last
        own_masks = phase_masks(own, len(prompt.ids), phases, at, prompt.n_prefill)
        masks[i, :, : len(own)] = torch.from_numpy(own_masks)
        content[i, : len(own)] = torch.from_numpy(own == SPANS.index("content"))
        spans.append(own)
    on = subject.device
    return Batch(ids.to(on), real.to(on), masks.to(on), content.to(on)), np.concatenate(spans)


def run_batch(
    subject: Subject, capture: Capture, batch: Batch, session: Session | None
) -> torch.Tensor:
    """Run one batch; the capture then holds its activity.

    Parameters
    ----------
    subject : Subject
        The subject.
    capture : Capture
        What the pass leaves behind.
    batch : Batch
        What is run.
    session : Session or None
        From :func:`without_experts`.

    Returns
    -------
    Tensor of shape (batch, tokens, hidden)
        States after the last norm.
    """
    capture.begin(batch)
    if session is not None:
        session.rows = torch.zeros(len(batch.ids), dtype=torch.int64, device=subject.device)
    # Padding comes last: no token of a decoder sees it, so only an encoder needs a mask.
    masked = subject.anatomy.encoder and batch.padded
    mask = {"attention_mask": batch.real.long()} if masked else {}
    output = trunk(subject.model)(input_ids=batch.ids, use_cache=False, **mask)
    return output.last_hidden_state


def _next_token(subject: Subject, states: torch.Tensor, batch: Batch) -> dict[str, np.ndarray]:
    """Of every real token, row after row; NaN where nothing follows."""
    if subject.anatomy.encoder:
        return {}
    has_next = torch.zeros_like(batch.real)
    has_next[:, :-1] = batch.real[:, 1:]
    following = batch.ids.roll(-1, dims=1)[has_next]
    # The last layer may lie on another device than the first.
    states = states[has_next.to(states.device)]
    values = next_token_statistics(subject.model, states, following)
    found = {}
    for name, own in zip(("logp_next", "entropy_next"), values, strict=True):
        all_tokens = torch.full(batch.ids.shape, torch.nan, device=has_next.device)
        all_tokens[has_next] = own.to(has_next.device)
        found[name] = all_tokens[batch.real].cpu().numpy()
    return found


def _check_finite(
    capture: Capture,
    subject: Subject,
    trials: pd.DataFrame,
    report: ScanReport,
    options: RecordOptions,
) -> None:
    for path, place, rows in capture.non_finite:
        for row in rows:
            found = {"trial": str(trials["trial"][row]), "layer": place[0], "variable": path}
            if options.non_finite == "stop":
                raise StimuliError(
                    f"The activity of subject '{subject.name}' must be finite. '{path}' of layer "
                    f"{place[0]} is not in trial {found['trial']!r}: {_advice(subject)}, or set "
                    "'record.non_finite' to 'count' to go on."
                )
            report.non_finite.append(found)


def _advice(subject: Subject) -> str:
    if subject.dtype == torch.float16:
        return "load the subject in float32 or bfloat16"
    return "its weights hold such a value or lead to it, so mend them"


def _rows_to_compare(rows: int) -> list[int]:
    count = min(MOST_COMPARED, math.ceil(rows / 500))
    return np.linspace(0, rows - 1, count, dtype=int).tolist()


def _choices(
    capture: Capture, batch: Batch, rows: np.ndarray, compared: set[int]
) -> dict[int, np.ndarray]:
    """Experts chosen in a batch, of the rows that are to be run again alone."""
    if "router/expert_id" not in capture.tokens or not compared & set(rows.tolist()):
        return {}
    ids = capture.tokens["router/expert_id"].together().numpy()
    ends = batch.real.sum(1).cumsum(0).tolist()
    starts = [0, *ends]
    return {
        int(row): ids[starts[i] : ends[i]].copy()  # (n_tokens, layers, top_k)
        for i, row in enumerate(rows)
        if int(row) in compared
    }


def _compare(
    subject: Subject,
    texts: list[Text],
    phases: tuple[str, ...],
    kept: dict[int, np.ndarray],
    options: RecordOptions,
    report: ScanReport,
) -> None:
    """Count the choices of experts that come out otherwise when a row is run alone."""
    if not kept:
        return
    capturing_choices = capturing(subject, {"router"}, set())
    with capturing_choices as capture, without_experts(subject, options) as session:
        for row, batched in kept.items():
            batch, _ = make_batch(subject, [texts[row]], phases)
            run_batch(subject, capture, batch, session)
            alone = capture.tokens["router/expert_id"].together().numpy()
            same = (batched[..., :, None] == alone[..., None, :]).any(-1)
            report.compared += same.size
            report.flipped += int((~same).sum())
