"""The typed configuration of a study: read, checked, and cut into the slices that stages read."""

from lmri.config.analyses import (
    BottleneckOptions,
    InformationOptions,
    QuestionOptions,
    SparseOptions,
    plan_name,
)
from lmri.config.encoding import EncodeOptions
from lmri.config.options import (
    SPLITS,
    CausalOptions,
    ConditionOptions,
    ContrastOptions,
    EvidenceOptions,
    LoadOptions,
    LocaliseOptions,
    Options,
    ProbeOptions,
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
    "BottleneckOptions",
    "CausalOptions",
    "ConditionOptions",
    "ContrastOptions",
    "EncodeOptions",
    "EvidenceOptions",
    "InformationOptions",
    "LoadOptions",
    "LocaliseOptions",
    "Options",
    "ProbeOptions",
    "QuestionOptions",
    "RandomSplitOptions",
    "RecordOptions",
    "ReportOptions",
    "SPLITS",
    "STAGES",
    "SparseOptions",
    "SplitOptions",
    "StudyConfig",
    "SubjectOptions",
    "TaskOptions",
    "TemplateOptions",
    "ValidateOptions",
    "WorldOptions",
    "load_study",
    "plan_name",
    "read_stage",
    "stage_slice",
]
