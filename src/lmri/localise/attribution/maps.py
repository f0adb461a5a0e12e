"""Attribution maps of a contrast: the one way in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
import xarray as xr

from lmri.anatomy import Subject, equal_length_batches
from lmri.checks import check_choice, check_range
from lmri.errors import LmriError
from lmri.localise.attribution.agreement import Agreement, agreement
from lmri.localise.attribution.inference import check_carriers, sign_flip_test
from lmri.localise.attribution.methods import (
    APPROXIMATE,
    LAST,
    METHODS,
    PATCHING,
    Batch,
    Grid,
    approximate,
    patch,
)
from lmri.localise.attribution.pairs import CARRIER, Pairs, render_pairs
from lmri.localise.attribution.roles import DEFAULT, role_masks
from lmri.localise.attribution.rules import RELP, RULES
from lmri.localise.attribution.tally import CarrierEffects, Scores
from lmri.localise.attribution.trace import Tracer, traced
from lmri.localise.attribution.units import Coordinates, residual_point, sites, unit_coordinates

ROLE_KINDS = ("residual", "attention", "mlp")
"""Kinds that have maps of layers by roles."""

PATCH = "patch"
"""Patching in both directions."""

METRICS = ("recovery", "logit_difference")
"""Share of the clean run's logit difference that is recovered, or the effect on it in logits."""


@dataclass(frozen=True)
class AttributionOptions:
    """What is attributed, and how.

    Attributes
    ----------
    methods : tuple of str
        Some of :data:`lmri.localise.attribution.METHODS`; patching is tested in both directions
        or not at all.
    kinds : tuple of str
        Kinds of units, keys of :data:`lmri.localise.attribution.KINDS`.
    role_kinds : tuple of str
        Kinds mapped by role, some of :data:`ROLE_KINDS`.
    roles : tuple of str
        Columns of those maps, see :mod:`lmri.localise.attribution.roles`.
    position : str
        Role at which units are patched.
    correct, wrong : str
        Columns whose first tokens are compared: of the clean and of the corrupted trial.
    rules : tuple of str
        Rules of RelP, see :mod:`lmri.localise.attribution.rules`.
    metric : str
        One of :data:`METRICS`.
    tolerance : float
        Smallest gap between the clean and the corrupted logit difference, in logits, for a pair
        to have a recovery.
    most_pairs : int or None
        Pairs, at most; None takes all.
    sample : int
        Units that are patched to tell how well an approximation does, where not all are.
    most_patched : int
        Units of a kind up to which all may be patched, since each takes a forward pass.
    rows : int
        Rows of a forward pass, at most.
    permutations : int
        Patterns of signs of the inference.
    """

    methods: tuple[str, ...] = METHODS
    kinds: tuple[str, ...] = ("expert", "head")
    role_kinds: tuple[str, ...] = ROLE_KINDS
    roles: tuple[str, ...] = DEFAULT
    position: str = "all"
    correct: str = "reference"
    wrong: str = "reference"
    rules: tuple[str, ...] = RELP
    metric: str = "recovery"
    tolerance: float = 0.1
    most_pairs: int | None = None
    sample: int = 64
    most_patched: int = 4096
    rows: int = 256
    permutations: int = 2000

    def check(self) -> None:
        """Raise :class:`LmriError` unless every value is allowed."""
        owner = "the attribution"
        for method in self.methods:
            check_choice(method, METHODS, "methods", owner)
        for kind in self.role_kinds:
            check_choice(kind, ROLE_KINDS, "role_kinds", owner)
        for rule in self.rules:
            check_choice(rule, RULES, "rules", owner)
        check_choice(self.metric, METRICS, "metric", owner)
        check_range(self.tolerance, "tolerance", owner, 1e-6)
        for name in ("rows", "permutations"):
            check_range(getattr(self, name), name, owner, 1)
        check_range(self.sample, "sample", owner, 3)


