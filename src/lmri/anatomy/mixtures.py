"""What a configuration says of experts: what is found in the modules must be the same.

The entries are those by which the modelling code of some architecture decides what it builds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from transformers import PretrainedConfig

EXPERTS = ("n_routed_experts", "moe_num_experts", "num_local_experts", "num_experts")
"""Entries for experts per layer; where there are several they are names of one."""

TOP_K = ("moe_k", "num_experts_per_tok")
"""Entries for experts per token."""

SHARED = ("n_shared_experts", "moe_num_shared_experts")
"""Entries for the number of shared experts, which may be 0; others have them in any case."""


def contradictions(
    config: PretrainedConfig,
    layers: Collection[int],
    experts: int,
    top_k: int,
    shared: Mapping[str, Collection[int]],
) -> Iterator[tuple[str, str]]:
    """Compare the experts of a model with its configuration.

    Parameters
    ----------
    config : transformers.PretrainedConfig
        Of an architecture with experts.
    layers : collection of int
        Layers in which they were found.
    experts, top_k : int
        How many of them, and of a token.
    shared : mapping of str to collection of int
        Layers by what belongs to shared experts, such as the path of their output projection.

    Yields
    ------
    expected, found : str
        What the configuration says, with its entries, and what is there instead.
    """
    wanted, entries = configured_layers(config)
    if tuple(layers) != wanted:
        yield f"experts in layers {_names(wanted)} ({entries})", f"them in {_names(layers)}"
    if not wanted:
        return
    for found, what, names in (
        (experts, "experts in a layer", EXPERTS),
        (top_k, "experts for a token", TOP_K),
    ):
        value, entry = _first(config, names)
        if value is not None and found != value:
            yield f"{value} {what} ({entry})", f"{found}"
    count, entry = _first(config, SHARED)
    for path, found in shared.items() if count != 0 else ():
        if tuple(found) != wanted:
            said = f"{count} shared experts ({entry})" if entry else "shared experts"
            yield f"{said}, '{path}' in layers {_names(wanted)}", f"it in {_names(found)}"


def configured_layers(config: PretrainedConfig) -> tuple[tuple[int, ...], str]:
    """Layers that have experts according to a configuration.

    Parameters
    ----------
    config : transformers.PretrainedConfig
        Of an architecture with experts.

    Returns
    -------
    layers : tuple of int
        Every layer, where the configuration has no entry that says otherwise.
    entries : str
        The entries that say so.
    """
    every = range(config.num_hidden_layers)
    if hasattr(config, "first_k_dense_replace"):
        return tuple(every[config.first_k_dense_replace or 0 :]), "first_k_dense_replace"
    if hasattr(config, "mlp_only_layers"):
        step = config.decoder_sparse_step
        sparse = [i for i in every if config.num_experts > 0 and (i + 1) % step == 0]
        layers = tuple(i for i in sparse if i not in (config.mlp_only_layers or ()))
        return layers, "mlp_only_layers, decoder_sparse_step"
    if hasattr(config, "moe_layer_interval"):
        within = range(config.moe_layer_start_index, config.moe_layer_end_index + 1)
        layers = tuple(i for i in every if i in within and (i + 1) % config.moe_layer_interval == 0)
        return layers, "moe_layer_start_index, moe_layer_end_index, moe_layer_interval"
    if hasattr(config, "moe_layers"):
        return tuple(config.moe_layers), "moe_layers"
    return tuple(every), "num_hidden_layers"


def _first(config: PretrainedConfig, entries: tuple[str, ...]) -> tuple[int | None, str]:
    for entry in entries:
        if (value := getattr(config, entry, None)) is not None:
            return value, entry
    return None, ""


def _names(layers: Collection[int]) -> str:
    return ", ".join(map(str, layers)) or "none"
