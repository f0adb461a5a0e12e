"""The planted subject, its trials, and findings about it."""

import pandas as pd
import pytest
from planted_model import make_subject, make_trials

from lmri.anatomy import Subject


@pytest.fixture(scope="session")
def planted_subject() -> Subject:
    """Says "no" to sensitive places and "ok" to others; a test must leave it as it was."""
    return make_subject()


@pytest.fixture(scope="session")
def planted_trials() -> pd.DataFrame:
    """Every place with every filler: half of the sensitive and of the null places to select on."""
    return make_trials()


def planted_finding(kind: str, units: list, shams: list, mode: str = "zero", **changes) -> dict:
    """A testable finding about the planted subject with everything that validation reads."""
    names = {
        "neuron": ("layer", "neuron"),
        "head": ("layer", "head"),
        "residual": ("layer", "dimension"),
        "layer": ("layer",),
    }[kind]
    shared = {"mode": mode, "dose": len(units), "score": "refusal_onset", "max_new_tokens": 3}
    finding = {
        "stage": "localise",
        "subject": "planted",
        "task": "events",
        "contrast": "refusal",
        "phase": "prompt_last",
        "kind": kind,
        "method": "welch_t",
        "role": "hypothesis",
        "status": "testable",
        "reason": "",
        "units": [dict(zip(names, unit, strict=True)) for unit in units],
        "secondary": {
            **shared,
            "doses": [len(units)],
            "modes": [mode],
            "draws": 3,
            "target": ["sensitive"],
            "controls": ["benign"],
            "interaction": None,
        },
        "controls": {"sham": shams, "layer_matched": {}, "load_matched": {}},
        "primary_endpoint": {
            **shared,
            "units": units,
            "margin": 0.1,
            "alpha": 0.05,
            "claims": 1,
            "minimum_trials": 30,
            "shams": max(len(shams), 19),
            "bystanders": [{"task": "events", "condition": "benign", "score": "exact"}],
            "transfer": None,
            "coherence": {"log_probability": -100.0, "repeats": 3, "share": 0.9},
        },
        "provenance": {},
    }
    return {**finding, **changes}


@pytest.fixture(scope="session")
def make_finding():
    """The function that makes a finding."""
    return planted_finding
