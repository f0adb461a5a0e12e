"""What the report knows of a study: every artefact, and a list of those that are not there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd
import xarray as xr

from lmri.config import ContrastOptions, StudyConfig
from lmri.errors import AlteredError
from lmri.report.align.tables import Alignment
from lmri.report.bottleneck.tables import Bottleneck
from lmri.report.causal.maps import CausalMap
from lmri.report.connect.tables import Networks
from lmri.report.decode.tables import Decoding
from lmri.report.encoding.tables import Encoding
from lmri.report.examples.tables import StudyExamples
from lmri.report.experiments.tables import Experiments
from lmri.report.group import Group
from lmri.report.information.tables import Information
from lmri.report.kinds import MapName, Noun, common_noun
from lmri.report.layers.probes import Probes
from lmri.report.profiles import Profile
from lmri.report.reader import Problem
from lmri.report.sparsity.tables import Sparse
from lmri.store import CAUSAL_PHASE

ARMS = (
    *("subject", "contrast", "phase", "kind", "method", "arm", "mode", "dose", "draw", "primary"),
    *("task", "condition", "trial_role", "held_out", "score", "n", "n_carriers", "value", "intact"),
    *("effect", "low", "high", "units"),
)
TRANSCRIPTS = (
    *("subject", "contrast", "phase", "kind", "method", "trial", "condition", "prompt", "fact"),
    *("reference", "intact", "finding", "sham", "sham_draw"),
)
VERDICTS = (
    *("subject", "contrast", "phase", "kind", "method", "role", "status", "verdict", "reason"),
    "units",
    *("dose", "mode", "score", "n", "n_carriers", "intact", "value", "effect", "low", "high"),
    *("shams", "p", "p_corrected", "claims", "sham_mean", "sham_most", "positive_control"),
    *("positive_low", "positive_high", "bystanders_held", "bystanders", "worst_bystander"),
    *("worst_effect", "coherent", "checks", "finding_hash"),
)

CLAIMING_ROLES = ("hypothesis", "negative_control")
"""Roles of contrasts that get a verdict."""

FIRST_MAP = MapName("expert.resonance")
"""The map that a study makes if it names none."""


def claimed_map(config: StudyConfig, contrast: ContrastOptions) -> MapName | None:
    """Find the causal map that the verdict on a contrast is about.

    Parameters
    ----------
    config : StudyConfig
        The study.
    contrast : ContrastOptions
        One of its contrasts.

    Returns
    -------
    MapName or None
        That of ``localise.causal.primary``; None where the first of ``localise.maps`` is primary.
    """
    causal = config.localise.causal
    if causal is None or causal.primary is None or contrast.role not in CLAIMING_ROLES:
        return None
    return MapName(causal.primary) if contrast.name in causal.contrasts else None


@dataclass(frozen=True)
class OtherMap:
    """A map beside the primary one, reduced and whole; what could not be read is None."""

    name: MapName
    profile: Profile | None
    finding: dict | None
    map_path: str
    statistics: xr.Dataset | None


@dataclass(frozen=True)
class Scan:
    """One subject, contrast and phase; what could not be read is None.

    Attributes
    ----------
    contrast, phase : ContrastOptions, str
        What was compared, and where.
    statistics : Dataset or None
        The primary map.
    finding : dict or None
        Its finding.
    map_path, finding_path : str
        Where they are, relative to the study.
    name : MapName
        Which map is primary.
    profile : Profile or None
        The primary map as it is drawn.
    others : list of OtherMap
        Maps of other units; only of the first phase. Beside a causal map that is primary they are
        all maps of that phase.
    """

    contrast: ContrastOptions
    phase: str
    statistics: xr.Dataset | None
    finding: dict | None
    map_path: str
    finding_path: str
    name: MapName = FIRST_MAP
    profile: Profile | None = None
    others: list[OtherMap] = field(default_factory=list)

    @property
    def causal(self) -> bool:
        """Whether it is a causal map."""
        return self.phase == CAUSAL_PHASE

    @property
    def noun(self) -> Noun:
        """Words for the units of the primary map."""
        return self.name.noun


@dataclass(frozen=True)
class SubjectInputs:
    """All artefacts of one subject; tables that could not be read are empty.

    Attributes
    ----------
    name : str
        The subject.
    arms, transcripts, verdicts, claims : DataFrame
        Tables of its validation; no claims where its findings state none.
    card, manifest : dict
        What it is.
    scans : dict of str to list of Scan
        By contrast, the primary phase first: the causal map where it is what is claimed.
    causal : dict of str to list of CausalMap
        By contrast; empty where none were asked for.
    probes : Probes
        Maps of layers and heads that need no contrast.
    """

    name: str
    arms: pd.DataFrame
    transcripts: pd.DataFrame
    verdicts: pd.DataFrame
    card: dict
    manifest: dict
    scans: dict[str, list[Scan]]
    causal: dict[str, list[CausalMap]] = field(default_factory=dict)
    probes: Probes = field(default_factory=Probes)
    claims: pd.DataFrame = field(default_factory=pd.DataFrame)

    def path(self, table: str) -> str:
        """Path of a validation table, relative to the study."""
        return f"validation/{self.name}/{table}.parquet"

    def verdict(self, contrast: str, phase: str) -> dict | None:
        """Return the verdict on one contrast and phase, or None."""
        rows = self.verdicts[
            (self.verdicts["contrast"] == contrast) & (self.verdicts["phase"] == phase)
        ]
        return None if rows.empty else rows.iloc[0].to_dict()

    def recorded(self, contrast: str) -> list[Scan]:
        """Scans of a contrast that were made from recordings, those of the first phase first."""
        return [scan for scan in self.scans[contrast] if not scan.causal]

    def arms_of(self, scan: Scan, name: MapName) -> pd.DataFrame:
        """Arms of the finding of one map of a scan."""
        return _rows_of(self.arms, scan, name)

    def transcripts_of(self, scan: Scan) -> pd.DataFrame:
        """Transcripts of the finding of the primary map of a scan."""
        return _rows_of(self.transcripts, scan, scan.name)


@dataclass(frozen=True)
class StudyInputs:
    """All artefacts of a study.

    Attributes
    ----------
    config : StudyConfig
        The study.
    subjects : list of SubjectInputs
        In the order of the configuration.
    benchmarks : DataFrame
        One row per job: ``job``, ``seconds``, ``max_rss_mb``, ``path``.
    group : Group
        Tables over all subjects.
    sparse : Sparse
        Tables of sparse runs.
    information : Information
        Information and geometry by layer, and over checkpoints.
    bottleneck : Bottleneck
        Tables of small networks.
    networks : Networks
        Networks of units.
    alignment : Alignment
        What subjects share.
    decoding : Decoding
        What can be read from activity.
    problems : list of Problem
        What is missing or wrong.
    altered : list of AlteredError
        Those of the problems that somebody caused: no failed job explains them.
    comparisons : DataFrame
        Subjects of one base compared with each other.
    encoding : Encoding
        Features of stimuli against activity.
    experiments : Experiments
        What came of experiments.
    examples : StudyExamples
        What single units respond to.
    """

    config: StudyConfig
    subjects: list[SubjectInputs]
    benchmarks: pd.DataFrame
    group: Group = field(default_factory=Group)
    sparse: Sparse = field(default_factory=Sparse)
    information: Information = field(default_factory=Information)
    bottleneck: Bottleneck = field(default_factory=Bottleneck)
    networks: Networks = field(default_factory=Networks)
    alignment: Alignment = field(default_factory=Alignment)
    decoding: Decoding = field(default_factory=Decoding)
    problems: list[Problem] = field(default_factory=list)
    altered: list[AlteredError] = field(default_factory=list)
    comparisons: pd.DataFrame = field(default_factory=pd.DataFrame)
    encoding: Encoding = field(default_factory=Encoding)
    experiments: Experiments = field(default_factory=Experiments)
    examples: StudyExamples = field(default_factory=StudyExamples)

    @property
    def scans(self) -> list[Scan]:
        """Every subject, contrast and phase."""
        return [
            scan for subject in self.subjects for scans in subject.scans.values() for scan in scans
        ]

    def independent(self, names: Iterable[str]) -> list[str]:
        """Choose subjects that can replicate each other.

        Checkpoints of a series are one model: they count where there is nothing else, with the
        last of each series.

        Parameters
        ----------
        names : iterable of str
            Subjects that have what is compared.

        Returns
        -------
        list of str
            Those of them that count.
        """
        known, subjects = list(names), self.config.subjects
        alone = [name for name in known if subjects[name].series is None]
        if alone:
            return alone
        members = ([own.name for own in entries] for entries in self.config.series.values())
        present = ([name for name in series if name in known] for series in members)
        return [series[-1] for series in present if series]

    @property
    def noun(self) -> Noun:
        """Words for what the primary maps are of, over all subjects."""
        return self.noun_of(self.config.contrasts)

    def noun_of(self, contrasts: Iterable[str]) -> Noun:
        """Words for what the primary maps of some contrasts are of, over all subjects."""
        return common_noun(
            subject.scans[name][0].name.kind for name in contrasts for subject in self.subjects
        )

    @property
    def verdicts(self) -> pd.DataFrame:
        """All verdicts of the study, by subject; what was claimed before what must stay empty."""
        tables = [subject.verdicts for subject in self.subjects if len(subject.verdicts)]
        if not tables:
            return pd.DataFrame(columns=VERDICTS)
        table = pd.concat(tables, ignore_index=True)
        is_control = table["role"] == "negative_control"
        return pd.concat([table[~is_control], table[is_control]], ignore_index=True)


def _rows_of(table: pd.DataFrame, scan: Scan, name: MapName) -> pd.DataFrame:
    chosen = (table["contrast"] == scan.contrast.name) & (table["phase"] == scan.phase)
    chosen &= (table["kind"] == name.kind) & (table["method"] == name.method)
    return table[chosen]
