"""What the analyses of a study cost beside recording, maps and validation: rough figures.

Each coefficient was taken from one study of ``config/studies/``; ``python -m benchmarks.scaling
--only stages --configfile … --results …`` compares them with another run.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmri.config import StudyConfig
from lmri.preflight import coefficients as per
from lmri.preflight.experiment_costs import experiment_cost
from lmri.preflight.reader import Reader, StageCost
from lmri.preflight.volumes import units_of
from lmri.subjects import Recipe

BANDS = 4
"""Bands of features that are tested where a study names none."""

NO_DISK = 0.0


def analysis_costs(study: StudyConfig, reader: Reader) -> Iterator[StageCost]:
    """Estimate the analyses that are run for each subject.

    Parameters
    ----------
    study : StudyConfig
        The study.
    reader : Reader
        The subject.

    Yields
    ------
    StageCost
        Only of analyses that the study has.
    """
    if study.informed_tasks:
        yield _information(study, reader)
    if study.encoded_tasks:
        yield _encode(study, reader)
    if study.decoded_tasks:
        yield _decode(study, reader)
    if study.connected_tasks:
        yield _connect(study, reader)
    if study.shown_tasks:
        seconds = per.START + per.PER_SHOWN * len(study.shown_tasks)
        yield StageCost("examples", seconds, reader.on_gpu, per.PROCESS + per.MAPPING, 1e6)
    if study.experiments:
        yield experiment_cost(study, reader)


def shared_costs(study: StudyConfig, readers: dict[str, Reader]) -> Iterator[tuple[str, StageCost]]:
    """Estimate what is run once for several subjects, or for none.

    Parameters
    ----------
    study : StudyConfig
        The study.
    readers : dict of str to Reader
        Its subjects.

    Yields
    ------
    name : str
        What a job is of: a seed, a setting, or all subjects.
    cost : StageCost
        Its cost.
    """
    recipe = Recipe.from_dict(study.training)
    trained = [own for own in readers.values() if own.options.source in ("trained", "base")]
    for seed in study.base_seeds:
        tokens = recipe.base_steps * recipe.rows * recipe.length
        seconds = per.START + trained[0].trained(tokens)
        yield str(seed), StageCost("base", seconds, False, per.PROCESS, trained[0].weight_bytes)
    own = study.bottleneck
    for setting in own.settings:
        seconds = per.START + own.epochs * own.initialisations * per.PER_EPOCH
        yield setting, StageCost("bottleneck", seconds, False, per.PROCESS, NO_DISK)
    if study.aligned_tasks:
        pairs = len(readers) * (len(readers) - 1) / 2
        of_each = len(study.aligned_tasks) * _phases(study, study.align.phases)
        of_each *= len(study.align.quantities)
        layers = max(reader.anatomy.layers for reader in readers.values())
        seconds = per.START + pairs * of_each * layers * per.PER_PAIR
        yield "all", StageCost("align", seconds, False, per.PROCESS + per.MAPPING, 1e6)


def _phases(study: StudyConfig, own: tuple[str, ...]) -> int:
    return len(own or study.localise.phases)


def _information(study: StudyConfig, reader: Reader) -> StageCost:
    own = study.information
    asked = [question.task for question in own.questions] or study.informed_tasks
    trials = sum(reader.tasks[task].count("selection") for task in asked)
    measured = len(own.measures) * trials * _phases(study, own.phases)
    seconds = per.START + per.PER_MEASURE * measured
    return StageCost("information", seconds, reader.on_gpu, reader.loaded + per.MAPPING, 1e6)


def _encode(study: StudyConfig, reader: Reader) -> StageCost:
    own = study.encode
    units = sum(units_of(kind, reader.anatomy) for kind in own.kinds)
    trials = sum(reader.tasks[name].count("selection") for name in study.encoded_tasks)
    fits = 1 + (len(own.bands) or BANDS) * own.draws
    cells = trials * units * _phases(study, own.phases) * len(own.levels)
    seconds = per.START + cells * fits * per.PER_FIT
    return StageCost("encode", seconds, reader.on_gpu, reader.loaded + per.MAPPING, 1e6)


def _decode(study: StudyConfig, reader: Reader) -> StageCost:
    own = study.decode
    positions = len(own.positions) or 2 * len(study.localise.phases)
    probes = len(study.decoded_tasks) * len(own.analyses) * positions * reader.anatomy.layers
    seconds = per.START + probes * per.PER_PROBE
    return StageCost("decode", seconds, False, per.PROCESS + per.MAPPING, 1e6)


def _connect(study: StudyConfig, reader: Reader) -> StageCost:
    own = study.connect
    graphs = len(study.connected_tasks) * len(own.kinds) * _phases(study, own.phases)
    seconds = per.START + graphs * per.PER_NETWORK
    return StageCost("connect", seconds, False, per.PROCESS + per.MAPPING, 1e6)