def attribution_maps(
    subject: Subject,
    trials: pd.DataFrame,
    target: Sequence[str],
    controls: Sequence[str],
    options: AttributionOptions,
    seed: int = 0,
    owner: str = "the attribution",
) -> dict[str, xr.Dataset]:
    """Attribute a contrast to units of a subject.

    Parameters
    ----------
    subject : Subject
        The subject; it is left as it was.
    trials : DataFrame
        Stimuli of one task, of the split that maps are made on.
    target, controls : sequence of str
        Conditions of the clean and of the corrupted trials.
    options : AttributionOptions
        What is attributed, and how.
    seed : int
        Seed of pairs, sampled units and signs.
    owner : str
        The contrast, for errors.

    Returns
    -------
    dict of str to Dataset
        By ``<kind>.<method>`` and ``<kind>_by_role.<method>``: ``score``, ``standard_error``,
        ``rank`` (layer, unit) or (layer, role); ``pair_score`` (pair, layer, ...) where small;
        ``carrier_effect`` (carrier, layer, ...), in logits and of both directions, with
        ``carrier_pairs`` (carrier), and what :func:`sign_flip_test` makes of it: ``t``, ``p``,
        ``p_max``, ``q``. A test of patching needs both directions among the methods. Direct
        attribution has no map by role: it is the last token's.

    Raises
    ------
    LmriError
        Naming what is wrong: an option, a column, pairs that cannot be made, units the subject
        does not have.
    """
    options.check()
    grids = _grids(subject, options)
    pairs = render_pairs(
        subject,
        trials,
        target,
        controls,
        correct=options.correct,
        wrong=options.wrong,
        most=options.most_pairs,
        seed=seed,
        owner=owner,
    )
    codes, carriers = _carriers(pairs)
    check_carriers(carriers["kind"].to_list(), owner)
    work = _Work(options, grids, codes, np.random.default_rng([seed, 44]))
    with traced(subject) as tracer:
        for batch in _batches(subject, pairs, options):
            work.take(tracer, batch)
    return work.maps(subject, pairs, carriers, owner, seed)


def _carriers(pairs: Pairs) -> tuple[np.ndarray, pd.DataFrame]:
    """Carriers of each pair, (n_pairs, n_kinds), and of every carrier its ``kind`` and name."""
    codes, found = [], []
    for column in (name for name in pairs.table if name.startswith(CARRIER)):
        own, names = pd.factorize(pairs.table[column])
        codes.append(own + len(found))
        found += [(column.removeprefix(CARRIER), str(name)) for name in names]
    return np.stack(codes, 1), pd.DataFrame(found, columns=["kind", "name"])


def _grids(subject: Subject, options: AttributionOptions) -> list[Grid]:
    grids = [Grid(kind, tuple(sites(subject, kind)), (options.position,)) for kind in options.kinds]
    for grid in grids:
        if set(options.methods) & set(PATCHING) and grid.size > options.most_patched:
            raise LmriError(
                f"The 'methods' of the attribution may patch at most 'most_patched' = "
                f"{options.most_patched} units of a kind, one forward pass each. Subject "
                f"'{subject.name}' has {grid.size} of the kind '{grid.name}': use 'relp', which "
                "patches a sample to tell how well it does, or raise 'most_patched'."
            )
    for kind in options.role_kinds:
        own = _role_sites(subject, kind)
        grids.append(Grid(f"{kind}_by_role", own, options.roles, by_role=True))
    return grids


def _role_sites(subject: Subject, kind: str) -> tuple:
    if kind != "residual":
        return tuple(sites(subject, kind))
    points = (residual_point(subject, layer, "before") for layer in range(subject.anatomy.layers))
    return tuple(Coordinates(point[1], point, 1) for point, _, _ in points)


