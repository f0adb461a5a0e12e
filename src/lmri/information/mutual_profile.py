"""The information profile of a recording: estimates by layer and phase, each with its flags."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import xarray as xr
from scipy.stats import false_discovery_control

from lmri.checks import check_choice
from lmri.errors import EvidenceError
from lmri.information.estimate import FLAGS, UNIT, Estimate
from lmri.information.guards import SATURATED
from lmri.information.measuring import (
    Refused,
    Settings,
    measure,
    measure_choices,
)
from lmri.information.question import Question, Sample, sample_of
from lmri.information.readings import (
    POOLED,
    Trials,
    choice_rates,
    pooled_activity,
    select_trials,
)
from lmri.information.references import References
from lmri.store import Recording

KINDS = (*POOLED, "expert")
"""Kinds of activity: pooled ones, and the choice of experts."""

NUMBERS = {
    "value": "nat; never clipped at 0",
    "null_mean": "nat; mean where nothing is to be found",
    "null_sd": "nat",
    "null_upper": "nat; 95 % quantile of the null",
    "p": "(1 + draws as large) / (1 + draws)",
    "q": "p after Benjamini and Hochberg over layers",
    "low": "nat; lower limit of the interval",
    "high": "nat; upper limit of the interval",
    "sd": "nat; standard error",
    "freedom": "degrees of freedom of the standard error",
    "ceiling": "nat; the largest value the estimator can give",
    "saturation": "I(X;T) of the channel as a share of log n_distinct",
    "n": "trials",
    "n_distinct": "different trials, by their activity",
    "groups": "independent groups of trials",
}
"""Variables over (target, phase, layer, estimator), and what they are."""


def information_of(
    recordings: Sequence[Recording],
    questions: Sequence[Question],
    *,
    kind: str = "residual",
    phases: Sequence[str] = ("content_last", "prompt_last"),
    settings: Settings | None = None,
    split: str | None = "selection",
    conditions: Collection[str] | None = None,
    statistic: str = "mean",
    place: str = "after",
    inputs: str | None = None,
) -> xr.Dataset:
    """Estimate, layer by layer, what recorded activity tells of inputs and attributes of trials.

    Samples are trials, and what is exchanged and held out are the carriers of the attribute: never
    tokens.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of one subject and task.
    questions : sequence of Question
        Attributes.
    kind : str
        One of :data:`KINDS`: ``expert`` is the choice of experts; others are pooled activity.
    phases : sequence of str
        Phases of a trial.
    settings : Settings, optional
        Estimators and draws; not used for ``expert`` beyond its draws and seed.
    split, conditions
        Which trials, see :func:`lmri.information.readings.select_trials`.
    statistic, place : str
        See :func:`lmri.information.readings.pooled_activity`.
    inputs : str, optional
        Phase whose mean residual before the first block, the mean of its tokens' embeddings, stands
        for the inputs in ``pair``. It knows no order of the tokens.

    Returns
    -------
    Dataset
        Over (target, phase, layer, estimator): the variables of :data:`NUMBERS` (float64), NaN
        where an estimator refused; ``flagged`` (…, flag), bool, by :data:`FLAGS`; ``reasons`` and
        ``channel`` (JSON), text, empty where there is none; ``refused``, text. ``estimator`` has
        the name, the noise where it is swept, and the quantity: ``kt_upper 0.1 I(X;T)``;
        ``family`` how it works. ``saturation_scale`` (target, phase, layer): the most noise, in
        units of the layer's root mean square, at which ``kt_upper`` still tells every input from
        every other; layers are compared by it, not at one noise. 0 where there is none.

    Raises
    ------
    EvidenceError
        If there are no trials or questions, a name is unknown, or an attribute cannot be exchanged
        as it is asked.
    StoreError
        If the quantity was not recorded.
    """
    check_choice(kind, KINDS, "kind", "information", EvidenceError)
    settings = settings or Settings()
    if not questions or not phases:
        raise EvidenceError("Information must be asked about an attribute and a phase. Got none.")
    trials = select_trials(recordings, split, conditions)
    known = None if inputs is None else _inputs(trials, inputs)
    rows = []
    for phase in phases:
        if kind == "expert":
            layers = choice_rates(trials, phase)
        else:
            layers = pooled_activity(trials, kind, phase, statistic=statistic, place=place)
        for question, layer, sample, found in _by_layer(
            layers, trials, questions, settings, phase, kind, known
        ):
            rows += [(question.target, phase, layer, sample, own) for own in found]
    return _dataset(rows, kind).assign_attrs(
        kind=kind,
        unit=UNIT,
        dtype=str(recordings[0].attributes.get("dtype", "")),
        split=split or "all",
        statistic=statistic,
        place=place if kind == "residual" else "",
        draws=settings.draws,
        seed=settings.seed,
    )


def _inputs(trials: Trials, phase: str) -> np.ndarray:
    """Mean of the residual before the first block: (n_trials, hidden)."""
    return next(pooled_activity(trials, "residual", phase, place="before"))[1]


def _by_layer(
    layers: Iterator[tuple[int, np.ndarray]],
    trials: Trials,
    questions: Sequence[Question],
    settings: Settings,
    phase: str,
    kind: str,
    inputs: np.ndarray | None,
) -> Iterator[tuple[Question, int, Sample, list[Estimate | Refused]]]:
    samples: dict[tuple, Sample] = {}
    for layer, values in layers:
        known = np.isfinite(values).all(axis=1)
        if inputs is not None:
            known &= np.isfinite(inputs).all(axis=1)
        present = np.flatnonzero(known)
        if not len(present):
            raise EvidenceError(
                f"Trials must have tokens in the phase '{phase}'. None of {len(values)} has: "
                "leave the phase out."
            )
        references = References(values[present], settings.seed)
        for question in questions:
            key = (question, present.tobytes())  # the same trials in every layer, as a rule
            if key not in samples:
                samples[key] = sample_of(trials, question, present, settings.draws, settings.seed)
            own = samples[key]
            if kind == "expert":
                yield question, layer, own, list(measure_choices(values[present], own))
            else:
                x = None if inputs is None else inputs[present]
                yield question, layer, own, measure(values[present], own, settings, x, references)


def _name(found: Estimate | Refused) -> str:
    if isinstance(found, Refused):
        return found.estimator
    swept = f" {found.channel['noise']:g}" if found.family == "kernel" else ""
    # What is compressed is named by that, as in the settings.
    short = {"kozachenko_leonenko": "compressed", "ksg1": "pair", "gaussian_copula": "copula"}
    name = short.get(found.estimator, found.estimator)
    return f"{name}{swept} {found.quantity}"


def _dataset(rows: list[tuple], kind: str) -> xr.Dataset:
    dims = ("target", "phase", "layer", "estimator")
    keys = [(target, phase, layer, _name(own)) for target, phase, layer, _, own in rows]
    labels = [list(dict.fromkeys(values)) for values in zip(*keys, strict=True)]
    shape = tuple(map(len, labels))
    numbers = {name: np.full(shape, np.nan) for name in NUMBERS}
    texts = {name: np.full(shape, "", dtype=object) for name in ("channel", "reasons", "refused")}
    flagged = np.zeros((*shape, len(FLAGS)), dtype=bool)
    family = dict.fromkeys(labels[-1], "")
    for key, (*_, sample, own) in zip(keys, rows, strict=True):
        at = tuple(names.index(value) for names, value in zip(labels, key, strict=True))
        if isinstance(own, Refused):
            texts["refused"][at] = own.reason
            continue
        family[key[-1]] = own.family
        for name, value in _numbers(own, sample).items():
            numbers[name][at] = value
        texts["channel"][at] = json.dumps(own.record()["channel"], sort_keys=True)
        texts["reasons"][at] = " ".join(flag.reason for flag in own.flags)
        flagged[at] = [own.has(name) for name in FLAGS]
    numbers["q"] = _over_layers(numbers["p"])
    variables = {name: (dims, own, {"what": NUMBERS[name]}) for name, own in numbers.items()}
    variables |= {name: (dims, own.astype(str)) for name, own in texts.items()}
    variables["flagged"] = ((*dims, "flag"), flagged)
    coords = {**dict(zip(dims, labels, strict=True)), "flag": list(FLAGS)}
    coords["family"] = ("estimator", list(family.values()))
    found = xr.Dataset(variables, coords=coords, attrs={"kind": kind})
    return found.assign(saturation_scale=_saturation_scale(found))


def _over_layers(p: np.ndarray) -> np.ndarray:
    """Correct p (target, phase, layer, estimator) over layers; NaN is no test."""
    q = np.full(p.shape, np.nan)
    for target, phase, _, estimator in np.ndindex(*p.shape[:2], 1, p.shape[3]):
        own = p[target, phase, :, estimator]
        tested = np.isfinite(own)
        if tested.any():
            q[target, phase, tested, estimator] = false_discovery_control(own[tested])
    return q


def _saturation_scale(found: xr.Dataset) -> xr.DataArray:
    scale = xr.zeros_like(found["value"].isel(estimator=0, drop=True))
    for name in found["estimator"].values:
        words = str(name).split()
        if words[0] == "kt_upper" and words[-1] == "I(X;T)":
            full = found["saturation"].sel(estimator=name, drop=True) > SATURATED
            scale = np.maximum(scale, xr.where(full, float(words[1]), 0.0))
    return scale.assign_attrs(what="units of the layer's root mean square")


def _numbers(own: Estimate, sample: Sample) -> dict[str, float]:
    numbers = {
        "value": own.value,
        "ceiling": own.ceiling,
        "saturation": own.saturation,
        "n": own.n,
        "n_distinct": own.n_distinct,
        "groups": sample.independent,
    }
    if own.null is not None:
        numbers |= {"null_mean": own.null.mean, "null_sd": own.null.sd}
        numbers |= {"null_upper": own.null.upper, "p": own.null.p}
    if own.interval is not None:
        numbers |= {"low": own.interval.low, "high": own.interval.high, "sd": own.interval.sd}
        numbers |= {"freedom": own.interval.freedom}
    return {name: np.nan if value is None else float(value) for name, value in numbers.items()}
