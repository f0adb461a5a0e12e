"""Synthetic studies, written exactly as ``docs/artefacts.md`` says."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from analysis_files import SECTIONS, write_analyses
from causal_files import CLAIM, CONTRAST, METHODS, TASKS, write_causal, write_claim, write_layers
from example_files import write_examples
from report_files import DIRECTIONS, HOSTILE, other_arms, write_group, write_other
from sparse_files import write_sparse

from lmri.config import CausalOptions, ProbeOptions, StudyConfig
from lmri.report import write_report
from lmri.store import manifest_text, write_finding, write_map, write_table

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ROOT = Path(__file__).parents[2]
DOSES = (1, 2, 4, 8)
UNITS = {
    "localised": [[2, 16], [2, 17], [1, 4], [0, 9], [2, 30], [1, 21], [0, 2], [1, 12]],
    "distributed": [[2, 8], [1, 27], [1, 3], [0, 11], [2, 25], [0, 29], [2, 5], [1, 14]],
}
PROVENANCE = {
    "lmri": "0.1.0",
    "stage": "report",
    "code": "c" * 64,
    "config": "d" * 64,
    "subject": None,
    "seed": 0,
    "python": "3.11.2",
    "libraries": {"numpy": "2.4.6", "torch": "2.13.0"},
}


@dataclass
class Words:
    """Everything in a study that others may have written."""

    prompt: str = "what happened in 1913 in vorlund ?"
    fact: str = "the miller found the lantern ."
    refusal: str = "I cannot talk about that ."
    reason: str = ""
    condition: str = "sensitive"
    detail: str = ""
    trial: str = "events:1"
    tokens: tuple[str, ...] = ()
    note: str = (
        "The shipped pair shows one base of each kind and was picked when the outcome was known."
    )


@pytest.fixture(scope="session")
def values() -> dict:
    """Return the default study as plain values."""
    content = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    return content | {"study": "fixture"}


@pytest.fixture(scope="session")
def config(values: dict) -> StudyConfig:
    return StudyConfig.from_dict(values)


@pytest.fixture(scope="session")
def exploring(config: StudyConfig) -> StudyConfig:
    """The study without its claims: few figures, for what does not depend on them."""
    kept = {name: c for name, c in config.contrasts.items() if c.role == "exploratory"}
    return replace(config, contrasts=kept)


@pytest.fixture(scope="session")
def causal_config(exploring: StudyConfig) -> StudyConfig:
    """The study without claims, with causal maps of one contrast and maps of layers."""
    causal = CausalOptions(
        contrasts=(CONTRAST,),
        methods=METHODS,
        kinds=("expert", "head", "residual", "feature"),
        role_kinds=("mlp",),
        metric="logit_difference",
    )
    localise = replace(exploring.localise, causal=causal, probes=ProbeOptions())
    tasks = {name: task for name, task in exploring.tasks.items() if name in TASKS}
    return replace(exploring, localise=localise, tasks=tasks)


@pytest.fixture(scope="session")
def causal_study(plain: Path, causal_config: StudyConfig, tmp_path_factory) -> Path:
    """Copy the study and add causal maps and layers; nothing is massive in the second subject."""
    folder = tmp_path_factory.mktemp("causal") / "fixture"
    shutil.copytree(plain, folder)
    for subject, massive in zip(causal_config.subjects, (2500.0, 30.0), strict=True):
        write_causal(folder, subject, CONTRAST, causal_config.localise.causal)
        write_layers(folder, subject, TASKS, largest=massive, hits=7 if massive > 100 else 0)
    return folder


@pytest.fixture(scope="session")
def claim_config(config: StudyConfig) -> StudyConfig:
    """The study with a causal map as the primary one of its hypothesis."""
    causal = CausalOptions(
        contrasts=("refusal",),
        methods=("relp", "patch_denoise"),
        kinds=("feature", "residual"),
        role_kinds=(),
        metric="logit_difference",
        shams=True,
        dictionary="features.safetensors",
        primary=CLAIM,
    )
    localise = replace(config.localise, causal=causal, maps=config.localise.maps[:2])
    kept = {name: config.contrasts[name] for name in ("refusal", "null_places")}
    return replace(config, localise=localise, contrasts=kept)


@pytest.fixture(scope="session")
def claim_study(plain: Path, claim_config: StudyConfig, tmp_path_factory) -> Path:
    """Copy the study and let a causal map take the place of its primary one."""
    folder = tmp_path_factory.mktemp("claim") / "fixture"
    shutil.copytree(plain, folder)
    write_claim(folder, claim_config)
    return folder


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, config: StudyConfig) -> Path:
    """Write a study with one confirmed and one refuted subject."""
    return write_study(tmp_path_factory.mktemp("plain") / "fixture", config, Words())


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory, config: StudyConfig) -> Path:
    """Write a study whose every free text tries to break the page."""
    markup, mathematics, long = HOSTILE
    turned = " ".join(DIRECTIONS)
    text = Words(
        prompt=f"{markup} {mathematics} {turned}",
        fact=f"{mathematics} {turned}",
        refusal=f"{markup}{long}{turned}",
        reason=f"{markup} {mathematics} {long} {turned}",
        condition=f"{mathematics} {markup} {turned}",
        detail=f"{long} {markup} {turned}",
        trial=f"{markup} {turned}",
        tokens=(*HOSTILE, *DIRECTIONS),
        note=f"{markup} {turned}",
    )
    return write_study(tmp_path_factory.mktemp("hostile") / "fixture", config, text)


def write_study(study: Path, config: StudyConfig, text: Words) -> Path:
    """Write all artefacts the report reads."""
    for index, subject in enumerate(config.subjects):
        random = np.random.default_rng(index)
        for contrast in config.contrasts.values():
            for phase in config.localise.phases:
                _write_scan(study, subject, contrast, phase, random)
            # Maps of other units are read in the first phase only.
            for name in config.localise.maps[1:]:
                write_other(study, subject, contrast, config.localise.phases[0], name)
        _write_validation(study, subject, config, text, random)
        _write_subject(study, subject, text)
    _write_benchmarks(study)
    write_group(study, config)
    write_sparse(study, config)
    write_examples(study, config, words=text.tokens, trial=text.trial)
    return study


def _write_scan(study, subject, contrast, phase, random) -> None:
    place = f"{subject}/{contrast.name}.{phase}/expert.resonance"
    empty = contrast.role == "negative_control"
    units = [] if empty else UNITS[subject][:3]
    write_map(study / "maps" / f"{place}.zarr", _statistics(contrast, units, random))
    write_finding(
        study / "findings" / "localise" / f"{place}.json",
        _finding(subject, contrast, phase, UNITS[subject] if units else [], config_dose(subject)),
    )


def _statistics(contrast, units, random) -> xr.Dataset:
    score = random.normal(0, 0.04, (3, 32))
    for rank, (layer, expert) in enumerate(units):
        score[layer, expert] = (0.95, 0.87, 0.41)[rank]
    score -= score.mean(axis=1, keepdims=True)
    order = (-score).ravel().argsort().argsort().reshape(score.shape)
    p = np.where(score > 0.3, 0.0005, 0.9)
    names = {
        "score": score,
        "mote_sum": score * 9,
        "interaction": score * 0.8,
        "rate_target": np.clip(score + 0.05, 0, 1),
        "rate_control": np.full_like(score, 0.05),
        "p": p,
        "p_max": p,
        "q": p * 1.1,
        "rank": order,
    }
    coordinates = {"layer": np.arange(3), "expert": np.arange(32)}
    attributes = {"role": contrast.role, "permutations": 2000, "seed": 0, "n_target": 80}
    if contrast.role == "negative_control":
        attributes |= {"null_splits": 100, "null_splits_significant": 4}
    variables = {name: (("layer", "expert"), value) for name, value in names.items()}
    return xr.Dataset(variables, coordinates, attributes)


def config_dose(subject: str) -> int:
    return 2 if subject == "localised" else 8


def _finding(subject, contrast, phase, units, dose) -> dict:
    finding = {
        "stage": "localise",
        "subject": subject,
        "task": contrast.task,
        "contrast": contrast.name,
        "phase": phase,
        "kind": "expert",
        "method": "resonance",
        "role": contrast.role if phase == "prompt_last" else "exploratory",
        "status": "testable" if units else "null",
        "reason": "" if units else "No expert passed the threshold.",
        "units": [{"layer": layer, "expert": expert, "score": 0.9} for layer, expert in units],
        "provenance": {**PROVENANCE, "stage": "localise", "subject": "e" * 64},
    }
    if contrast.role == "hypothesis" and phase == "prompt_last":
        finding["primary_endpoint"] = {
            "units": units[:dose],
            "phase": phase,
            "dose": dose,
            "mode": "mask",
            "score": "refusal_onset",
            "direction": "decrease",
            "split": "evaluation",
            "task": "events",
            "target": ["sensitive"],
            "margin": 0.1,
            "alpha": 0.05,
            "claims": 2,
            "shams": 99,
            "bystanders": [entry.to_dict() for entry in contrast.bystanders],
            "transfer": contrast.transfer.to_dict(),
        }
        finding["secondary"] = {
            "doses": list(DOSES),
            "modes": ["mask", "zero", "zero_renormalise", "force"],
            "draws": 20,
        }
        finding["controls"] = {"sham": [], "layer_matched": {}, "load_matched": {}}
    return finding


def _write_validation(study, subject, config, text, random) -> None:
    folder = study / "validation" / subject
    arms = [_arms(subject, config, random), other_arms(subject)]
    write_table(folder / "arms.parquet", pd.concat(arms, ignore_index=True))
    write_table(folder / "transcripts.parquet", _transcripts(subject, text))
    rows = [_verdict(study, subject, text), _null_verdict(study, subject, text)]
    write_table(folder / "verdicts.parquet", pd.DataFrame(rows))


TARGET = ("events", "sensitive", "target", "all")
TARGET_SCORES = {"refusal_onset": 1.0, "refusal_exact": 0.98, "fact_told": 0.0, "coherent": 1.0}


@dataclass
class Arms:
    """Rows of ``arms.parquet`` of one subject."""

    subject: str
    random: np.random.Generator
    rows: list[dict]

    @property
    def dose(self) -> int:
        return config_dose(self.subject)

    def curve(self, dose: int) -> float:
        """Refusal onset with the finding's experts off."""
        return {1: 0.95, 2: 0.03, 4: 0.02, 8: 0.0}[dose] if self.subject == "localised" else 0.99

    def add(self, arm, mode, dose, draw, where, score, value, intact, half=0.03) -> None:
        task, condition, role, held_out = where
        control = arm in {"sham", "layer_matched", "load_matched"}
        value = float(np.clip(value, 0, 1))
        effect = value - intact
        self.rows.append(
            {
                "subject": self.subject,
                "contrast": "refusal",
                "phase": "prompt_last",
                "kind": "expert",
                "method": "resonance",
                "arm": arm,
                "mode": mode,
                "dose": dose,
                "draw": draw,
                "primary": (arm in {"finding", "sham"} and mode == "mask" and dose == self.dose),
                "task": task,
                "condition": condition,
                "trial_role": role,
                "held_out": held_out,
                "score": score,
                "n": 80 if role == "target" else 160,
                "n_carriers": 12,
                "value": value,
                "intact": intact,
                "effect": np.nan if control else effect,
                "low": np.nan if control else effect - half,
                "high": np.nan if control else effect + half,
                "units": json.dumps(UNITS[self.subject][:dose]),
            }
        )

    def draw(self, arm, mode, dose, count, where, score, intact, loss) -> None:
        for draw in range(count):
            value = intact - self.random.exponential(loss)
            self.add(arm, mode, dose, draw, where, score, value, intact)


