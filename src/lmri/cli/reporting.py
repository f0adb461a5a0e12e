"""Commands that tell what a study found or would run."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import provenance_of, read_slice


def _report(options: argparse.Namespace) -> None:
    values = read_slice(options, "report")
    from lmri.config import StudyConfig
    from lmri.report import write_report

    write_report(
        study=options.study,
        out=options.out,
        config=StudyConfig.from_dict(values, "the slice given as --config"),
        provenance=provenance_of("report", values, values["seed"]),
    )


def _explain(options: argparse.Namespace) -> None:
    from lmri.report import explain_verdict

    for line in explain_verdict(options.study, options.verdict):
        print(line)


def _check(options: argparse.Namespace) -> None:
    from lmri.config import load_study
    from lmri.preflight.inputs import check_inputs

    study = load_study(options.study_file)
    check_inputs(study, str(options.study_file))
    for line in study.summary():
        print(line)


COMMANDS: Commands = {
    "report": (_report, "write the report of a study", "--config --study --out"),
    "explain": (
        _explain,
        "say what a verdict rests on, with the files it stands in",
        "verdict --study",
    ),
    "check": (_check, "check a study file and say what it would run", "study_file"),
}
