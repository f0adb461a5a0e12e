"""Recordings in memory with planted labels: crossed places and years, and relations of places."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lmri.decode import Activity

SPANS = ["system", "content", "response"]
PHASES = ["content", "prompt_last", "response"]
STATISTICS = ["mean", "last"]


@pytest.fixture
def rng():
    """Random numbers that are the same in every test."""
    return np.random.default_rng(0)


def crossed(places=12, years=12, listed=(4, 4)):
    """Trials of a crossed grid; a trial is sensitive where its place and its year are listed."""
    names = {(True, True): "sensitive", (True, False): "near_miss_place"}
    names |= {(False, True): "near_miss_year", (False, False): "benign"}
    rows = []
    for place, year in product(range(places), range(years)):
        own = place < listed[0], year < listed[1]
        rows.append(
            {
                "trial": f"{place}:{year}",
                "condition": names[own],
                "split": "selection" if place % 2 else "calibration",
                "carrier_place": f"p{place:02d}",
                "carrier_year": f"y{year:02d}",
                "class_place": "sensitive" if own[0] else "null",
                "class_year": "sensitive" if own[1] else "null",
            }
        )
    return pd.DataFrame(rows)


def entities(count=40, classes=("a", "b"), trials=1):
    """Trials of entities, each of one condition."""
    rows = [
        {
            "trial": f"{number}:{repeat}",
            "condition": classes[number % len(classes)],
            "split": "selection" if number % 4 < 2 else "calibration",
            "carrier_entity": f"e{number:03d}",
            "class_entity": classes[number % len(classes)],
        }
        for number in range(count)
        for repeat in range(trials)
    ]
    return pd.DataFrame(rows)


def relations(places=12, names=("capital", "river", "dish")):
    """Every place in every condition."""
    rows = [
        {
            "trial": f"{place}:{name}",
            "condition": name,
            "split": "selection" if place % 2 else "calibration",
            "carrier_place": f"p{place:02d}",
            "class_place": "null",
        }
        for place, name in product(range(places), names)
    ]
    return pd.DataFrame(rows)


def recorded(trials, states, prompt, tokens=True):
    """Make the tree of a recording from states (trial, token, layer, dim), NaN after the end.

    The first token is system, those before the end of the prompt content, all others response.
    """
    count, longest, layers, width = states.shape
    known = np.isfinite(states).all(axis=(2, 3))
    span = np.ones((count, longest), dtype=np.uint8)
    span[:, 0] = 0
    span[np.arange(longest) >= np.asarray(prompt)[:, None]] = 2
    last = np.asarray(prompt) - 1
    masks = {
        "content": (span == 1) & known,
        "prompt_last": (np.arange(longest) == last[:, None]) & known,
        "response": (span == 2) & known,
    }
    pooled = np.full((count, len(PHASES), 2, layers, width), np.nan)
    for number, phase in enumerate(PHASES):
        for trial in range(count):
            own = states[trial, masks[phase][trial]]
            if len(own):
                pooled[trial, number] = own.mean(axis=0), own[-1]
    coords = {"phase": PHASES, "statistic": STATISTICS, "layer": np.arange(layers)}
    dims = ("trial", "phase", "statistic", "layer", "place", "dim")
    nodes = {
        "/": xr.Dataset(attrs={"spans": SPANS, "subject": "tiny", "task": "events"}),
        "/pooled/residual": xr.Dataset(
            {"residual": (dims, pooled[:, :, :, :, None])}, coords={**coords, "place": ["after"]}
        ),
    }
    table = trials.assign(n_prompt=prompt, repeat=0)
    nodes["/trials"] = xr.Dataset(
        {name: ("trial", table[name]) for name in table if name != "trial"}
    )
    if tokens:
        trial, position = np.nonzero(known)
        index = {"trial": trial, "position": position, "phase": span[known]}
        nodes["/tokens/index"] = xr.Dataset({k: ("token", v) for k, v in index.items()})
        nodes["/tokens/residual"] = xr.Dataset(
            {"residual": (("token", "layer", "place", "dim"), states[known][:, :, None])},
            coords={"layer": np.arange(layers), "place": ["after"]},
        )
    tree = xr.DataTree.from_dict(nodes)
    return Activity(tree, "residual", table.reset_index(drop=True), np.arange(count))


@pytest.fixture(scope="session")
def make_trials():
    """Tables of trials by design."""
    return {"crossed": crossed, "entities": entities, "relations": relations}


@pytest.fixture(scope="session")
def record_states():
    """The function that makes activity from states."""
    return recorded
