"""Experts under rules: only those that a token still has are run, and sparsely inside."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lmri.anatomy.linears import Mlp
from lmri.errors import SparseError
from lmri.intervene.experts import BEFORE, Pairs
from lmri.sparse.masks import experts_run, weights_left
from lmri.sparse.rules import ExpertRatio, SkippedExperts
from lmri.sparse.runtime.neurons import MlpRules, SparseMlp
from lmri.sparse.runtime.passes import Pass
from lmri.sparse.runtime.products import Tools, check_rows


class SparseExperts:
    """Stands for the forward of the fused experts of one layer.

    Parameters
    ----------
    tools : Tools
        Of the session.
    mlp : Mlp
        The experts.
    rules : MlpRules
        Rules for their neurons and projections.
    ratio : ExpertRatio, optional
        Chosen experts that are skipped.
    skipped : SkippedExperts, optional
        For the counts alone: routers leave them out.
    """

    def __init__(
        self,
        tools: Tools,
        mlp: Mlp,
        rules: MlpRules,
        ratio: ExpertRatio | None = None,
        skipped: SkippedExperts | None = None,
    ) -> None:
        self.tools, self.mlp, self.ratio, self.skipped = tools, mlp, ratio, skipped
        self.experts = [SparseMlp(tools, mlp, rules, e) for e in range(mlp.down.experts)]

    def __call__(self, hidden: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        """Combine the outputs of the experts, as :func:`lmri.intervene.run_chosen`.

        Parameters
        ----------
        hidden : Tensor of shape (n_tokens, hidden)
            Input of the experts.
        indices : Tensor of shape (n_tokens, top_k), int64
            Chosen experts; the number of experts stands for an empty slot.
        weights : Tensor of shape (n_tokens, top_k)
            Their weights.

        Returns
        -------
        Tensor of shape (n_tokens, hidden)
            The routed output.
        """
        now = check_rows(self.tools.now(), hidden)
        indices, weights = self._by_ratio(indices, weights, now)
        self._count_slots(indices, now)
        top_k = indices.shape[1]
        ids = indices.reshape(-1)  # (pairs,)
        order = torch.sort(ids, stable=True).indices
        counts = torch.bincount(ids, minlength=len(self.experts) + 1).tolist()
        chosen = order[: sum(counts[: len(self.experts)])]  # empty slots sort last
        tokens = chosen // top_k
        outputs = self._run(hidden, tokens, chosen, counts, indices, now)
        weighted = outputs * weights.reshape(-1)[chosen].unsqueeze(-1)
        slots = weighted.new_zeros(ids.numel(), hidden.shape[-1])
        slots[chosen] = weighted
        return slots.view(*indices.shape, -1).sum(dim=1).to(hidden.dtype)

    def _run(
        self,
        hidden: Tensor,
        tokens: Tensor,
        chosen: Tensor,
        counts: list[int],
        indices: Tensor,
        now: Pass,
    ) -> Tensor:
        """Outputs of all pairs, by expert: (pairs, hidden)."""
        own = [(e, part) for e, part in enumerate(tokens.split(counts[:-1])) if len(part)]
        passes = [now.part(part) for _, part in own]
        for (expert, _), here in zip(own, passes, strict=True):
            self.experts[expert].count_kept(here)
        if hasattr(self.mlp.module, BEFORE):
            raise SparseError(
                "Neurons of experts must not be adjusted under rules for these experts, which "
                "never make all that their activation function reads. Name another mode."
            )
        change = getattr(self.mlp.module, "lmri_change", None)
        tap = getattr(self.mlp.module, "lmri_tap", None)
        if change is None and tap is None:
            outputs = [
                self.experts[expert](hidden[part], here)
                for (expert, part), here in zip(own, passes, strict=True)
            ]
            return torch.cat(outputs) if outputs else hidden[:0]
        # Someone looks at all neurons at once, or sets them: see lmri.intervene.experts.
        made = [
            self.experts[expert].full(self.experts[expert].neurons(hidden[part], here)[0])
            for (expert, part), here in zip(own, passes, strict=True)
        ]
        neurons = torch.cat(made) if made else hidden.new_zeros(0, self.mlp.neurons)
        if change is not None:
            experts = indices.reshape(-1)[chosen]
            neurons = change(neurons, Pairs(tokens, experts, len(hidden)))
        if tap is not None:
            slots = neurons.new_zeros(indices.numel(), neurons.shape[-1])
            slots[chosen] = neurons
            tap(slots.view(*indices.shape, -1), indices)
        outputs = []
        pieces = neurons.split([len(part) for _, part in own])
        for (expert, _), here, piece in zip(own, passes, pieces, strict=True):
            mlp = self.experts[expert]
            outputs.append(mlp.down(mlp.existing(piece), here))
        return torch.cat(outputs) if outputs else hidden[:0]

    def _by_ratio(self, indices: Tensor, weights: Tensor, now: Pass) -> tuple[Tensor, Tensor]:
        if self.ratio is None or now.dense:
            return indices, weights
        run, left = experts_run(self.ratio, weights), weights_left(self.ratio, weights)
        if now.exempt is not None:
            run, left = run | now.exempt, torch.where(now.exempt, weights, left)
        return indices.masked_fill(~run, len(self.experts)), left

    def _count_slots(self, indices: Tensor, now: Pass) -> None:
        """Count the slots that are empty, and the weights nobody needs because they are."""
        counts, mlp = self.tools.counts, self.mlp
        if not counts.enabled:
            return
        there = indices if now.real is None else indices[now.real]
        units, run = there.numel(), (there < len(self.experts)).sum()
        for rule in filter(None, (self.ratio, self.skipped)):
            counts.add_rule(now, mlp.layer, rule.name, mlp.group, units, run)
        for part in mlp.projections:
            counts.add_projection(now, part.layer, part.name, (units - run) * part.parameters, 0)


class SparseDenselyRouted(SparseExperts):
    """Stands for experts that get every token, scaled by 0 where they were not chosen (Llama 4).

    A token that an expert was not chosen for is not run.
    """

    def __call__(self, hidden: Tensor) -> Tensor:
        """Run every expert on its tokens.

        Parameters
        ----------
        hidden : Tensor of shape (experts * n_tokens, hidden)
            Scaled inputs, of one expert after another.

        Returns
        -------
        Tensor of the same shape
            Outputs; 0 where the input is.

        Raises
        ------
        SparseError
            If somebody sets or taps the neurons, which is done beside these experts.
        """
        if any(hasattr(self.mlp.module, name) for name in ("lmri_change", BEFORE, "lmri_tap")):
            raise SparseError(
                "Neurons of experts that all run on every token (Llama 4) must not be recorded or "
                "set under rules for these experts: it would be done without the rules."
            )
        by_expert = hidden.view(len(self.experts), -1, hidden.shape[-1])
        now = check_rows(self.tools.now(), by_expert[0])
        outputs = torch.zeros_like(by_expert)
        for expert, inputs in enumerate(by_expert):
            rows = inputs.any(dim=-1).nonzero()[:, 0]
            if len(rows):
                here = now.part(rows)
                self.experts[expert].count_kept(here)
                outputs[expert, rows] = self.experts[expert](inputs[rows], here)
        return outputs.view_as(hidden)


def experts_forward(
    tools: Tools,
    mlp: Mlp,
    rules: MlpRules,
    ratio: ExpertRatio | None,
    skipped: SkippedExperts | None,
) -> dict[nn.Module, Callable[..., Tensor]]:
    """Give what replaces the forward of the fused experts of one layer."""
    one_by_one = hasattr(mlp.module, "is_transposed")
    kind = SparseExperts if one_by_one else SparseDenselyRouted
    return {mlp.module: kind(tools, mlp, rules, ratio, skipped)}
