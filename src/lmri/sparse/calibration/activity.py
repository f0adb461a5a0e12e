"""Passes of a subject over the texts of a calibration, and what they are reduced to.

Every reduction is a pass or two over the same texts in the same batches: nothing of a token is
kept. Activity is that of the dense model: a rule is not calibrated under the errors of others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from lmri.anatomy import Subject, pad, similar_length_batches, trunk
from lmri.anatomy.linears import Mlp, Projection, linears, mlps
from lmri.errors import SparseError
from lmri.sparse.calibration.looks import Look, Site, observed, sites_of
from lmri.sparse.calibration.selection import Selection, skipped_count
from lmri.sparse.calibration.texts import Texts
from lmri.sparse.plan import Calibration

LEAST_TOKENS = 256
"""Tokens below which a quantile of few channels means little."""

PADDING = 0.25
"""Share of a batch that may be padding; it never enters a number."""


@dataclass(frozen=True)
class Score:
    """A number for every channel or neuron of every token that counts.

    Attributes
    ----------
    site : (int, str)
        Where it is read.
    of : callable
        From a :class:`Look` to a tensor of shape (n_rows, n), not negative.
    """

    site: Site
    of: Callable[[Look], Tensor] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Batch:
    """Texts of one pass.

    Attributes
    ----------
    ids : Tensor of shape (batch, tokens), int64
        Token ids, padded on the right.
    real : Tensor of shape (batch, tokens), bool
        No padding.
    counted : Tensor of shape (batch, tokens), bool
        Real, and not among the first tokens that are left out.
    """

    ids: Tensor
    real: Tensor
    counted: Tensor


class Activity:
    """Activity of a subject on the texts of a calibration.

    Parameters
    ----------
    subject : Subject
        The subject.
    texts : Texts
        What it reads.
    left_out : int
        First tokens of every text that do not count: they hold the massive activity of attention
        sinks, see Sun et al. 2024, arXiv:2402.17762.
    batch_tokens : int
        Tokens of one pass, padding included.
    least_tokens : int
        Tokens that must count, at least.

    Attributes
    ----------
    subject, texts, left_out
        As the parameters.
    tokens : int
        Tokens that count.

    Raises
    ------
    SparseError
        If there are too few tokens.
    """

    def __init__(
        self,
        subject: Subject,
        texts: Texts,
        *,
        left_out: int = 1,
        batch_tokens: int = 2048,
        least_tokens: int = LEAST_TOKENS,
    ) -> None:
        self.subject, self.texts, self.left_out = subject, texts, left_out
        self.tokens = sum(max(0, len(own) - left_out) for own in texts.tokens)
        self._batch_tokens = batch_tokens
        if self.tokens < least_tokens:
            raise SparseError(
                f"A calibration needs at least {least_tokens} tokens after the first {left_out} of "
                f"every trial. Got {self.tokens} in {len(texts.trials)} trials: record more of the "
                "calibration split, or longer responses."
            )

    @property
    def calibration(self) -> Calibration:
        """What a plan made from this says about it."""
        return Calibration(self.texts.trials, self.tokens, self.left_out)

    @cached_property
    def linears(self) -> dict[int, dict[str, Projection]]:
        """Projections of the subject by layer and name."""
        return linears(self.subject.model)

    @cached_property
    def mlps(self) -> dict[int, dict[str, Mlp]]:
        """What has neurons, by layer and group."""
        return mlps(self.subject.model)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Sites of the subject."""
        return sites_of(self.subject.model)

    def batches(self, most_tokens: int | None = None) -> Iterator[Batch]:
        """Yield the texts, shortest first, each batch as it was the last time.

        Parameters
        ----------
        most_tokens : int, optional
            Tokens of a batch, where fewer are wanted than of a pass.

        Yields
        ------
        Batch
            Texts of similar length; a longer one is a batch of its own.
        """
        most = min(self._batch_tokens, most_tokens or self._batch_tokens)
        lengths = [len(own) for own in self.texts.tokens]
        filler = self.subject.tokenizer.pad_token_id or 0
        for rows in similar_length_batches(lengths, len(lengths), PADDING, most):
            ids, real = pad([self.texts.tokens[row] for row in rows], filler, left=False)
            counted = real.clone()
            counted[:, : self.left_out] = False
            on = self.subject.device
            yield Batch(ids.to(on), real.to(on), counted.to(on))

    @torch.inference_mode()
    def run(self, batch: Batch) -> None:
        """Read one batch; what is observed is up to the hooks there are.

        Parameters
        ----------
        batch : Batch
            Of :meth:`batches`.
        """
        # Padding comes last: no token of a decoder sees it, so only an encoder needs a mask.
        masked = self.subject.anatomy.encoder and not bool(batch.real.all())
        mask = {"attention_mask": batch.real.long()} if masked else {}
        trunk(self.subject.model)(input_ids=batch.ids, use_cache=False, **mask)

    def look(self, tell: Mapping[Site, Sequence[Callable[[Look], None]]]) -> None:
        """Run all texts once and show each site to its listeners.

        Parameters
        ----------
        tell : mapping of (int, str) to sequence of callable
            Called with the :class:`Look` of their site, once for every batch.
        """

        def spread(site: Site, look: Look) -> None:
            if len(look.input):
                for listener in tell[site]:
                    listener(look)

        with self._observed(tell, spread) as observer:
            for batch in self.batches():
                observer.counted = batch.counted
                self.run(batch)

    @contextmanager
    def _observed(self, sites: Mapping, tell: Callable[[Site, Look], None]) -> Iterator:
        missing = [site for site in sites if site not in self.sites]
        if missing:
            raise SparseError(
                f"The subject '{self.subject.name}' has no '{missing[0][1]}' in layer "
                f"{missing[0][0]}."
            )
        with observed(self.subject.model, self.subject.anatomy, list(sites), tell) as observer:
            yield observer

    def order_statistics(
        self, scores: Mapping[Hashable, Score], shares: Mapping[Hashable, float]
    ) -> dict[Hashable, Tensor]:
        """Find thresholds that skip exactly a share of the values: ``v <= t``.

        ``t`` is the value of rank ``floor(share * n)`` of all n values of a score, tokens and
        channels pooled; 0 where that rank is 0. Equal values at the threshold are all skipped.

        Parameters
        ----------
        scores : mapping of hashable to Score
            What is ranked.
        shares : mapping of hashable to float
            Share in [0, 1) of every score.

        Returns
        -------
        dict of hashable to Tensor of shape (), float32
            Thresholds. A score without any row has none: it is left out.
        """
        return self._ranked(scores, shares, above=0)

    def least_kept(
        self, scores: Mapping[Hashable, Score], shares: Mapping[Hashable, float]
    ) -> dict[Hashable, Tensor]:
        """Find thresholds for rules that skip ``v < t``: the value one rank higher.

        Parameters
        ----------
        scores, shares
            As for :meth:`order_statistics`.

        Returns
        -------
        dict of hashable to Tensor of shape (), float32
            Thresholds: the least value that is kept.
        """
        return self._ranked(scores, shares, above=1)

    def coarse(self, scores: Mapping[Hashable, Score]) -> dict[Hashable, Selection]:
        """Count the values of scores once, see :meth:`Selection.coarse`.

        Equal scores, as of projections that read the same, are counted together and share one
        result.
        """
        selections = {score: Selection(score.site) for score in scores.values()}
        self.look(_grouped({s: s for s in selections}, lambda score: selections[score].count))
        found = {name: selections[score] for name, score in scores.items()}
        return {name: own for name, own in found.items() if own.total}

    def _ranked(
        self, scores: Mapping[Hashable, Score], shares: Mapping[Hashable, float], above: int
    ) -> dict[Hashable, Tensor]:
        selections = self.coarse(scores)
        ranks = {
            name: skipped_count(shares[name], own.total) + above for name, own in selections.items()
        }
        wanted: dict[Score, list[int]] = {}
        for name, rank in ranks.items():
            wanted.setdefault(scores[name], []).append(max(1, rank))
        own = {scores[name]: selection for name, selection in selections.items()}
        for score, selection in own.items():
            selection.seek(wanted[score])
        self.look(_grouped({s: s for s in own}, lambda score: own[score].refine))
        values = {
            (score, rank): value
            for score, selection in own.items()
            for rank, value in zip(wanted[score], selection.found(), strict=True)
        }
        # Of no value at all, none is skipped.
        return {
            name: values[scores[name], rank] if rank else torch.tensor(0.0)
            for name, rank in ranks.items()
        }

    def mean_squares(self, scores: Mapping[Hashable, Score]) -> dict[Hashable, Tensor]:
        """Mean squares of channels over tokens: ``E[v_i ** 2]``.

        Parameters
        ----------
        scores : mapping of hashable to Score
            What is squared; it may be negative.

        Returns
        -------
        dict of hashable to Tensor of shape (n,) or (experts, n), float64
            Of experts over the tokens routed to each; of one that none is routed to, the mean over
            all routed pairs.
        """
        sums = {name: _Sum(self._experts_at(score.site)) for name, score in scores.items()}
        self.look(_grouped(scores, lambda name: sums[name].add, with_experts=True))
        return {name: own.mean() for name, own in sums.items() if own.count is not None}

    def _experts_at(self, site: Site) -> int:
        return self.subject.anatomy.experts if site[1] == "expert" else 0


