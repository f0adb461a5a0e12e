"""Drawings that were made already: pages show many of them again, under another key."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import signature
from typing import ParamSpec

import numpy as np
import pandas as pd
from markupsafe import Markup

MOST = 512
"""Drawings that are remembered, those used last: some ten megabytes."""

ANY = "\uffff"
"""Stands for the key of a drawing. XML has no such character, so no label of a drawing has it."""

Parameters = ParamSpec("Parameters")

_known: OrderedDict[bytes, str] = OrderedDict()


def drawn_once(draw: Callable[Parameters, Markup]) -> Callable[Parameters, Markup]:
    """Let a function that draws remember its drawings, whatever their keys.

    To draw takes most of the time of a report, and half of the drawings of one come twice: in the
    section of a subject and on the page of a contrast, for example.

    Parameters
    ----------
    draw : callable
        Depends on nothing but its arguments, which are data: numbers, text, arrays, tables,
        and sequences, mappings and dataclasses of them. One named ``key`` distinguishes the drawing
        from all others of the page.

    Returns
    -------
    callable
        Gives the same drawings.
    """
    parameters = signature(draw)

    @wraps(draw)
    def drawn(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Markup:
        bound = parameters.bind(*args, **kwargs)
        bound.apply_defaults()
        key, bound.arguments["key"] = bound.arguments["key"], ANY
        told = repr((draw.__module__, draw.__qualname__, _plain(bound.arguments)))
        name = hashlib.sha256(told.encode()).digest()
        if name not in _known:
            _known[name] = str(draw(*bound.args, **bound.kwargs))
        _known.move_to_end(name)
        if len(_known) > MOST:
            _known.popitem(last=False)
        return Markup(_known[name].replace(ANY, key))

    return drawn


def forget_drawings() -> None:
    """Forget all drawings, so that each is drawn anew."""
    _known.clear()


def _plain(value: object) -> object:
    """Write data so that what differs has another representation, however long it is."""
    if value is None or isinstance(value, (str, bytes, bool, int, float, np.generic)):
        return value
    if isinstance(value, np.ndarray):
        content = value.tolist() if value.dtype.hasobject else value.tobytes()
        return "array", value.dtype.str, value.shape, content
    if isinstance(value, pd.DataFrame):
        columns = [(name, _plain(value[name].to_numpy())) for name in value]
        return "table", _plain(value.index.to_numpy()), columns
    if is_dataclass(value):
        return type(value).__name__, [_plain(getattr(value, own.name)) for own in fields(value)]
    if isinstance(value, Mapping):
        return "mapping", [(_plain(name), _plain(own)) for name, own in value.items()]
    if isinstance(value, Sequence):
        return type(value).__name__, [_plain(own) for own in value]
    raise TypeError(f"a drawing of {type(value).__name__} cannot be remembered")
