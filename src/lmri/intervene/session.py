"""Which plan and which trial each row of a batch is, while a subject runs under plans."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch

from lmri.anatomy import Anatomy
from lmri.errors import LmriError
from lmri.intervene.rules import Place
from lmri.intervene.tables import CompiledPlans, ExpertTable, UnitTable


class Session:
    """Plans in force inside :func:`lmri.intervene.intervened`.

    Attributes
    ----------
    rows : Tensor of shape (batch,), int64
        The plan of each row of the batch that is run next, by its position in the plans. One for
        all rows need not be repeated, unless its mode or phase tells trials or tokens apart.
    keys : Tensor of shape (batch,) or (1,), int64
        Number of each row's trial, see :func:`trial_keys`: modes that draw do so by it.
    first : Tensor of shape (batch,) or (1,), int64
        Position of the first token of the next pass in each row's text; below 0 for padding.
    reached : Tensor of shape (batch,) or (1,), int64
        The same of the pass after it.
    prompts : Tensor of shape (batch,) or (1,), int64, or None
        Tokens of each row's prompt; needed by plans that act in a phase only.
    """

    def __init__(self, plans: CompiledPlans, anatomy: Anatomy) -> None:
        self.plans = plans
        self.anatomy = anatomy
        self.rows = torch.zeros(1, dtype=torch.int64)
        self.keys = torch.zeros(1, dtype=torch.int64)
        self.first = torch.zeros(1, dtype=torch.int64)
        self.reached = self.first
        self.prompts: torch.Tensor | None = None

    def acts(self, phase: str, positions: torch.Tensor) -> torch.Tensor:
        """Whether a phase has the tokens at positions of every row's text.

        Parameters
        ----------
        phase : str
            One of :data:`lmri.intervene.plans.PHASES` other than ``both``.
        positions : Tensor of shape (batch or 1, tokens), int64
            Positions.

        Returns
        -------
        Tensor of shape (batch or 1, tokens), bool
            True in the phase. Padding before a prompt counts as prompt.

        Raises
        ------
        LmriError
            If nobody said how long the prompts are.
        """
        if self.prompts is None:
            raise LmriError(
                f"A plan of the phase '{phase}' must know how long the prompts are. Got no "
                "'prompts' of the session: set them before the pass."
            )
        lengths = self.prompts.to(positions.device).unsqueeze(1)
        if phase == "prompt_last":
            return positions == lengths - 1
        return positions >= lengths if phase == "response" else positions < lengths

    def positions(self, device: torch.device, tokens: int) -> torch.Tensor:
        """Positions of the tokens of the next pass in each row's text, (batch or 1, tokens)."""
        return self.first.to(device).unsqueeze(1) + torch.arange(tokens, device=device)

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
        positions = self.positions(device, tokens)
        if table.phase != "both":
            row = torch.where(self.acts(table.phase, positions), row, 0)
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
        keys = self.keys.to(tokens.device).expand(len(self.rows))[of_row]
        positions = self.positions(tokens.device, per_row).expand(len(self.rows), -1)
        row = table.row_of[self.rows.to(tokens.device)[of_row], experts]
        if table.phase != "both":
            acts = self.acts(table.phase, positions).expand_as(positions)
            row = torch.where(acts[of_row, within], row, 0)
        return Place(row, keys, positions[of_row, within], table.layer)

    def tokens_of(self, table: ExpertTable, n_tokens: int, device: torch.device) -> torch.Tensor:
        """Which units of a table every token of the pass has, rows one after another.

        Parameters
        ----------
        table : ExpertTable
            Of the experts of a layer.
        n_tokens : int
            Tokens of the pass.
        device : torch.device
            Where the activity is.

        Returns
        -------
        Tensor of shape (n_tokens, units), bool
            Experts that the plan of the token's row names, where it acts.
        """
        per_row = n_tokens // len(self.rows)
        chosen = table.chosen.to(device)[self.rows.to(device)].repeat_interleave(per_row, dim=0)
        if table.phase == "both":
            return chosen
        acts = self.acts(table.phase, self.positions(device, per_row))
        return chosen & acts.expand(len(self.rows), -1).reshape(-1, 1)


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
