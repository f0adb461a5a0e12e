"""What was read and what was skipped, by rule and by projection, apart for prefill and decoding.

Sums stay tensors on the device until somebody asks: counting costs a few small operations for every
rule and holds nothing up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from lmri.sparse.runtime.passes import PHASES, Pass


@dataclass(frozen=True)
class RuleCount:
    """Units that a rule let through, on tokens that are no padding and not exempt from it.

    Attributes
    ----------
    phase : str
        ``prefill`` or ``decode``.
    layer : int
        The layer.
    rule : str
        Name of the rule.
    site : str
        Projection, group of neurons, or ``attention``.
    units : int
        Channels, neurons, heads, slots of the router, or keys there were, over all tokens.
    kept : int
        Those that were used.
    """

    phase: str
    layer: int
    rule: str
    site: str
    units: int
    kept: int

    @property
    def sparsity(self) -> float:
        """Share that was skipped."""
        return 1 - self.kept / self.units if self.units else 0.0


@dataclass(frozen=True)
class ProjectionCount:
    """Weights of one projection that tokens were multiplied with.

    Attributes
    ----------
    phase : str
        ``prefill`` or ``decode``.
    layer : int
        The layer.
    projection : str
        One of :data:`lmri.sparse.rules.PROJECTIONS`.
    parameters : int
        Weights there were, once for every token.
    read : int
        Those whose product was needed: channels that were read times outputs that were computed.
    """

    phase: str
    layer: int
    projection: str
    parameters: int
    read: int


@dataclass(frozen=True)
class Total:
    """What all rules together let be skipped in one phase.

    Each token counts for itself, as in a pass over one row: rows of a batch that skip different
    weights read their union. Kernels do skip; masked products (a prefill, many rows, ``reference``)
    read everything, and this is what they need not.

    Attributes
    ----------
    tokens : int
        Tokens that are no padding.
    model : int
        Weights of all linear projections, routers and the output that one token is multiplied
        with in the dense model.
    governed : int
        Weights of projections under a rule, once for every token.
    read : int
        Those of them that were needed.
    flops_saved : int
        Two for every weight that was not.
    bytes_saved : int
        Bytes of these weights.
    """

    tokens: int
    model: int
    governed: int
    read: int
    flops_saved: int
    bytes_saved: int

    @property
    def sparsity(self) -> float:
        """Share of the governed weights that was skipped."""
        return 1 - self.read / self.governed if self.governed else 0.0

    @property
    def model_sparsity(self) -> float:
        """Share of all weights that was skipped."""
        if not self.tokens:
            return 0.0
        return (self.governed - self.read) / (self.model * self.tokens)


class Counts:
    """Sums of one session.

    Parameters
    ----------
    model : int
        Weights one token is multiplied with in the dense model.
    itemsize : int
        Bytes of a weight.
    enabled : bool
        Whether anything is counted.
    """

    def __init__(self, model: int, itemsize: int, enabled: bool) -> None:
        self.enabled = enabled
        self._model = model
        self._itemsize = itemsize
        self._rules: dict[tuple[str, int, str, str], list] = {}
        self._projections: dict[tuple[str, int, str], list] = {}
        self._tokens: dict[str, list] = {}

    def rules(self) -> list[RuleCount]:
        """Counts by phase, layer, rule and site."""
        return [RuleCount(*key, *found) for key, found in _settled(self._rules)]

    def projections(self) -> list[ProjectionCount]:
        """Counts by phase, layer and projection, of those under a rule."""
        return [ProjectionCount(*key, *found) for key, found in _settled(self._projections)]

    def total(self, phase: str) -> Total:
        """Sum up a phase.

        Parameters
        ----------
        phase : str
            ``prefill`` or ``decode``.

        Returns
        -------
        Total
            The sums; zeros where there was no such pass.
        """
        own = [count for count in self.projections() if count.phase == phase]
        governed = sum(count.parameters for count in own)
        read = sum(count.read for count in own)
        tokens = int(self._tokens.get(phase, [0])[0])
        skipped = governed - read
        saved = skipped * self._itemsize
        return Total(tokens, self._model, governed, read, 2 * skipped, saved)

    def clear(self) -> None:
        """Start again at zero."""
        for table in (self._rules, self._projections, self._tokens):
            table.clear()

    def add_tokens(self, now: Pass) -> None:
        """Count the tokens of a pass."""
        if self.enabled:
            _add(self._tokens, now.phase, real_rows(now))

    def add_rule(
        self, now: Pass, layer: int, rule: str, site: str, units: Tensor | int, kept: Tensor | int
    ) -> None:
        """Add units there were and units used, over the rows that a rule applies to."""
        _add(self._rules, (now.phase, layer, rule, site), units, kept)

    def add_projection(
        self, now: Pass, layer: int, name: str, parameters: Tensor | int, read: Tensor | int
    ) -> None:
        """Add weights there were and weights needed, over the real rows of a pass."""
        _add(self._projections, (now.phase, layer, name), parameters, read)


def real_rows(now: Pass) -> Tensor | int:
    """Count the rows of a pass that are no padding."""
    return now.rows if now.real is None else now.real.sum()


def real_sum(mask: Tensor, now: Pass) -> Tensor:
    """Sum a mask of shape (rows, n) over the rows that are no padding."""
    return (mask if now.real is None else mask & now.real[:, None]).sum()


def ruled_rows(now: Pass) -> Tensor | int:
    """Count the real rows of a pass that rules which depend on activity apply to."""
    if now.exempt is None:
        return real_rows(now)
    return _ruled(now).sum()


def ruled_sum(mask: Tensor, now: Pass) -> Tensor:
    """Sum a mask of shape (rows, n) over these rows."""
    if now.exempt is None:
        return real_sum(mask, now)
    return (mask & _ruled(now)[:, None]).sum()


def _ruled(now: Pass) -> Tensor:
    ruled = ~now.exempt[:, 0]
    return ruled if now.real is None else ruled & now.real


def _add(table: dict, key: object, *values: Tensor | int) -> None:
    held = table.get(key)
    if held is None:
        table[key] = list(values)
    else:
        # A new tensor for every sum: what was added may be a result that others hold.
        table[key] = [old + new for old, new in zip(held, values, strict=True)]


def _settled(table: dict) -> Iterator[tuple[tuple, tuple[int, ...]]]:
    order = sorted(table, key=lambda key: (PHASES.index(key[0]), *key[1:]))
    for key in order:
        yield key, tuple(int(value) for value in table[key])
