"""The typed configuration of a study: read, checked, and cut into the slices that stages read."""

from lmri.config.options import (
    SPLITS,
    ConditionOptions,
    ContrastOptions,
    EvidenceOptions,
    LoadOptions,
    LocaliseOptions,
    Options,
    RandomSplitOptions,
    RecordOptions,
    ReportOptions,
    SplitOptions,
    SubjectOptions,
    TaskOptions,
    TemplateOptions,
    ValidateOptions,
    WorldOptions,
)
from lmri.config.slices import STAGES, read_stage, stage_slice
from lmri.config.study import StudyConfig, load_study

__all__ = [
    "SPLITS",
    "STAGES",
    "ConditionOptions",
    "ContrastOptions",
    "EvidenceOptions",
    "LoadOptions",
    "LocaliseOptions",
    "Options",
    "RandomSplitOptions",
    "RecordOptions",
    "ReportOptions",
    "SplitOptions",
    "StudyConfig",
    "SubjectOptions",
    "TaskOptions",
    "TemplateOptions",
    "ValidateOptions",
    "WorldOptions",
    "load_study",
    "read_stage",
    "stage_slice",
]
