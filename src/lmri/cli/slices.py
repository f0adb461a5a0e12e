"""What the commands of all stages read: slices, provenance, plans."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lmri.errors import LmriError


def read_slice(options: argparse.Namespace, stage: str, **selectors: Any) -> dict[str, Any]:
    """Read what a stage may know of the configuration.

    Parameters
    ----------
    options : argparse.Namespace
        With ``config``: a study file, or the slice of the job as JSON.
    stage : str
        The stage.
    **selectors
        Subject, task and the like, as the stage is asked for them.

    Returns
    -------
    dict
        The slice.
    """
    from lmri.config import read_stage

    return read_stage(options.config, stage, **selectors)


def provenance_of(
    stage: str, values: dict[str, Any], seed: int, model: Path | None = None
) -> dict[str, object]:
    """Collect what every artefact of a command carries.

    Parameters
    ----------
    stage : str
        The stage.
    values : dict
        Its slice of the configuration.
    seed : int
        Seed of the stage.
    model : Path, optional
        Folder of a prepared subject; it is verified first.

    Returns
    -------
    dict
        The provenance.
    """
    from lmri.store import verify_store
    from lmri.store.provenance import provenance

    subject = None
    if model is not None:
        subject = verify_store(model, model.with_name(f"{model.name}.manifest.json"))["sha256"]
    return provenance(stage, values, seed, subject)


def plan_file(plans: Path | None, name: str) -> Path | None:
    """Path of the sparse plan that a stage runs under.

    Parameters
    ----------
    plans : Path or None
        Folder of the subject's plans.
    name : str
        Name of the plan, empty for none.

    Returns
    -------
    Path or None
        The file.

    Raises
    ------
    LmriError
        If a plan is named and no folder given.
    """
    if not name:
        return None
    if plans is None:
        raise LmriError(f"--plans must be given: the study runs findings under '{name}'.")
    return plans / f"{name}.json"
