"""Which plan and which trial each row of a batch is, while a subject runs under plans."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch

from lmri.anatomy import Anatomy
from lmri.intervene.rules import Place
from lmri.intervene.tables import CompiledPlans, UnitTable


class Session:
    """Plans in force inside :func:`lmri.intervene.intervened`.

    Attributes
    ----------
    rows : Tensor of shape (batch,), int64
        The plan of each row of the batch that is run next, by its position in the plans. One for
        all rows need not be repeated, unless its mode tells trials or tokens apart.
    keys : Tensor of shape (batch,) or (1,), int64
        Number of each row's trial, see :func:`trial_keys`: modes that draw do so by it.
    first : Tensor of shape (batch,) or (1,), int64
        Position of the first token of the next pass in each row's text; below 0 for padding.
    reached : Tensor of shape (batch,) or (1,), int64
        The same of the pass after it.
    """

    def __init__(self, plans: CompiledPlans, anatomy: Anatomy) -> None:
        self.plans = plans
        self.anatomy = anatomy
        self.rows = torch.zeros(1, dtype=torch.int64)
        self.keys = torch.zeros(1, dtype=torch.int64)
        self.first = torch.zeros(1, dtype=torch.int64)
        self.reached = self.first

    def place(self, table: UnitTable, device: torch.device, tokens: int) -> Place:
        """Where the tokens of the batch are, (batch, tokens) or shapes that spread to it.

        Parameters
        ----------
        table : UnitTable
            Of a layer's units, in one group.
        device : torch.device
            Where the activity is.
        tokens : int
            Tokens of each row.

        Returns
        -------
        Place
            The places.
        """
        row = table.row_of[self.rows.to(device), 0].unsqueeze(1)
        positions = self.first.to(device).unsqueeze(1) + torch.arange(tokens, device=device)
        return Place(row, self.keys.to(device).unsqueeze(1), positions, table.layer)

    def place_pairs(
        self, table: UnitTable, tokens: torch.Tensor, experts: torch.Tensor, n_tokens: int
    ) -> Place:
        """Where pairs of a token and an expert are, (n_pairs,).

        Parameters
        ----------
        table : UnitTable
            Of a layer's units, one group for each expert.
        tokens, experts : Tensor of shape (n_pairs,), int64
            Of every pair; tokens of all rows are counted through.
        n_tokens : int
            Tokens of the pass.

        Returns
        -------
        Place
            The places.
        """
        per_row = n_tokens // len(self.rows)
        of_row, within = tokens // per_row, tokens % per_row
        keys, first = (
            own.to(tokens.device).expand(len(self.rows))[of_row] for own in (self.keys, self.first)
        )
        row = table.row_of[self.rows.to(tokens.device)[of_row], experts]
        return Place(row, keys, first + within, table.layer)


def trial_keys(prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Number prompts by what is in them: the same in every batch and under every plan.

    Parameters
    ----------
    prompts : sequence of sequence of int
        Token ids.

    Returns
    -------
    Tensor of shape (n_prompts,), int64
        The numbers, not negative.
    """
    own = [zlib.crc32(np.asarray(prompt, dtype=np.int64).tobytes()) for prompt in prompts]
    return torch.tensor(own, dtype=torch.int64)