def _batches(subject: Subject, pairs: Pairs, options: AttributionOptions) -> Iterator[Batch]:
    lengths = [len(prompt.ids) for prompt in pairs.clean]
    roles = [*dict.fromkeys((*options.roles, options.position, LAST))]
    # An eighth of the rows: a pass over patched units has several copies of each pair.
    for rows in equal_length_batches(lengths, max(1, options.rows // 8)):
        masks = np.stack([role_masks(roles, pairs.clean[i], pairs.corrupted[i]) for i in rows], 1)
        yield Batch(
            rows,
            *(
                torch.tensor([side[i].ids for i in rows], device=subject.device)
                for side in (pairs.clean, pairs.corrupted)
            ),
            torch.from_numpy(pairs.tokens[rows]).to(subject.device),
            {
                role: torch.from_numpy(mask).to(subject.device, subject.dtype)
                for role, mask in zip(roles, masks, strict=True)
            },
        )


class _Work:
    """What is added up for all maps, batch by batch."""

    def __init__(
        self,
        options: AttributionOptions,
        grids: list[Grid],
        codes: np.ndarray,
        rng: np.random.Generator,
    ) -> None:
        self.options, self.grids = options, grids
        tolerance = options.tolerance if options.metric == "recovery" else None
        self.approximations = [m for m in options.methods if m in APPROXIMATE]
        self.scores: dict[tuple[str, str], Scores] = {}
        self.effects: dict[tuple[str, str], CarrierEffects] = {}
        self.samples, self.truth = {}, {}
        for grid in grids:
            shape = len(grid.layers), grid.columns
            for method in options.methods:
                if not (grid.by_role and method == "direct"):
                    self.scores[grid.name, method] = Scores(shape, len(codes), tolerance)
            tested = [m for m in self.approximations if (grid.name, m) in self.scores]
            if set(PATCHING) <= set(options.methods):
                tested.append(PATCH)
            for method in tested:
                self.effects[grid.name, method] = CarrierEffects(shape, codes)
            if self.approximations and "patch_denoise" not in options.methods:
                size = min(options.sample, grid.size)
                self.samples[grid.name] = np.sort(rng.choice(grid.size, size, replace=False))
                self.truth[grid.name] = Scores((size,), len(codes), tolerance)
        self.differences = np.full((len(codes), 2), np.nan)

    def take(self, tracer: Tracer, batch: Batch) -> None:
        """Attribute a batch of pairs."""
        for column, ids in enumerate((batch.clean, batch.corrupted)):
            run = tracer.run(ids, batch.tokens)
            self.differences[batch.rows, column] = run.difference.double().cpu().numpy()
        gap = self.differences[batch.rows, 0] - self.differences[batch.rows, 1]
        for method in self.approximations:
            own = [grid for grid in self.grids if (grid.name, method) in self.scores]
            found = approximate(tracer, batch, own, method, self.options.rules)
            for grid, (denoise, noise) in zip(own, found, strict=True):
                self.scores[grid.name, method].add(batch.rows, denoise, gap)
                self.effects[grid.name, method].add(batch.rows, (denoise + noise) / 2)
        for grid in self.grids:
            self._patch(tracer, batch, grid, gap)

    def _patch(self, tracer: Tracer, batch: Batch, grid: Grid, gap: np.ndarray) -> None:
        rows, found = self.options.rows, {}
        for method in (m for m in self.options.methods if m in PATCHING):
            effects = patch(tracer, batch, grid, range(grid.size), rows, denoise=PATCHING[method])
            found[method] = effects.reshape(-1, len(grid.layers), grid.columns)
            self.scores[grid.name, method].add(batch.rows, found[method], gap)
        if (grid.name, PATCH) in self.effects:
            self.effects[grid.name, PATCH].add(batch.rows, sum(found.values()) / 2)
        if grid.name in self.samples:
            cells = self.samples[grid.name].tolist()
            effects = patch(tracer, batch, grid, cells, rows, denoise=True)
            self.truth[grid.name].add(batch.rows, effects, gap)

    def maps(
        self, subject: Subject, pairs: Pairs, carriers: pd.DataFrame, owner: str, seed: int
    ) -> dict[str, xr.Dataset]:
        """Label and test what was added up."""
        common = {
            "metric": self.options.metric,
            "tolerance": self.options.tolerance,
            "seed": seed,
            "clean_difference": float(self.differences[:, 0].mean()),
            "corrupted_difference": float(self.differences[:, 1].mean()),
            "one_logit_difference": int(len(np.unique(pairs.tokens, axis=0)) == 1),
            **_attributes(pairs),
        }
        maps = {}
        for grid in self.grids:
            for method in self.options.methods:
                scores = self.scores.get((grid.name, method))
                if scores is None:
                    continue
                data = _dataset(subject, grid, scores, owner)
                attributes = {
                    "kind": grid.name,
                    "method": method,
                    "direction": "noise" if method == "patch_noise" else "denoise",
                    "position": LAST if method == "direct" else ",".join(grid.roles),
                    "n_pairs": scores.used,
                    "n_guarded": len(pairs.table) - scores.used,
                }
                if method == "relp":
                    attributes["rules"] = ",".join(self.options.rules)
                if method in APPROXIMATE:
                    agreed = self._agreement(grid, scores, owner, seed)
                    attributes |= {f"patching_{k}": v for k, v in asdict(agreed).items()}
                effects = self.effects.get((grid.name, PATCH if method in PATCHING else method))
                if effects is not None:
                    data = _with_carriers(data, effects, carriers)
                    data = sign_flip_test(data, self.options.permutations, seed)
                maps[f"{grid.name}.{method}"] = data.assign_attrs(attributes | common)
        return maps

    def _agreement(self, grid: Grid, scores: Scores, owner: str, seed: int) -> Agreement:
        found = scores.mean(owner).reshape(-1)
        if grid.name in self.samples:
            truth, found = self.truth[grid.name].mean(owner), found[self.samples[grid.name]]
        else:
            truth = self.scores[grid.name, "patch_denoise"].mean(owner).reshape(-1)
        return agreement(found, truth, seed)


def _dataset(subject: Subject, grid: Grid, scores: Scores, owner: str) -> xr.Dataset:
    column = "role" if grid.by_role else "unit"
    dims, mean = ("layer", column), scores.mean(owner)
    rank = np.empty(mean.size, dtype=np.int32)
    rank[np.argsort(-mean, axis=None, kind="stable")] = np.arange(mean.size)
    variables = {
        "score": (dims, mean),
        "standard_error": (dims, scores.standard_error()),
        "rank": (dims, rank.reshape(mean.shape)),
    }
    if scores.pairs is not None:
        variables["pair_score"] = (("pair", *dims), scores.pairs)
    # Texts are objects: the store has no lasting form for those of a fixed length.
    labels = np.array(grid.roles, dtype=object) if grid.by_role else np.arange(grid.columns)
    further = {} if grid.by_role else unit_coordinates(subject, grid.name)
    coordinates = {name: (column, values) for name, values in further.items()}
    return xr.Dataset(variables, {"layer": grid.layers, column: labels, **coordinates})


def _with_carriers(data: xr.Dataset, effects: CarrierEffects, carriers: pd.DataFrame) -> xr.Dataset:
    variables = {
        "carrier_effect": (("carrier", *data["score"].dims), effects.means()),
        "carrier_pairs": ("carrier", effects.counts),
    }
    return data.assign(variables).assign_coords(
        carrier=(carriers["kind"] + ":" + carriers["name"]).to_numpy(object),
        carrier_kind=("carrier", carriers["kind"].to_numpy(object)),
    )


def _attributes(pairs: Pairs) -> dict[str, str]:
    differing = pairs.table["differs"].value_counts().sort_index().to_dict()
    return {"pairs_differ_in": json.dumps(differing), "dropped": json.dumps(pairs.dropped)}
