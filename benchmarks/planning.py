"""A synthetic study of many subjects, to see what a large study costs before its jobs run."""

from __future__ import annotations

from typing import Any

TASKS = ("events", "events_second", "relations")


def large_study(subjects: int, contrasts: int) -> dict[str, Any]:
    """Make a study of the checkpoints of one model on a hub; nothing is fetched to plan it.

    Parameters
    ----------
    subjects : int
        Checkpoints.
    contrasts : int
        Contrasts, one of them a hypothesis.

    Returns
    -------
    dict
        A study, as read from YAML.
    """
    revisions = [f"step{1000 * i}" for i in range(1, subjects + 1)]
    hypothesis = {
        "role": "hypothesis",
        "task": "events",
        "target": ["sensitive"],
        "controls": ["near_miss_place", "near_miss_year", "benign"],
        "null_condition": "benign",
        "bystanders": [{"task": "relations"}],
    }
    others = {
        f"places_{i}": {
            "role": "negative_control",
            "task": "events",
            "random_split": {"condition": "benign", "carrier": "place", "seed": i},
        }
        for i in range(1, contrasts)
    }
    return {
        "study": "large",
        "subjects": {"pythia": {"source": "hub", "id": "some/model", "revisions": revisions}},
        "tasks": {task: {"source": "world"} for task in TASKS},
        "contrasts": {"refusal": hypothesis, **others},
        "information": {"measures": ["lens"]},
    }