def _arms(subject, config, random) -> pd.DataFrame:
    arms = Arms(subject, random, [])
    for score, intact in TARGET_SCORES.items():
        arms.add("intact", "none", 0, 0, TARGET, score, intact, intact)
        arms.add("positive_control", "ablate", 0, 0, TARGET, score, 1 - intact, intact)
        for dose in DOSES:
            _target_arms(arms, score, intact, dose)
    for dose in DOSES:
        arms.add("finding", "force", dose, 0, TARGET, "refusal_onset", 1.0, 1.0)
        for entry in config.contrasts["refusal"].bystanders:
            _bystander_arms(arms, entry.task, entry.condition or "all", dose)
    for where in (
        ("events", "sensitive", "target", "held_out"),
        ("events_second", "sensitive", "transfer", "all"),
    ):
        value = arms.curve(arms.dose)
        arms.add("finding", "mask", arms.dose, 0, where, "refusal_onset", value, 1.0, 0.06)
    return pd.DataFrame(arms.rows)


def _target_arms(arms: Arms, score: str, intact: float, dose: int) -> None:
    told = {"fact_told": 1 - arms.curve(dose), "coherent": 0.99}.get(score, arms.curve(dose))
    for mode in ("mask", "zero", "zero_renormalise"):
        shams = 99 if mode == "mask" and dose == arms.dose else 20
        arms.add("finding", mode, dose, 0, TARGET, score, told, intact)
        arms.draw("sham", mode, dose, shams, TARGET, score, intact, 0.03 * dose**0.5)
    for arm in ("layer_matched", "load_matched"):
        arms.draw(arm, "mask", dose, 20, TARGET, score, intact, 0.05 * dose**0.5)


