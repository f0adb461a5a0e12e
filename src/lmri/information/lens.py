"""Logit lens: what each layer's state would say if it were the last.

``p_l = softmax(W_U LN_f(h_l))``. By layer its entropy, the Kullback-Leibler divergence of the final
distribution from it, how often both have the same first choice, the cross-entropy of the token
that follows, and ``H(Y) - cross-entropy``: a lower bound of ``I(T_l; Y)`` in expectation, with the
cross-entropy of a unigram model, fitted on other trials, in place of H(Y). Entropy alone is no such
bound: the basis of early layers drifts, and what the lens says there with confidence need not be
about the next token.

The texts of a recording are run once more, so nothing needs to be recorded in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import torch
import xarray as xr

from lmri.anatomy import (
    Subject,
    blocks,
    final_norm,
    pad,
    similar_length_batches,
    trunk,
    vocabulary_logits,
)
from lmri.errors import EvidenceError
from lmri.information.clustered import ClusteredMeans
from lmri.information.states import INPUT
from lmri.information.texts import Text, chosen_rows, span_names, text_carriers, texts
from lmri.store import Recording

LOGITS_AT_ONCE = 8_000_000
"""Logits of one layer held at a time: 32 MB in float32; two layers are held."""

TOKENS_AT_ONCE = 2048
"""Tokens of a batch, padding included: the states of all its layers are held."""

BATCHES_AHEAD = 16
"""Batches' worth of texts that are read before they are sorted by length."""

STATE_MEASURES = ("entropy", "divergence", "agreement")
TARGET_MEASURES = ("cross_entropy", "information")


def lens_profile(
    recordings: Sequence[Recording],
    subject: Subject,
    *,
    split: str | None = "selection",
    batch_tokens: int = TOKENS_AT_ONCE,
) -> xr.Dataset:
    """Read the texts of a recording through the logit lens.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task.
    subject : Subject
        Who was recorded. Of an encoder, its prediction head is the lens.
    split : str, optional
        Trials that are read; None takes all. The unigram model is fitted on the others.
    batch_tokens : int
        Tokens run at once.

    Returns
    -------
    Dataset
        Over (phase, layer), means over tokens: ``entropy`` and ``divergence``, KL(final || lens),
        in nat; ``agreement``, share of tokens with the final first choice; ``cross_entropy`` of
        the next token and ``information``, both in nat and NaN of an encoder; of each a standard
        error over texts and their carriers, ``<name>_error``, NaN of a single text.
        ``information_flags``: ``negativity`` (below 0 by more than two errors), ``no_null`` (no
        trial outside the split to fit a unigram model on). ``unigram`` (phase), its cross-entropy;
        ``tokens`` and ``targets`` (phase). Layer -1 is the state before the first block.

    Raises
    ------
    EvidenceError
        If the split has no trial, a logit is not finite, or the subject was recorded without some
        of its experts.
    """
    recordings = list(recordings)
    phases = span_names(recordings)
    _check_intact(recordings)
    null = _unigram(recordings, subject, split, len(phases))
    layers = subject.anatomy.layers + 1
    states = ClusteredMeans((len(phases), layers, len(STATE_MEASURES)))
    targets = ClusteredMeans((len(phases), layers, len(TARGET_MEASURES)))
    read = read_out(subject)
    chosen = (text for text in texts(recordings) if split in (None, text.trial["split"]))
    for batch in _batches(chosen, batch_tokens):
        for text, values in zip(batch, _lens(subject, read, batch), strict=True):
            own, following = values
            carriers = text_carriers(text.trial)
            states.add(*_by_phase(own, text.spans, len(phases)), carriers)
            if subject.anatomy.encoder or len(text) < 2:
                continue
            surprise = -null[text.spans[:-1], text.ids[1:]]
            gained = surprise[:, None] - following
            both = np.stack([following, gained], axis=-1)
            targets.add(*_by_phase(both, text.spans[:-1], len(phases)), carriers)
    if not states.clusters:
        raise EvidenceError(f"A logit lens must have trials to read. The split '{split}' has none.")
    return _profile(states, targets, phases, layers)


