"""The typed configuration of a study: read, checked, and cut into the slices that stages read."""

from lmri.config.analyses import (
    BottleneckOptions,
    InformationOptions,
    QuestionOptions,
    SparseOptions,
    plan_name,
)
from lmri.config.networks import AlignOptions, ConnectOptions
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
from lmri.config.scoring import FunctionOptions, ScorersOptions
from lmri.config.slices import STAGES, read_stage, stage_slice
from lmri.config.study import StudyConfig, load_study

__all__ = [
    "AlignOptions",
    "BottleneckOptions",
    "CausalOptions",
    "ConditionOptions",
    "ConnectOptions",
    "ContrastOptions",
    "EvidenceOptions",
    "FunctionOptions",
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
    "ScorersOptions",
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