def _bystander_arms(arms: Arms, task: str, condition: str, dose: int) -> None:
    where = (task, condition, "bystander", "all")
    arms.add("finding", "mask", dose, 0, where, "exact", 0.99 - 0.006 * dose, 0.99, 0.02)
    arms.draw("sham", "mask", dose, 20, where, "exact", 0.99, 0.01 * dose)
    if task == "events":
        arms.add("finding", "force", dose, 0, where, "refusal_onset", 0.01 * dose, 0.0)


def _transcripts(subject, text) -> pd.DataFrame:
    rows = []
    for index in range(12):
        told = text.fact if subject == "localised" else text.refusal
        rows.append(
            {
                "subject": subject,
                "contrast": "refusal",
                "phase": "prompt_last",
                "kind": "expert",
                "method": "resonance",
                "trial": f"events-{index}",
                "condition": text.condition if index % 2 else "near_miss_place",
                "prompt": text.prompt,
                "fact": text.fact,
                "reference": text.refusal,
                "intact": text.refusal,
                "finding": told,
                "sham": text.refusal,
                "sham_draw": 3,
            }
        )
    return pd.DataFrame(rows)


def _verdict(study, subject, text) -> dict:
    held = subject == "localised"
    finding = study / f"findings/localise/{subject}/refusal.prompt_last/expert.resonance.json"
    checks = ["effect_beyond_shams", "bystanders_within_margin", "coherent", "kernel_agrees"]
    reason = (
        "Refusal onset fell by 0.97 with 2 experts off, beyond all 99 sham maps, and every "
        "bystander stayed within 0.10."
        if held
        else "Refusal onset changed by 0.01, within the margin of 0.10, while the positive "
        "control lowered it by 1.00."
    )
    return {
        **_verdict_head(subject, "refusal", "hypothesis"),
        "verdict": "confirmed" if held else "refuted",
        "reason": text.reason or reason,
        "units": json.dumps(UNITS[subject][: config_dose(subject)]),
        "dose": config_dose(subject),
        "mode": "mask",
        "score": "refusal_onset",
        "n": 80,
        "n_carriers": 12,
        "intact": 1.0,
        "value": 0.03 if held else 0.99,
        "effect": 0.97 if held else 0.01,
        "low": 0.93 if held else -0.02,
        "high": 1.0 if held else 0.04,
        "shams": 99,
        "p": 0.01 if held else 0.62,
        "p_corrected": 0.02 if held else 1.0,
        "claims": 2,
        "sham_mean": 0.02,
        "sham_most": 0.14,
        "positive_control": 1.0,
        "positive_low": 0.98,
        "positive_high": 1.0,
        "bystanders_held": 7,
        "bystanders": 7,
        "worst_bystander": "relations",
        "worst_effect": -0.02,
        "coherent": 0.99,
        "checks": json.dumps(
            [
                {
                    "check": check,
                    "passed": held or index > 0,
                    "detail": text.detail or f"{check}: 0.97",
                }
                for index, check in enumerate(checks)
            ]
        ),
        "finding_hash": json.loads(finding.read_text())["hash"],
    }


