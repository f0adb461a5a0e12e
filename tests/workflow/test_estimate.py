"""What a study was told to take, against what it took."""

import pandas as pd
import pytest

from lmri.config import StudyConfig
from lmri.preflight.estimate import FACTOR, estimate_study

pytestmark = pytest.mark.slow

OF_THE_RUN = {"logs", "benchmarks", "report"}


@pytest.fixture(scope="module")
def told(small):
    return estimate_study(StudyConfig.from_dict(small))


def within(told: float, measured: float) -> bool:
    return told / FACTOR <= measured <= told * FACTOR


def test_disk_is_told_within_the_stated_factor(finished, told):
    study = finished.root / "results/small"
    files = [path for path in study.rglob("*") if path.is_file()]
    sizes = {path: path.stat().st_size for path in files}
    kept = [path for path in files if path.relative_to(study).parts[0] not in OF_THE_RUN]
    assert within(told.disk, sum(sizes[path] for path in kept))
    recordings = sum(sizes[path] for path in files if path.is_relative_to(study / "recordings"))
    assert within(told.stages.set_index("stage")["disk"]["record"], recordings)


def test_memory_is_told_within_the_stated_factor(finished, told):
    tables = (finished.root / "results/small/benchmarks").rglob("*.tsv")
    measured = max(pd.read_csv(path, sep="\t")["max_rss"].max() for path in tables) * 2**20
    assert within(told.memory, measured)


def test_every_job_was_told(finished, told):
    ran = list((finished.root / "results/small/benchmarks").rglob("*.tsv"))
    assert told.total_jobs == len(ran)
