"""Commands that tell what a study found or would run."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import provenance_of, read_slice
from lmri.errors import LmriError


def _report(options: argparse.Namespace) -> None:
    if options.bundle is not None:
        from lmri.report.bundle.reopen import reopen_bundle

        print(reopen_bundle(options.bundle, options.out))
        return
    if options.config is None or options.study is None:
        raise LmriError("lmri report needs --config and --study, or an exported study.")
    values = read_slice(options, "report")
    from lmri.config import StudyConfig
    from lmri.report import write_report

    write_report(
        study=options.study,
        out=options.out,
        config=StudyConfig.from_dict(values, "the slice given as --config"),
        provenance=provenance_of("report", values, values["seed"]),
    )


def _export(options: argparse.Namespace) -> None:
    values = read_slice(options, "report")
    from lmri.config import StudyConfig
    from lmri.report.bundle.export import export_study

    out = export_study(
        study=options.study,
        out=options.out,
        config=StudyConfig.from_dict(values, "the slice given as --config"),
        provenance=provenance_of("report", values, values["seed"]),
        redact=options.redact,
        withhold_units=options.withhold_units,
    )
    print(out)


def _explain(options: argparse.Namespace) -> None:
    from lmri.report import explain_verdict

    for line in explain_verdict(options.study, options.verdict):
        print(line)


def _tally(options: argparse.Namespace) -> None:
    from lmri.report import tally_claims, tally_lines
    from lmri.store import write_text_atomic

    counts = tally_claims(options.studies)
    for line in tally_lines(counts):
        print(line)
    if options.out is not None:
        write_text_atomic(options.out, counts.to_csv(index=False))


def _check(options: argparse.Namespace) -> None:
    from lmri.config import load_study
    from lmri.preflight.inputs import check_inputs, planned

    study = load_study(options.study_file)
    tables = check_inputs(study, str(options.study_file))
    for line in (*study.summary(), *planned(study, tables)):
        print(line)


COMMANDS: Commands = {
    "report": (
        _report,
        "write the report of a study, or of one that was exported",
        "bundle --config? --study? --out",
    ),
    "export": (
        _export,
        "write a study to share: no activations, no weights, on request no words",
        "--config --study --out --redact? --withhold-units?",
    ),
    "explain": (
        _explain,
        "say what a verdict rests on, with the files it stands in",
        "verdict --study",
    ),
    "tally": (
        _tally,
        "count how often each claim of some studies holds; --out writes it as CSV",
        "studies --out?",
    ),
    "check": (_check, "check a study file and say what it would run", "study_file"),
}