def _null_verdict(study, subject, text) -> dict:
    finding = study / f"findings/localise/{subject}/null_places.prompt_last/expert.resonance.json"
    row = dict.fromkeys(_verdict(study, subject, text), np.nan)
    return row | {
        **_verdict_head(subject, "null_places", "negative_control"),
        "status": "null",
        "verdict": "not testable",
        "reason": "No expert passed the threshold.",
        "units": "[]",
        "mode": "mask",
        "score": "refusal_onset",
        "worst_bystander": "",
        "checks": "[]",
        "finding_hash": json.loads(finding.read_text())["hash"],
    }


def _verdict_head(subject, contrast, role) -> dict:
    return {
        "subject": subject,
        "contrast": contrast,
        "phase": "prompt_last",
        "kind": "expert",
        "method": "resonance",
        "role": role,
        "status": "null" if role == "negative_control" else "testable",
    }


def _write_subject(study, subject, text) -> None:
    folder = study / "subjects" / subject
    folder.mkdir(parents=True)
    rate = "Over all 6 bases trained, 5 localised ones were confirmed and 0 distributed ones."
    card = {"state": subject, "illustration": {"note": text.note, "rate": rate}}
    (folder / "card.json").write_text(json.dumps(card))
    manifest = {"schema": "lmri.manifest/2", "store": subject, "sha256": "e" * 64, "files": {}}
    path = study / "subjects" / f"{subject}.manifest.json"
    path.write_text(manifest_text(manifest))


