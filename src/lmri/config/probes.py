"""Contradictions within a task that probes heads or units."""

from __future__ import annotations

from collections.abc import Iterator

from lmri.config.options import TaskOptions

PROBE_KEYS = ("probe", "words", "lengths", "depths")


def probe_problems(where: str, task: TaskOptions) -> Iterator[str]:
    """Find contradictions within the keys of a probe, and such keys where there is none.

    Parameters
    ----------
    where : str
        The key of the task.
    task : TaskOptions
        The task.

    Yields
    ------
    str
        One line: the key, what was got, what is allowed.
    """
    given = [key for key in PROBE_KEYS if getattr(task, key)]
    if task.source != "probe":
        for key in given:
            yield f"unknown key '{key}' in '{where}'. It is for tasks with source: probe."
        return
    if task.probe is None:
        yield f"missing key 'probe' in '{where}'. It is needed for a task with source: probe."
    for key in ("path", "carriers"):
        if getattr(task, key):
            yield f"unknown key '{key}' in '{where}'. It is for tasks with source: table."
    if task.depths and task.probe != "needle":
        yield f"unknown key 'depths' in '{where}'. It is for a task with probe: needle."
    if task.lengths and task.probe == "language":
        yield f"unknown key 'lengths' in '{where}'. It is for probe: repeated and probe: needle."
    if task.words != "plain" and task.template.kind != "none":
        yield (
            f"'{where}.template.kind' must be 'none' for a probe in words of the world, whose "
            f"prompts hold their template. Got '{task.template.kind}'."
        )
