"""The typed configuration of a study: read, checked, and cut into the slices that stages read."""

from lmri.config.analyses import (
    BottleneckOptions,
    FollowOptions,
    InformationOptions,
    QuestionOptions,
    SparseOptions,
    plan_name,
)
from lmri.config.decoding import DecodeOptions, LabelOptions
from lmri.config.encoding import EncodeOptions
from lmri.config.experiments import (
    EXPERIMENTS,
    CopyTransitionOptions,
    ExperimentOptions,
    LanguageNetworkOptions,
    RetrievalHeadsOptions,
    SteeringOptions,
    VoidLayersOptions,
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
    WorldOptions,
)
from lmri.config.scoring import FunctionOptions, ScorersOptions
from lmri.config.slices import STAGES, read_stage, stage_slice
from lmri.config.study import StudyConfig, load_study
from lmri.config.validation import ClaimOptions, ValidateOptions

__all__ = [
    "RetrievalHeadsOptions",
    "CopyTransitionOptions",
    "LanguageNetworkOptions",
    "AlignOptions",
    "BottleneckOptions",
    "CausalOptions",
    "ClaimOptions",
    "ConditionOptions",
    "ConnectOptions",
    "ContrastOptions",
    "DecodeOptions",
    "EXPERIMENTS",
    "EncodeOptions",
    "EvidenceOptions",
    "ExperimentOptions",
    "FunctionOptions",
    "FollowOptions",
    "InformationOptions",
    "LabelOptions",
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
    "SteeringOptions",
    "StudyConfig",
    "SubjectOptions",
    "TaskOptions",
    "TemplateOptions",
    "ValidateOptions",
    "VoidLayersOptions",
    "WorldOptions",
    "load_study",
    "plan_name",
    "read_stage",
    "stage_slice",
]
