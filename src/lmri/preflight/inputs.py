"""What can be checked of a study before any of its jobs runs.

A mistake in a table or a contrast would otherwise show only when hours of recording are done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
from transformers import PreTrainedTokenizerBase

from lmri.anatomy import (
    check_architecture,
    check_prompts,
    check_weights,
    describe,
    empty_model,
    load_tokenizer,
    read_configuration,
)
from lmri.checks import check_choice, quoted
from lmri.config import ConditionOptions, StudyConfig, needed_draws
from lmri.errors import ConfigError, LmriError
from lmri.intervene import check_plan
from lmri.localise import (
    Design,
    check_conditions,
    check_resolution,
    check_separation,
    check_shams,
    contrast_design,
    needed_quantity,
    parse_measure,
    plan_lines,
    size_check,
)
from lmri.preflight.asked import check_asked
from lmri.preflight.phases import check_phases
from lmri.record import check_observable, lesion
from lmri.score import deciding_scorers, study_scorers
from lmri.stimuli import make_stimuli
from lmri.subjects import Recipe
from lmri.world import build_tokenizer, make_world


def check_inputs(study: StudyConfig, source: str) -> dict[str, pd.DataFrame]:
    """Check the files of a study, its tables of stimuli, and whether its contrasts can be tested.

    Parameters
    ----------
    study : StudyConfig
        The study.
    source : str
        Where it is from; begins every message.

    Returns
    -------
    dict of str to DataFrame
        Stimuli of every task.

    Raises
    ------
    LmriError
        Naming the file or field: a subject without safetensors, or whose attention cannot be
        observed where a recorded quantity needs that, a table that cannot be used, a
        trial that a subject given by its folder cannot read, a contrast with an unknown condition,
        too few carriers for its test or carriers whose splits differ between its tasks, a
        hypothesis with too few null carriers for its sham maps or too few evaluation trials for
        its margin, a step of a base that training does not keep, or columns, conditions and
        numbers of units of experiments and questions that are not there.
    """
    study.check_files(source)
    study_scorers(study.scorers)
    deciding_scorers(study.deciding_scorers)
    _check_steps(study, source)
    for name, subject in study.subjects.items():
        check_observable(subject.load.attention, study.record.quantities, name)
        if subject.path is not None:
            check_weights(Path(subject.path))
            check_architecture(subject.path)
            _check_without(study, name, subject.path, source)
    tables = {
        name: make_stimuli(
            task=name, options=task, splits=study.splits, world=study.world, seed=study.seed
        )
        for name, task in study.tasks.items()
    }
    _check_shards(study, tables, source)
    _check_maps(study, source)
    for name, subject in study.subjects.items():
        if subject.path is not None:
            limits = study.record.max_new_tokens, subject.load.max_think_tokens
            check_prompts(Path(subject.path), name, tables, *limits)
    check_phases(study, tables, source)
    check_asked(study, tables, source)
    for name in study.contrasts:
        try:
            _check_contrast(study, name, tables)
        except LmriError as error:
            raise ConfigError(f"{source}: {error}") from None
    return tables


def planned(study: StudyConfig, tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    """Say how many trials and sham maps the claims of a study need, and which they have.

    Parameters
    ----------
    study : StudyConfig
        The study.
    tables : dict of str to DataFrame
        Stimuli of every task.

    Yields
    ------
    str
        A line each.
    """
    for contrast in study.hypotheses:
        yield from plan_lines(contrast, tables, study.evidence)
    if study.hypotheses and study.validate.shammed:
        yield _planned_shams(study)


def _planned_shams(study: StudyConfig) -> str:
    """Say whether a rank p can pass the correction, also of a claim that is the only one true."""
    secondary = study.validate.secondary(study.subjects)
    draws = study.evidence.sham_draws(study.claims)
    needed = needed_draws(secondary * study.claims, study.evidence.alpha)
    least = min(1.0, secondary * study.claims / (1 + draws))
    lead = f"           {secondary} secondary claims x {study.claims} findings: {draws} sham maps"
    if needed <= draws:
        return f"{lead} are enough for {study.evidence.alpha:g}, also if only one of them is true"
    return (
        f"{lead} give a corrected p of at least {least:.2g} if only one of them is true; "
        f"{needed} can give {study.evidence.alpha:g}"
    )


def _check_steps(study: StudyConfig, source: str) -> None:
    """Checkpoints of bases that the workflow trains must be among those that training keeps."""
    recipe = Recipe.from_dict(study.training)
    kept = {*recipe.base_checkpoints, recipe.base_steps}
    for name, subject in study.subjects.items():
        if subject.source == "base" and subject.step not in (None, *kept):
            raise ConfigError(
                f"{source}: 'subjects.{name}' must be of a step that its base keeps, one of "
                f"{', '.join(map(str, sorted(kept)))}. Got {subject.step}: add it to "
                "'training.base_checkpoints'."
            )


def _check_without(study: StudyConfig, name: str, path: str, source: str) -> None:
    """A subject must have the experts that it is recorded without."""
    plan = lesion(study.record)
    if not plan.units:
        return
    try:
        check_plan(plan, describe(empty_model(read_configuration(path))))
    except LmriError as error:
        raise ConfigError(f"{source}: 'record.without', subject '{name}': {error}") from None


def _check_shards(study: StudyConfig, tables: dict[str, pd.DataFrame], source: str) -> None:
    for name, table in tables.items():
        trials = int(table["split"].isin(study.record.splits).sum())
        if trials < study.record.shards:
            raise ConfigError(
                f"{source}: 'record.shards' must be at most the trials that are recorded of each "
                f"task. Got {study.record.shards} for the {trials} of task '{name}'."
            )


def _check_maps(study: StudyConfig, source: str) -> None:
    seen: dict[tuple[str, str, str], str] = {}
    for name in study.localise.maps:
        try:
            measure = parse_measure(name)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None
        parts = measure.kind, measure.quantity, measure.statistic
        if parts in seen:
            raise ConfigError(
                f"{source}: 'localise.maps' names one map twice: '{seen[parts]}' and '{name}'."
            )
        seen[parts] = name
        recorded = study.record.quantities
        if not measure.counted and needed_quantity(measure) not in recorded:
            raise ConfigError(
                f"{source}: the map '{name}' of 'localise.maps' needs "
                f"'{needed_quantity(measure)}' in 'record.quantities'. Got {quoted(recorded)}."
            )


def preview_tokenizer(study: StudyConfig, model: Path | None) -> PreTrainedTokenizerBase:
    """Tokenizer to show the stimuli of a study with, before anything was trained or fetched.

    Parameters
    ----------
    study : StudyConfig
        The study.
    model : Path or None
        Folder with a tokenizer; by default that of the first subject.

    Returns
    -------
    transformers.PreTrainedTokenizerBase
        The tokenizer.

    Raises
    ------
    ConfigError
        If the first subject is on the hub and no folder was given.
    """
    name, subject = next(iter(study.subjects.items()))
    folder = model or subject.path
    if folder is not None:
        return load_tokenizer(Path(folder))
    if subject.source == "hub":
        raise ConfigError(
            f"The tokenizer of subject '{name}' is on the hub: give a folder that holds it as "
            "--model."
        )
    return build_tokenizer(make_world(study.world.seed, study.world.size))


def _check_relabellings(
    study: StudyConfig, name: str, design: Design, selection: pd.DataFrame
) -> None:
    """Refuse a contrast that is too small for one of its maps: a two-sided one needs most."""
    two_sided = [own for own in study.localise.maps if parse_measure(own).two_sided]
    owner = f"'contrasts.{name}'" + (f" (map '{two_sided[0]}')" if two_sided else "")
    check_resolution(design, selection, study.evidence.alpha, owner, two_sided=bool(two_sided))


def _check_contrast(study: StudyConfig, name: str, tables: dict[str, pd.DataFrame]) -> None:
    contrast = study.contrasts[name]
    table = tables[contrast.task]
    carriers = [column for column in table.columns if column.startswith("carrier_")]
    selection = table[table["split"] == "selection"].reset_index(drop=True)
    design = contrast_design(
        contrast, selection, tuple(column.removeprefix("carrier_") for column in carriers)
    )
    _check_relabellings(study, name, design, selection)
    check_conditions(tables, contrast)
    causal = study.localise.causal
    if causal is not None and name in causal.contrasts:
        for key in ("correct", "wrong"):
            owner = f"'localise.causal' (task '{contrast.task}')"
            check_choice(getattr(causal, key), set(table.columns), key, owner, ConfigError)
    check_separation(tables, contrast)
    _check_claims(study, name, tables)
    if contrast.role == "hypothesis":
        draws = study.evidence.sham_draws(study.claims)
        if len(study.localise.phases) > 1:
            draws = max(draws, study.evidence.exploratory_shams)
        check_shams(design, selection, contrast.sham_condition, draws)
        problem = size_check(tables, contrast, study.evidence)
        if problem:
            raise ConfigError(
                f"'contrasts.{name}' cannot be tested: {problem}. Add items, enlarge the share of "
                "'splits.evaluation', or lower the number in 'evidence'."
            )


def _check_claims(study: StudyConfig, name: str, tables: dict[str, pd.DataFrame]) -> None:
    """Check the trials that claims of a hypothesis name."""
    contrast = study.contrasts[name]
    if contrast.role != "hypothesis":
        return
    for index, claim in enumerate(study.validate.claims):
        if claim.task is None:
            continue
        if claim.condition is not None:
            check_choice(
                claim.condition,
                set(tables[claim.task]["condition"]),
                "condition",
                f"'validate.claims.{index}' (task '{claim.task}')",
                ConfigError,
            )
        # As if they were a bystander: nothing evaluated may have been selected on.
        place = ConditionOptions(claim.task, claim.condition)
        check_separation(tables, replace(contrast, bystanders=(place,), transfer=None))
