"""What the swapped modules need to know about the pass that runs: its rows, and their positions."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lmri.errors import SparseError
from lmri.sparse.kernels import MOST_ROWS

PHASES = ("prefill", "decode")
"""A pass over one token of every sequence is decoding; any other is a prefill."""


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass through the model, or the part of its rows that goes to one expert.

    Attributes
    ----------
    batch, tokens : int
        Sequences, and tokens of each.
    rows : int
        Rows of activations: ``batch * tokens``, or fewer in an expert.
    phase : str
        One of :data:`PHASES`.
    few : bool
        Whether kernels are used: at most :data:`lmri.sparse.kernels.MOST_ROWS` rows, none exempt.
    dense : bool
        Whether no rule that depends on activity applies.
    exempt : Tensor of shape (rows, 1), bool, or None
        Rows to which no such rule applies.
    real : Tensor of shape (rows,), bool, or None
        Rows that are not padding; None where all are.
    length : int
        Positions from the first of any sequence to the last of this pass, padding included.
    starts : Tensor of shape (batch,), int64, or None
        First position of every sequence that is not padding; None where it is 0 in all.
    """

    batch: int
    tokens: int
    rows: int
    phase: str
    few: bool
    dense: bool
    exempt: Tensor | None
    real: Tensor | None
    length: int
    starts: Tensor | None

    def part(self, rows: Tensor) -> Pass:
        """Give the pass as an expert sees it.

        Parameters
        ----------
        rows : Tensor of shape (n_rows,), int64
            Rows that go there, each once.

        Returns
        -------
        Pass
            With these rows.
        """
        if self.exempt is None and self.real is None:
            return replace(self, rows=len(rows))
        exempt = None if self.exempt is None else self.exempt[rows]
        real = None if self.real is None else self.real[rows]
        return replace(self, rows=len(rows), exempt=exempt, real=real)


class PassReader:
    """Reads off the arguments of the trunk what a pass is.

    Parameters
    ----------
    trunk : torch.nn.Module
        The model without its projection to the vocabulary.
    dense_tokens : int
        First tokens of every sequence that are computed densely.
    dense_prefill : bool
        Whether passes over many rows are computed densely.
    kernels : bool
        Whether the backend is another than ``reference``.
    positions_matter : bool
        Whether a pass must tell the positions of its tokens.
    """

    def __init__(
        self,
        trunk: nn.Module,
        dense_tokens: int,
        dense_prefill: bool,
        kernels: bool,
        positions_matter: bool,
    ) -> None:
        self.positions_matter = positions_matter
        self.signature = inspect.signature(trunk.forward)
        self.dense_tokens = dense_tokens
        self.dense_prefill = dense_prefill
        self.kernels = kernels

    def read(self, arguments: tuple, options: dict) -> Pass:
        """Describe a pass.

        Parameters
        ----------
        arguments : tuple
            Positional arguments of the trunk.
        options : dict
            The others.

        Returns
        -------
        Pass
            The pass.

        Raises
        ------
        SparseError
            If positions matter and the mask does not tell them.
        """
        given = options
        if arguments:
            given = self.signature.bind_partial(*arguments, **options).arguments
            given = {**given, **given.pop("kwargs", {})}
        ids = given.get("input_ids")
        first = given["inputs_embeds"] if ids is None else ids
        batch, tokens = first.shape[:2]
        mask = given.get("attention_mask")
        past = given.get("past_key_values")
        length = tokens + (0 if past is None else int(past.get_seq_length()))
        starts = real = None
        if isinstance(mask, Tensor) and mask.dim() == 2:
            real, starts = _unpadded(mask[:, :length].bool(), tokens)
        elif mask is not None:
            real, starts = self._by_position_ids(given.get("position_ids"), tokens, length)
        exempt = self._exempt(batch, tokens, length, starts, first.device)
        rows = batch * tokens
        dense = exempt is not None and bool(exempt.all())
        few = self.kernels and rows <= MOST_ROWS and exempt is None
        return Pass(
            batch=batch,
            tokens=tokens,
            rows=rows,
            phase="decode" if tokens == 1 else "prefill",
            few=few,
            dense=dense or (self.dense_prefill and rows > MOST_ROWS),
            exempt=None if dense else exempt,
            real=real,
            length=length,
            starts=starts,
        )

    def _by_position_ids(
        self, ids: Tensor | None, tokens: int, length: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Find the padding where the mask is another one, as ``generate`` makes it."""
        if ids is None:
            if self.positions_matter:
                raise SparseError(
                    "The 'attention_mask' of a model under a plan with dense first tokens, or with "
                    "heads that keep a part of the cache, must have the shape (batch, positions), "
                    "or come with 'position_ids': they tell where sequences begin. Got neither."
                )
            return None, None
        starts = length - 1 - ids[:, -1:]  # (batch, 1)
        return _unpadded(torch.arange(length, device=ids.device) >= starts, tokens)

    def _exempt(
        self, batch: int, tokens: int, length: int, starts: Tensor | None, device: torch.device
    ) -> Tensor | None:
        """Rows among the first tokens: (rows, 1), or None where there are none."""
        first = length - tokens
        if starts is None and first >= self.dense_tokens:
            return None
        positions = torch.arange(first, length, device=device).expand(batch, tokens)
        if starts is not None:
            positions = positions - starts[:, None].to(device)
        exempt = positions < self.dense_tokens
        return exempt.reshape(-1, 1) if exempt.any() else None


def _unpadded(held: Tensor, tokens: int) -> tuple[Tensor | None, Tensor | None]:
    """Rows that are no padding, and where sequences begin; None for all, and for 0.

    ``held`` of shape (batch, length) says which positions are no padding.
    """
    if held.all():
        return None, None
    starts = held.int().argmax(dim=1)  # (batch,)
    real = held[:, -tokens:].reshape(-1)
    return (None if real.all() else real), (starts if starts.any() else None)