class _Sum:
    """Sums of squares of channels, of each expert on its own where there are several."""

    def __init__(self, experts: int) -> None:
        self.count: Tensor | None = None
        self._experts = experts
        self._squares: Tensor | None = None

    def add(self, values: Tensor, experts: Tensor | None) -> None:
        squares = values.double().square()
        if self._squares is None:
            self._squares = squares.new_zeros(max(1, self._experts), squares.shape[1])
            self.count = squares.new_zeros(max(1, self._experts), 1)
        rows = torch.zeros_like(values[:, 0], dtype=torch.int64)
        rows = experts if self._experts else rows
        self._squares.index_add_(0, rows, squares)
        self.count.index_add_(0, rows, torch.ones_like(squares[:, :1]))

    def mean(self) -> Tensor:
        pooled = self._squares.sum(0) / self.count.sum()
        means = torch.where(self.count > 0, self._squares / self.count, pooled).cpu()
        return means if self._experts else means[0]


def _grouped(
    scores: Mapping[Hashable, Score],
    listener: Callable[[Hashable], Callable],
    *,
    with_experts: bool = False,
) -> dict[Site, list[Callable[[Look], None]]]:
    """Listeners by site: what each score is of a look goes to its own listener."""
    found: dict[Site, list[Callable[[Look], None]]] = {}
    for name, score in scores.items():
        hear = partial(_hear, score.of, listener(name), with_experts)
        found.setdefault(score.site, []).append(hear)
    return found


def _hear(of: Callable, tell: Callable, with_experts: bool, look: Look) -> None:
    if with_experts:
        tell(of(look), look.experts)
    else:
        tell(of(look))
