"""Looking at a subject while it reads: what each site shows of the tokens that count.

====================  ==========================================================================
site                  what a look holds
====================  ==========================================================================
``attention``         ``input``: what queries, keys and values are made from
``attention_output``  ``input``: the heads' outputs, one after another
``dense shared``      ``input`` of the MLP; ``gate``, ``up``, ``activation``, ``neurons``
``expert``            the same, one row for each pair of a token and an expert that it chose
``router``            ``input``: weights of the chosen experts, ``experts``: which they are
====================  ==========================================================================

Products of an MLP are computed again from its input where somebody wants them: that reads the same
in every architecture, and the subject's own pass stays untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmri.anatomy import Anatomy, output_of_router, routers
from lmri.anatomy.linears import Mlp, Projection, linears, mlps

SITES = ("attention", "attention_output", "dense", "expert", "shared", "router")

Site = tuple[int, str]
"""Layer, and one of :data:`SITES`."""


class Look:
    """What one site shows in one pass.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, channels)
        What the site is given, see the table of the module.
    experts : Tensor of shape (n_rows,), int64, optional
        Expert of each row; of a router of shape (n_rows, top_k).
    mlp : Mlp, optional
        Of a site with neurons.

    Attributes
    ----------
    input, experts
        As the parameters.
    """

    def __init__(self, rows: Tensor, experts: Tensor | None = None, mlp: Mlp | None = None) -> None:
        self.input = rows
        self.experts = experts
        self._mlp = mlp

    @cached_property
    def gate(self) -> Tensor:
        """Preactivations (n_rows, neurons): of the gate; without one, what ``up`` makes."""
        return self._product(self._mlp.gate or self._mlp.up)

    @cached_property
    def activation(self) -> Tensor:
        """The gate after its activation function (n_rows, neurons)."""
        return self._mlp.activation(self.gate)

    @cached_property
    def up(self) -> Tensor:
        """What the activation is multiplied with (n_rows, neurons); ones without a gate."""
        ones = torch.ones_like(self.gate)
        if self._mlp.gate is None:
            return ones
        return self._mlp.combine(ones, self._product(self._mlp.up))

    @cached_property
    def neurons(self) -> Tensor:
        """What ``down`` reads (n_rows, neurons): the product of both."""
        return self.activation * self.up

    def read_by(self, projection: str) -> Tensor:
        """Input of a projection of this site.

        Parameters
        ----------
        projection : str
            One of :data:`lmri.sparse.rules.PROJECTIONS`.

        Returns
        -------
        Tensor of shape (n_rows, channels)
            The neurons for ``down``, else the input.
        """
        return self.neurons if projection.endswith("down") else self.input

    def written(self, neurons: Tensor) -> Tensor:
        """Compute what ``down`` would write of other neurons, without its bias.

        Parameters
        ----------
        neurons : Tensor of shape (n_rows, neurons)
            Neurons.

        Returns
        -------
        Tensor of shape (n_rows, hidden)
            Their output.
        """
        return apply(self._mlp.down, neurons, self.experts, bias=False)

    def _product(self, projection: Projection) -> Tensor:
        return apply(projection, self.input, self.experts)


def apply(
    projection: Projection, rows: Tensor, experts: Tensor | None, *, bias: bool = True
) -> Tensor:
    """Compute a projection of rows, of the expert of each where there are several.

    Parameters
    ----------
    projection : Projection
        The projection.
    rows : Tensor of shape (n_rows, inputs)
        Inputs.
    experts : Tensor of shape (n_rows,), int64, or None
        Expert of each row.
    bias : bool
        Whether its bias is added.

    Returns
    -------
    Tensor of shape (n_rows, outputs)
        The products.
    """
    weight, shift = projection.weight, projection.bias if bias else None
    if experts is None:
        return F.linear(rows, weight, shift)
    made = rows.new_empty(len(rows), projection.outputs)
    for expert in experts.unique().tolist():
        own = experts == expert
        made[own] = F.linear(rows[own], weight[expert], None if shift is None else shift[expert])
    return made


class Observer:
    """Tells of every look during the passes of a subject.

    Parameters
    ----------
    tell : callable
        Called as ``tell(site, look)``; its tensors must not be changed.

    Attributes
    ----------
    counted : Tensor of shape (batch, tokens), bool
        Tokens that count, set before every pass.
    """

    def __init__(self, tell: Callable[[Site, Look], None]) -> None:
        self.counted = torch.empty(0, 0, dtype=torch.bool)
        self._tell = tell

    def see(
        self, site: Site, mlp: Mlp | None, module: nn.Module, given: tuple, named: dict
    ) -> None:
        """Pre-hook of a module that reads what the site is given."""
        rows = given[0] if given else next(iter(named.values()))
        kept = rows.reshape(-1, rows.shape[-1])[self._counted_on(rows)]
        self._tell(site, Look(kept, mlp=mlp))

    def see_experts(
        self, site: Site, mlp: Mlp, module: nn.Module, given: tuple, named: dict
    ) -> None:
        """Pre-hook of a group of experts."""
        given = (*given, *named.values())
        hidden, counted = given[0], self._counted_on(given[0])
        if not hasattr(
            module, "is_transposed"
        ):  # Llama 4: all tokens for each expert, mostly zeros
            scaled = hidden.reshape(module.num_experts, len(counted), -1)
            experts, tokens = (scaled.any(dim=-1) & counted).nonzero(as_tuple=True)
            self._tell(site, Look(scaled[experts, tokens], experts, mlp))
            return
        rows, chosen = hidden.reshape(len(counted), -1)[counted], given[1][counted]
        slots = (chosen < module.num_experts).nonzero()  # an index past the last is an empty slot
        self._tell(site, Look(rows[slots[:, 0]], chosen[slots[:, 0], slots[:, 1]], mlp))

    def see_router(
        self, site: Site, anatomy: Anatomy, module: nn.Module, given: tuple, output: tuple
    ) -> None:
        """Forward hook of a router."""
        _, weights, experts = output_of_router(anatomy.routing, output, anatomy.top_k)
        counted = self._counted_on(weights)
        self._tell(site, Look(weights[counted], experts[counted]))

    def _counted_on(self, values: Tensor) -> Tensor:
        # A subject may lie on several devices.
        return self.counted.flatten().to(values.device)


def sites_of(model: nn.Module) -> tuple[Site, ...]:
    """Sites of a model, layer by layer.

    Parameters
    ----------
    model : torch.nn.Module
        Language model.

    Returns
    -------
    tuple of (int, str)
        All sites that it has.
    """
    choosers = routers(model)
    return tuple(
        (layer, site)
        for layer, groups in mlps(model).items()
        for site in SITES
        if site.startswith("attention")
        or site in groups
        or (site == "router" and layer in choosers)
    )


@contextmanager
def observed(
    model: nn.Module, anatomy: Anatomy, sites: Collection[Site], tell: Callable[[Site, Look], None]
) -> Iterator[Observer]:
    """Look at sites during every pass inside the block; nothing of the passes changes.

    Parameters
    ----------
    model : torch.nn.Module
        Language model.
    anatomy : Anatomy
        Its anatomy.
    sites : collection of (int, str)
        Which sites.
    tell : callable
        See :class:`Observer`.

    Yields
    ------
    Observer
        Set its ``counted`` before each pass.
    """
    observer, projections, groups = Observer(tell), linears(model), mlps(model)
    with ExitStack() as stack:
        for layer, name in sites:
            site = (layer, name)
            if name == "router":
                see = partial(observer.see_router, site, anatomy)
                stack.callback(routers(model)[layer].register_forward_hook(see).remove)
                continue
            mlp = groups[layer].get(name)
            see = partial(observer.see_experts if name == "expert" else observer.see, site, mlp)
            part = "query" if name == "attention" else name
            module = projections[layer][part].module if mlp is None else mlp.up.module
            hook = module.register_forward_pre_hook(see, with_kwargs=True)
            stack.callback(hook.remove)
        yield observer