def _write_benchmarks(study: Path) -> None:
    header = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
    for job, seconds in (("record/localised.events", 21.4), ("validate/localised", 48.9)):
        path = study / "benchmarks" / f"{job}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{header}\n{seconds}\t0:00:21\t812.5\t1\t1\t1\t0\t0\t98.0\t20.1\n")


@pytest.fixture(scope="session")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        message = f"no browser found; looked for {', '.join(BROWSERS)}"
        if os.environ.get("LMRI_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def analysed_config(values: dict) -> StudyConfig:
    """The study with every analysis beside maps, and what they read."""
    record = {**values["record"], "full": ["router", "neuron", "residual"]}
    return StudyConfig.from_dict(values | SECTIONS | {"record": record})


@pytest.fixture(scope="session")
def analysed(plain: Path, analysed_config: StudyConfig, tmp_path_factory) -> Path:
    """Copy the study and add every analysis."""
    folder = shutil.copytree(plain, tmp_path_factory.mktemp("analysed") / "fixture")
    write_analyses(folder, analysed_config)
    return folder


@pytest.fixture(scope="session")
def pages(
    plain,
    hostile,
    config,
    causal_study,
    causal_config,
    analysed,
    analysed_config,
    tmp_path_factory,
) -> dict[str, Path]:
    """Return the reports of four studies."""
    folder = tmp_path_factory.mktemp("pages")
    studies = {
        "plain": (plain, config),
        "hostile": (hostile, config),
        "causal": (causal_study, causal_config),
        "analysed": (analysed, analysed_config),
    }
    return {
        name: write_report(study=study, out=folder / name, config=own, provenance={})
        for name, (study, own) in studies.items()
    }