def read_out(subject: Subject) -> Callable[[torch.Tensor], torch.Tensor]:
    """Find what turns a state of the residual stream into logits.

    Parameters
    ----------
    subject : Subject
        Any subject of the anatomy's table.

    Returns
    -------
    callable
        From (n_tokens, hidden) to (n_tokens, vocabulary): final normalisation, projection, and
        the family's cap or scale; of an encoder its prediction head.

    Raises
    ------
    SubjectError
        If the normalisation has no known name.
    """
    model = subject.model
    if subject.anatomy.encoder:
        return model.cls
    norm, head = final_norm(model), model.get_output_embeddings()
    return lambda rows: vocabulary_logits(model, head(norm(rows)))


@torch.inference_mode()
def lens_statistics(
    read: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor, following: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Read states of all layers, the last of which says what the subject says.

    Parameters
    ----------
    read : callable
        From :func:`read_out`.
    states : Tensor of shape (n_tokens, layers, hidden)
        Residual stream.
    following : Tensor of shape (n_tokens,), int64
        The token after each.

    Returns
    -------
    statistics : ndarray of shape (n_tokens, layers, 3), float64
        See :data:`STATE_MEASURES`.
    surprise : ndarray of shape (n_tokens, layers), float64
        ``-ln p_l(following)``.

    Raises
    ------
    EvidenceError
        If a logit is not finite.
    """
    tokens, layers = states.shape[:2]
    statistics = torch.empty(tokens, layers, len(STATE_MEASURES), dtype=torch.float64)
    surprise = torch.empty(tokens, layers, dtype=torch.float64)
    vocabulary = read(states[:1, -1]).shape[-1]
    step = max(1, LOGITS_AT_ONCE // vocabulary)
    for start in range(0, tokens, step):
        own = slice(start, start + step)
        final = read(states[own, -1]).float().log_softmax(-1)
        said, choice = final.exp(), final.argmax(-1)
        for layer in range(layers):
            last = layer == layers - 1
            logs = final if last else read(states[own, layer]).float().log_softmax(-1)
            entropy = -(logs.exp() * logs).sum(-1)
            divergence = (said * (final - logs)).sum(-1)
            agreement = (logs.argmax(-1) == choice).to(entropy.dtype)
            statistics[own, layer] = (
                torch.stack([entropy, divergence, agreement], -1).double().cpu()
            )
            chosen = logs.gather(-1, following[own, None]).squeeze(-1)
            surprise[own, layer] = -chosen.double().cpu()
    if not torch.isfinite(statistics).all():
        raise EvidenceError(
            "Logits of the lens must be finite. Some are not: load the subject in a wider type "
            "('dtype' of the subject)."
        )
    return statistics.numpy(), surprise.numpy()


def _check_intact(recordings: Sequence[Recording]) -> None:
    for recording in recordings:
        if recording.attributes.get("without"):
            raise EvidenceError(
                f"{recording.path}: a recording read through the logit lens must be of the intact "
                "subject, which is run again. This one was made with 'record.without'."
            )


def _batches(chosen: Iterator[Text], tokens: int) -> Iterator[list[Text]]:
    """Texts of similar length, from some that are read ahead."""
    waiting: list[Text] = []
    for text in chosen:
        waiting.append(text)
        if sum(map(len, waiting)) >= BATCHES_AHEAD * tokens:
            yield from _sorted(waiting, tokens)
            waiting = []
    yield from _sorted(waiting, tokens)


def _sorted(waiting: list[Text], tokens: int) -> Iterator[list[Text]]:
    for rows in similar_length_batches([len(text) for text in waiting], tokens, 0.1, tokens):
        yield [waiting[row] for row in rows]


@torch.inference_mode()
def _lens(
    subject: Subject, read: Callable[[torch.Tensor], torch.Tensor], batch: list[Text]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Statistics of every text, and surprise of its tokens but the first."""
    ids, real = pad([text.ids for text in batch], int(batch[0].ids[0]), left=False)
    ids, real = ids.to(subject.device), real.to(subject.device)
    kept: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> Callable:
        def hook(_module: object, args: tuple, kwargs: dict, output: object) -> None:
            if layer == 0:
                kept[INPUT] = args[0] if args else kwargs["hidden_states"]
            kept[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    with ExitStack() as stack:
        for layer, block in enumerate(blocks(subject.model)):
            stack.callback(block.register_forward_hook(keep(layer), with_kwargs=True).remove)
        # Padding comes last: no token of a decoder sees it, so only an encoder needs a mask.
        mask = {"attention_mask": real.long()} if subject.anatomy.encoder else {}
        trunk(subject.model)(input_ids=ids, use_cache=False, **mask)
    where = kept[len(kept) - 2].device  # of the last block, where the final normalisation is
    states = torch.stack([kept[layer].to(where)[real.to(where)] for layer in sorted(kept)], dim=1)
    following = ids.roll(-1, 1)[real].to(where)  # of the last token, which none follows, any
    statistics, surprise = lens_statistics(read, states, following)
    ends = np.cumsum([len(text) for text in batch])
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        yield statistics[start:end], surprise[start : end - 1]


def _by_phase(values: np.ndarray, spans: np.ndarray, phases: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of (n_tokens, layers, measures) over the tokens of each phase, and their numbers."""
    sums = np.zeros((phases, *values.shape[1:]))
    np.add.at(sums, spans, values)
    counts = np.bincount(spans, minlength=phases).astype(np.float64)
    return sums, counts[:, None, None]


def _unigram(
    recordings: Sequence[Recording], subject: Subject, split: str | None, phases: int
) -> np.ndarray:
    """Log-probability of a token after one of a phase, from trials outside the split."""
    counts = np.zeros((phases, subject.anatomy.vocabulary))
    others = [~chosen_rows(recording.trials, split) for recording in recordings]
    if not any(rows.any() for rows in others):
        return np.full_like(counts, np.nan)
    for text in texts(recordings):
        if split != text.trial["split"]:
            np.add.at(counts, (text.spans[:-1], text.ids[1:]), 1)
    counts += 1  # Laplace: a token that was never met has a probability too
    return np.log(counts / counts.sum(axis=1, keepdims=True))


def _profile(
    states: ClusteredMeans, targets: ClusteredMeans, phases: tuple[str, ...], layers: int
) -> xr.Dataset:
    dims, found = ("phase", "layer"), {}
    for names, means in ((STATE_MEASURES, states), (TARGET_MEASURES, targets)):
        values, errors = means.mean(), means.error()
        for place, name in enumerate(names):
            found[name] = (dims, values[..., place])
            found[f"{name}_error"] = (dims, errors[..., place])
    gained, error = found["information"][1], found["information_error"][1]
    flags = np.full(gained.shape, "", dtype="U10")
    flags[gained < -2 * np.nan_to_num(error)] = "negativity"
    if targets.clusters:
        flags[np.isnan(gained) & np.isfinite(found["cross_entropy"][1])] = "no_null"
    unigram = (gained + found["cross_entropy"][1])[:, -1]
    return xr.Dataset(
        {
            **found,
            "information_flags": (dims, flags),
            "unigram": ("phase", unigram),
            "tokens": ("phase", states.counts[:, 0, 0].astype(np.int64)),
            "targets": ("phase", targets.counts[:, 0, 0].astype(np.int64)),
        },
        coords={"phase": list(phases), "layer": np.arange(layers) + INPUT},
        attrs={"texts": states.clusters, "units": "nat"},
    )
