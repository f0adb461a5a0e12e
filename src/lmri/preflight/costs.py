"""What the stages of a study cost for one subject: seconds of a core or a GPU, and memory.

Work is counted from the sizes of the subject and of the study; what a unit of it costs is in
:mod:`lmri.preflight.coefficients`.
"""

from __future__ import annotations

from collections.abc import Iterable

from lmri.config import ContrastOptions, StudyConfig
from lmri.preflight import coefficients as per
from lmri.preflight.analysis_costs import analysis_costs
from lmri.preflight.reader import Reader, StageCost
from lmri.preflight.volumes import recorded, units_of, value_bytes
from lmri.subjects import Recipe

MODES = 3
"""Modes in which experts are switched off."""

MOST_SURVIVING = 500
"""Permutations, at most, of maps that are made again under a sparse plan."""


def subject_costs(study: StudyConfig, reader: Reader) -> list[StageCost]:
    """Estimate the stages that are run for each subject.

    Parameters
    ----------
    study : StudyConfig
        The study.
    reader : Reader
        The subject.

    Returns
    -------
    list of StageCost
        Only of stages that the study has.
    """
    costs = [_prepare(study, reader), _record(study, reader), _localise(study, reader)]
    if study.sparse.policies:
        costs += _sparse(study, reader)
    return [*costs, *analysis_costs(study, reader), _validate(study, reader)]


def _prepare(study: StudyConfig, reader: Reader) -> StageCost:
    source = reader.options.source
    stage = "fetch" if source == "hub" else "subject"
    seconds = per.START
    if source == "trained":
        recipe = Recipe.from_dict(study.training)
        seconds += reader.trained(recipe.state_steps * recipe.rows * recipe.length)
    disk = 0 if source == "directory" else reader.weight_bytes
    return StageCost(stage, seconds, False, per.PROCESS, disk)


def _record(study: StudyConfig, reader: Reader) -> StageCost:
    options, seconds, disk, most = study.record, 0.0, 0.0, 0.0
    for trials in reader.tasks.values():
        rows, tokens = recorded(trials, options)
        values = value_bytes(reader.anatomy, options, rows, tokens)
        # Once to answer, once to record prompt and response.
        seconds += options.shards * per.START + reader.passes(2 * tokens) + values * per.PER_BYTE
        disk += values * per.COMPRESSED
        if rows:
            batch = min(options.batch_tokens, options.rows * tokens / rows)
            most = max(most, batch * values / tokens)
    logits = min(options.batch_tokens, options.rows) * reader.anatomy.vocabulary * 4
    return StageCost("record", seconds, reader.on_gpu, reader.loaded + 2 * most + logits, disk)


def _maps(
    study: StudyConfig, reader: Reader, permutations: int, contrasts: Iterable[ContrastOptions]
) -> float:
    """Seconds of all maps of some contrasts."""
    seconds = 0.0
    for contrast in contrasts:
        trials = reader.tasks[contrast.task].count("selection")
        for name in study.localise.maps:
            units = units_of(name.partition(".")[0], reader.anatomy)
            cells = units * trials * permutations
            seconds += (per.PER_MAP + cells * per.PER_CELL) * len(study.localise.phases)
    return seconds


def _localise(study: StudyConfig, reader: Reader) -> StageCost:
    maps = len(study.contrasts) * len(study.localise.phases)
    units = sum(units_of(name.partition(".")[0], reader.anatomy) for name in study.localise.maps)
    seconds = per.START + _maps(
        study, reader, study.localise.permutations, study.contrasts.values()
    )
    for contrast in study.hypotheses:
        trials = reader.tasks[contrast.task]
        rows = trials.count("calibration") * len(study.evidence.doses) * len(study.localise.maps)
        seconds += reader.passes(rows * trials.prompt)
    disk = maps * (units * per.PER_UNIT + len(study.localise.maps) * per.PER_MAP_FILE)
    memory = reader.loaded + per.MAPPING
    return StageCost("localise", seconds, reader.on_gpu, memory, disk + per.PER_SUBJECT)


def _sparse(study: StudyConfig, reader: Reader) -> list[StageCost]:
    options, memory = study.sparse, reader.loaded
    plans = len(options.policies) * len(options.sparsities)
    calibrated = min(
        options.most_tokens, sum(recorded(t, study.record)[1] for t in reader.tasks.values())
    )
    length = max(t.prompt for t in reader.tasks.values()) + study.record.max_new_tokens
    run = (plans + 1) * options.trials * len(reader.tasks) * length
    costs = [
        StageCost(
            "calibrate", per.START + reader.passes(plans * calibrated), reader.on_gpu, memory, 0
        ),
        StageCost("sparse_run", per.START + reader.passes(2 * run), reader.on_gpu, memory, 0),
    ]
    if study.tested_tasks:
        costs += _survival(study, reader)
    return costs


def _survival(study: StudyConfig, reader: Reader) -> list[StageCost]:
    seconds, disk = 0.0, 0.0
    for task in study.tested_tasks:
        trials = reader.tasks[task]
        rows = trials.count("selection")
        tokens = rows * (trials.prompt + study.record.max_new_tokens)
        values = value_bytes(reader.anatomy, study.record, rows, tokens)
        seconds += per.START + reader.passes(2 * tokens) + values * per.PER_BYTE
        disk += values * per.COMPRESSED
    fewer = min(study.localise.permutations, MOST_SURVIVING)
    again = per.START + _maps(study, reader, fewer, study.hypotheses)
    memory = reader.loaded
    return [
        StageCost("record_sparse", seconds, reader.on_gpu, memory, disk),
        StageCost("survive", again, reader.on_gpu, memory + per.MAPPING, 0.0),
    ]


def _validate(study: StudyConfig, reader: Reader) -> StageCost:
    rule, tokens = study.evidence, 0.0
    for contrast in study.hypotheses:
        target = reader.tasks[contrast.task]
        others = [reader.tasks[name] for name in {part.task for part in contrast.bystanders}]
        whole = [target, *others]
        # The intact subject, the finding and its controls answer everything, with coherence.
        full = sum(t.count("evaluation") * (t.prompt + study.record.max_new_tokens) for t in whole)
        doses = MODES * len(rule.doses)
        draws = rule.sham_draws(study.claims) + (doses - 1) * (1 + rule.exploratory_shams)
        draws += 2 * len(rule.doses) * rule.matched_draws
        onset = draws * target.count("evaluation") * target.prompt / 4  # a fourth is the target
        few = study.validate.control_bystander_trials * len(contrast.bystanders)
        onset += few * rule.exploratory_shams * len(rule.doses) * target.prompt
        tokens += 2 * 2 * full + onset
    return StageCost(
        "validate",
        per.START + reader.passes(tokens),
        reader.on_gpu,
        reader.loaded + per.MAPPING,
        0.0,
    )
