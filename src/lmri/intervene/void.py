"""Passing over void layers: at every token, those that hardly change the norm of the residual.

With ``d_l = ||h_l|| - ||h_{l-1}||`` of what layer l would pass on, the layer is void at a token if
``d_l < a (max_{j<l} d_j - min_{j<l} d_j)``, with the share ``a`` of its plan and no threshold
(0) for the first layer. A void layer passes on what it was given.

Source: Shemirani et al. 2025 (arXiv 2505.14467), with a = 0.8. The released code runs every layer
on the unchanged residual and takes the state after the last layer that is not void: an early exit,
token by token. Here the layers after a void one read what it was given, so that it is passed over
in truth; keys and values that its attention keeps for later tokens are made as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from lmri.intervene.session import Session
from lmri.intervene.tables import UnitTable


class VoidLayers:
    """Judges the layers of a pass, one after the other.

    Parameters
    ----------
    session : Session
        Plans, and which of them each row follows.
    tables : sequence of UnitTable
        Of layers in the mode ``void``; values are the shares.
    """

    def __init__(self, session: Session, tables: Sequence[UnitTable]) -> None:
        self._session = session
        self._tables = {
            layer: [table for table in tables if table.layer == layer]
            for layer in range(1 + max(table.layer for table in tables))
        }
        self._least = self._most = torch.zeros(0)

    @property
    def layers(self) -> range:
        """Layers that must be watched: all up to the last that may be void."""
        return range(len(self._tables))

    def change(self, layer: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """What to do at the end of a layer's block, see :func:`.points.changed_output`."""

        def judge(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
            added = after.float().norm(dim=-1) - before.float().norm(dim=-1)  # (batch, tokens)
            if layer == 0:
                self._least = self._most = added
            threshold = self._most - self._least
            passed = after
            for table in self._tables[layer]:
                own = table.to(after.device)
                at = self._session.place(own, after.device, after.shape[1])
                share = own.values[at.row, 0, 0]  # (batch, tokens)
                void = own.chosen[at.row, 0] & (added < share * threshold)
                passed = torch.where(void.unsqueeze(-1), before, passed)
            self._least = torch.minimum(self._least, added)
            self._most = torch.maximum(self._most, added)
            return passed

        return judge
