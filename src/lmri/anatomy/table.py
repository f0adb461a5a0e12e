"""The table ``lmri anatomy`` prints: sites with shapes and parameters, and what recording costs.

Made from the configuration alone: the model is built without weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from transformers import AutoConfig, PretrainedConfig

from lmri.anatomy.architectures import ARCHITECTURES
from lmri.anatomy.loading import auto_class
from lmri.anatomy.quantities import Variable, variables
from lmri.anatomy.sites import (
    Anatomy,
    architecture_of,
    attention_outputs,
    blocks,
    dense_outputs,
    describe,
    expert_groups,
    routers,
    shared_outputs,
)
from lmri.anatomy.structure import unknown_architecture
from lmri.anatomy.weights import DEQUANTISE, quantised_by
from lmri.errors import SubjectError

POOLED_BYTES = 4 * 5
"""Bytes of one unit in one phase: five statistics in float32."""

TABLE_PHASES = 5
"""Phases of a plain prompt."""


def read_configuration(model: str, revision: str | None = None) -> PretrainedConfig:
    """Read the configuration of a model.

    Parameters
    ----------
    model : str
        Folder in Hugging Face layout, or hub id.
    revision : str, optional
        Of a hub id.

    Returns
    -------
    PretrainedConfig
        The configuration; no code from the model's folder is run.

    Raises
    ------
    SubjectError
        If there is none, in one line.
    """
    try:
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SubjectError(
            f"{model}: must be a folder with a config.json, or the id of a model on the hub that "
            f"can be reached or was fetched before ({first})."
        ) from None


def empty_model(config: PretrainedConfig) -> nn.Module:
    """Build a model without weights.

    Parameters
    ----------
    config : PretrainedConfig
        Its configuration.

    Returns
    -------
    torch.nn.Module
        Language model on the meta device.

    Raises
    ------
    SubjectError
        If transformers has no language model for the configuration.
    """
    loader = auto_class(config, f"model type '{config.model_type}'")
    with torch.device("meta"):
        return loader.from_config(config)


def check_architecture(model: str) -> None:
    """Raise unless a model is of an architecture in the table; reads its configuration only.

    Parameters
    ----------
    model : str
        Folder in Hugging Face layout, or hub id.

    Raises
    ------
    SubjectError
        Naming the model and its architecture.
    """
    config = read_configuration(model).get_text_config()
    if config.model_type not in ARCHITECTURES:
        name = (config.architectures or ["no class given"])[0]
        error = unknown_architecture(config.model_type, name, _built(config))
        raise SubjectError(f"{model}: {error}")


def parameter_counts(model: nn.Module, anatomy: Anatomy) -> tuple[int, int]:
    """Count the parameters of a model, and those that any one token passes.

    Parameters
    ----------
    model : torch.nn.Module
        Language model, on any device.
    anatomy : Anatomy
        Its anatomy.

    Returns
    -------
    total, used : int
        Without the experts that a token is not routed to, the second.
    """
    total = _parameters(model)
    return total, total - _idle_parameters(model, anatomy)


def anatomy_table(model: nn.Module) -> str:
    """Describe a model in text: its sites, and the volume of every quantity.

    Parameters
    ----------
    model : torch.nn.Module
        Language model, on any device.

    Returns
    -------
    str
        Lines.

    Raises
    ------
    SubjectError
        As :func:`lmri.anatomy.describe`.
    """
    anatomy = describe(model)
    total, used = parameter_counts(model, anatomy)
    lines = [
        f"{type(model).__name__} ({anatomy.architecture})",
        f"{_number(total)} parameters, {_number(used)} of them for any one token",
        f"{anatomy.layers} layers, residual of {anatomy.hidden}, vocabulary of "
        f"{anatomy.vocabulary}, context of {anatomy.context or 'any length'}",
        "",
        *_columns([("site", "module", "layers", "shape", "parameters"), *_sites(model, anatomy)]),
        "",
        *_columns([_VOLUME_HEAD, *(_volume(v) for v in variables(anatomy))]),
        "",
        "Per million tokens: recorded in full (states and neurons as float16), before compression.",
        f"Per thousand trials: pooled over {TABLE_PHASES} phases, 5 statistics each. Neurons of",
        "experts are pooled by the expert that was chosen: how many depends on the trials.",
    ]
    if method := quantised_by(model.config.to_dict()):
        lines += ["", f"Its weights are quantised ({method}) and not recorded so: {DEQUANTISE}"]
    return "\n".join(lines)


NEVER_POOLED = ("router/expert_id", "router/weight", "router/selection")

_VOLUME_HEAD = (
    "quantity",
    "array",
    "per token",
    "type",
    "per million tokens",
    "per thousand trials",
)


def _built(config: PretrainedConfig) -> nn.Module | None:
    try:
        return empty_model(config)
    except Exception:  # noqa: BLE001 - it is refused anyway, whatever its values lead to
        return None


def _sites(model: nn.Module, anatomy: Anatomy) -> Iterable[tuple[str, ...]]:
    row = architecture_of(model)
    heads = f"{anatomy.heads} heads x {anatomy.head_size}"
    experts = f"{anatomy.experts} x {anatomy.expert_size} neurons, {anatomy.top_k} per token"
    everything = dict(enumerate(blocks(model)))
    for name, path, modules, shape in (
        ("block", row.blocks, everything, f"{' '.join(anatomy.places)} x {anatomy.hidden}"),
        ("attention output", row.attention_output, attention_outputs(model), heads),
        ("dense MLP output", row.dense, dense_outputs(model), f"{anatomy.neurons} neurons"),
        (f"router ({anatomy.routing})", row.router, routers(model), f"{anatomy.experts} logits"),
        ("experts", row.experts, expert_groups(model), experts),
        ("shared experts output", row.shared, shared_outputs(model), f"{anatomy.shared_size}"),
    ):
        if modules:
            count = sum(_parameters(module) for module in modules.values())
            yield name, str(path), _ranges(modules), shape, _number(count)


def _volume(variable: Variable) -> tuple[str, ...]:
    shape = " x ".join(
        f"{size} {dim}" for size, dim in zip(variable.shape, variable.dims, strict=True)
    )
    full = _bytes(variable.bytes_per_token * 1e6)
    never = variable.node == "extremes" or variable.path in NEVER_POOLED
    pooled = math.prod(variable.shape) * POOLED_BYTES * TABLE_PHASES * 1e3
    by_expert = variable.node == "expert_neuron"
    return (
        variable.quantity,
        variable.path,
        shape,
        variable.dtype,
        full,
        "-" if never else "by expert" if by_expert else _bytes(pooled),
    )


def _idle_parameters(model: nn.Module, anatomy: Anatomy) -> int:
    """Parameters of the experts that a token does not pass."""
    held = sum(_parameters(group) for group in expert_groups(model).values())
    return held * (anatomy.experts - anatomy.top_k) // anatomy.experts if held else 0


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _ranges(layers: Iterable[int]) -> str:
    """Write layers as ranges: 0-3, 5."""
    found: list[list[int]] = []
    for layer in layers:
        if found and layer == found[-1][1] + 1:
            found[-1][1] = layer
        else:
            found.append([layer, layer])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in found)


def _number(count: int) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {suffix}"
    return str(count)


def _bytes(count: float) -> str:
    for size, suffix in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {suffix}"
    return f"{count:.0f} B"


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
