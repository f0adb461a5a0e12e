"""What a model without a row in the table seems to be made of, for the message that refuses it.

Guessed from shapes and a few words that all libraries share: whoever adds the row begins with it,
and the checks of :mod:`lmri.anatomy.sites` and the tests decide.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers import PretrainedConfig

from lmri.anatomy.architectures import ARCHITECTURES
from lmri.anatomy.mixtures import EXPERTS
from lmri.errors import SubjectError

NEEDED = ("blocks", "attention", "attention_output")
"""Fields of a row that every architecture has."""


def unknown_architecture(kind: str, name: str, model: nn.Module | None) -> SubjectError:
    """Write the error for an architecture that is not in the table.

    Parameters
    ----------
    kind : str
        ``model_type`` of its configuration.
    name : str
        Class of the model.
    model : torch.nn.Module or None
        The model, on any device; None if it could not be built.

    Returns
    -------
    SubjectError
        Naming the class, what was found and what is missing, and what to do.
    """
    found = {} if model is None else sites_by_structure(model)
    mixture = "router" in found or "experts" in found
    wanted = [*NEEDED, *(("router", "experts") if mixture else ("dense",))]
    present = ", ".join(f"{field}='{path}'" for field, path in found.items()) or "nothing"
    missing = ", ".join(field for field in wanted if field not in found) or "nothing"
    return SubjectError(
        f"The architecture of a subject must be one of {', '.join(ARCHITECTURES)}. Got '{kind}' "
        f"({name}). Found by its structure: {present}; missing: {missing}. Add a row to "
        "lmri.anatomy.architectures, see docs/architectures.md."
    )


def sites_by_structure(model: nn.Module) -> dict[str, str]:
    """Guess where the sites of a model are.

    Parameters
    ----------
    model : torch.nn.Module
        A model of transformers, on any device.

    Returns
    -------
    dict of str to str
        Paths by field of :class:`lmri.anatomy.Architecture`, those that were found. Layers may
        differ: the first that has a site counts.
    """
    config = model.config.get_text_config()
    lists = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers
    }
    if not lists:
        return {}
    blocks = max(lists, key=lambda path: sum(p.numel() for p in lists[path].parameters()))
    found = {"blocks": blocks}
    for block in lists[blocks]:
        for field, path in _sites(block, config):
            found.setdefault(field, path)
    return found


def _sites(block: nn.Module, config: PretrainedConfig) -> Iterator[tuple[str, str]]:
    below = {path: module for path, module in block.named_modules() if path}
    attention = [path for path, m in below.items() if "attention" in type(m).__name__.lower()]
    first = min(attention, key=len, default=None)
    if first is not None:
        yield "attention", first
    rest: dict[str, str] = {}
    for path, module in below.items():
        field = _field(path, module, first, config)
        if field in ("router", "experts"):
            yield field, path
        elif field is not None:
            rest[field] = path  # the output projection is the last that is declared
    yield from rest.items()


def _field(
    path: str, module: nn.Module, attention: str | None, config: PretrainedConfig
) -> str | None:
    """Field of a row that a module of a block fits."""
    experts = next((n for e in EXPERTS if (n := getattr(config, e, None))), None)
    shapes = [tuple(p.shape) for p in module.parameters(recurse=False)]
    listed = isinstance(module, nn.ModuleList) and len(module) == experts
    if experts and (listed or any(len(s) == 3 and s[0] == experts for s in shapes)):
        return "experts"
    if experts and (experts, config.hidden_size) in shapes:
        return "router"
    matrix = next((s for s in shapes if len(s) == 2), (0, 0))
    outputs = matrix[1 if type(module).__name__ == "Conv1D" else 0]
    if outputs != config.hidden_size:
        return None
    if attention is not None and path.startswith(f"{attention}."):
        return "attention_output"
    if "expert" in path:
        return "shared" if "shared" in path else None
    return "dense"
