"""The command line: one sub-command per rule of the workflow.

A command parses its arguments, cuts its slice of the configuration, and calls one function of one
stage. A stage is imported only when its command runs, so that ``lmri --help`` is instant and a
job pays only for what it uses.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lmri import __version__
from lmri.errors import LmriError

USER_ERROR = 2
"""Exit code of everything the user can act on."""

DAMAGED = 1
"""Exit code of ``verify`` when a store is not as it was written."""

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        Exit code: 0, 1 when ``verify`` found damage, or 2 for an error of the user, told in one
        line.
    """
    # Sums depend on how they are spread over threads, so results must not depend on how many cores
    # there happen to be. Snakemake sets the variable to the threads of a rule; so may a user.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options = build_parser().parse_args(arguments)
    # A scheduler that needs the place sends SIGTERM: locks and half-written files go, as at Ctrl-C.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = options.run(options) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read the output has seen enough (`lmri check … | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("lmri: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        message = user_message(error, options)
        if message is None or options.verbose:
            raise
        print(f"lmri: error: {' '.join(message.split())}", file=sys.stderr)
        return USER_ERROR
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def user_message(error: BaseException, options: argparse.Namespace) -> str | None:
    """Say what a user can do about an error.

    Parameters
    ----------
    error : BaseException
        What ended the command.
    options : argparse.Namespace
        Arguments of the command, to name what it was writing.

    Returns
    -------
    str or None
        The message, or None if the error is a defect of the package.
    """
    if isinstance(error, LmriError):
        return str(error)
    if _disk_full(error):
        # What the error names may be the file that was read.
        target = getattr(options, "out", None) or getattr(options, "maps", None)
        return (
            f"{target or 'the output'}: no space left on the device while writing. "
            "Free some space and run the command again."
        )
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return None


def _disk_full(error: BaseException | None) -> bool:
    # Writers in other languages (safetensors, zarr's codecs) wrap the error and keep its text.
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def build_parser() -> argparse.ArgumentParser:
    """Declare every sub-command.

    Returns
    -------
    argparse.ArgumentParser
        Parsed options carry ``run``, the function of the command.
    """
    parser = argparse.ArgumentParser(
        prog="lmri", description="Scan language models: record, map, and put the maps to the test."
    )
    parser.add_argument("--version", action="version", version=f"lmri {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (run, summary, flags) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("-v", "--verbose", action="store_true", help="tracebacks of errors")
        for flag in flags.split():
            optional = flag.endswith("?")
            needed = {} if optional or not flag.startswith("--") else {"required": True}
            flag = flag.removesuffix("?")
            command.add_argument(flag, **{**needed, **ARGUMENTS[flag]})
        command.set_defaults(run=run)
    return parser


def _train_base(options: argparse.Namespace) -> None:
    values = _read(options, "base", base_seed=options.seed)
    from lmri.config import WorldOptions
    from lmri.subjects import Recipe, train_base

    world = WorldOptions.from_dict(values["world"])
    train_base(
        options.out,
        base_seed=options.seed,
        world_seed=world.seed,
        world_size=world.size,
        recipe=Recipe.from_dict(values["training"]),
    )


def _train(options: argparse.Namespace) -> None:
    values = _read(options, "subject", subject=options.subject)
    from lmri.config import SubjectOptions, WorldOptions
    from lmri.subjects import prepare_subject

    subject = SubjectOptions.from_dict(values["subject"])
    prepare_subject(
        out=options.out,
        manifest=options.manifest,
        options=subject,
        base=options.base,
        world=WorldOptions.from_dict(values["world"]),
        training=values["training"],
        provenance=_provenance("subject", values, subject.seed or 0),
    )


def _stimuli(options: argparse.Namespace) -> None:
    if options.preview:
        _preview(options)
        return
    if options.task is None or options.out is None:
        raise LmriError("lmri stimuli needs --task and --out, or --preview.")
    values = _read(options, "stimuli", task=options.task)
    from lmri.config import SplitOptions, TaskOptions, WorldOptions
    from lmri.stimuli import write_stimuli

    write_stimuli(
        out=options.out,
        task=options.task,
        options=TaskOptions.from_dict(values["task"]),
        splits=SplitOptions.from_dict(values["splits"]),
        world=WorldOptions.from_dict(values["world"]),
        seed=values["seed"],
        provenance=_provenance("stimuli", values, values["seed"]),
    )


def _preview(options: argparse.Namespace) -> None:
    from lmri.checks import check_choice
    from lmri.config import load_study
    from lmri.preflight import preview_tokenizer
    from lmri.stimuli import legend, make_stimuli, preview_task

    study = load_study(Path(options.config))
    if options.task is not None:
        check_choice(options.task, study.tasks, "task", options.config)
    tokenizer = preview_tokenizer(study, options.model)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(legend(colour=colour))
    for name, task in study.tasks.items():
        if options.task in {None, name}:
            table = make_stimuli(
                task=name, options=task, splits=study.splits, world=study.world, seed=study.seed
            )
            print("", *preview_task(name, table, tokenizer, colour=colour), sep="\n")


def _record(options: argparse.Namespace) -> None:
    values = _read(options, "record", subject=options.subject, task=options.task)
    from lmri.config import LoadOptions, RecordOptions
    from lmri.record import record_task

    record_task(
        out=options.out,
        manifest=options.manifest,
        subject=options.subject,
        model=options.model,
        task=options.task,
        stimuli=options.stimuli,
        shard=options.shard,
        options=RecordOptions.from_dict(values["record"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=_provenance("record", values, values["seed"], options.model),
    )


def _localise(options: argparse.Namespace) -> None:
    values = _read(options, "localise", subject=options.subject)
    from lmri.config import ContrastOptions, EvidenceOptions, LoadOptions, LocaliseOptions
    from lmri.localise import localise_subject

    localise_subject(
        subject=options.subject,
        model=options.model,
        stimuli=options.stimuli,
        recordings=options.recordings,
        maps=options.maps,
        findings=options.findings,
        tasks={name: tuple(carriers) for name, carriers in values["tasks"].items()},
        contrasts=[ContrastOptions.from_dict(entry) for entry in values["contrasts"]],
        options=LocaliseOptions.from_dict(values["localise"]),
        load=LoadOptions.from_dict(values["load"]),
        evidence=EvidenceOptions.from_dict(values["evidence"]),
        claims=values["claims"],
        seed=values["seed"],
        provenance=_provenance("localise", values, values["seed"], options.model),
    )


def _group(options: argparse.Namespace) -> None:
    values = _read(options, "group")
    from lmri.config import ContrastOptions, LocaliseOptions
    from lmri.localise import map_group

    map_group(
        maps=options.maps,
        findings=options.findings,
        out=options.out,
        subjects=values["subjects"],
        contrasts=[ContrastOptions.from_dict(entry) for entry in values["contrasts"]],
        options=LocaliseOptions.from_dict(values["localise"]),
        alpha=values["alpha"],
        seed=values["seed"],
        provenance=_provenance("group", values, values["seed"]),
    )


def _calibrate(options: argparse.Namespace) -> None:
    values = _read(options, "calibrate", subject=options.subject)
    from lmri.config import LoadOptions, SparseOptions
    from lmri.sparse import calibrate_subject

    calibrate_subject(
        subject=options.subject,
        model=options.model,
        recordings=options.recordings,
        out=options.out,
        options=SparseOptions.from_dict(values["sparse"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=_provenance("calibrate", values, values["seed"], options.model),
    )


def _record_sparse(options: argparse.Namespace) -> None:
    values = _read(options, "record_sparse", subject=options.subject, task=options.task)
    from lmri.config import LoadOptions, RecordOptions
    from lmri.sparse import record_sparse

    record_sparse(
        out=options.out,
        manifest=options.manifest,
        subject=options.subject,
        model=options.model,
        task=options.task,
        stimuli=options.stimuli,
        plan=_plan(options.plans, values["plan"]),
        options=RecordOptions.from_dict(values["record"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=_provenance("record_sparse", values, values["seed"], options.model),
    )


def _survive(options: argparse.Namespace) -> None:
    values = _read(options, "survive", subject=options.subject)
    from lmri.config import ContrastOptions, EvidenceOptions, LoadOptions, LocaliseOptions
    from lmri.localise import compare_maps

    compare_maps(
        subject=options.subject,
        model=options.model,
        stimuli=options.stimuli,
        maps=options.maps,
        recordings=options.recordings,
        out=options.out,
        carriers={name: tuple(carriers) for name, carriers in values["tasks"].items()},
        contrasts=[ContrastOptions.from_dict(entry) for entry in values["contrasts"]],
        options=LocaliseOptions.from_dict(values["localise"]),
        load=LoadOptions.from_dict(values["load"]),
        evidence=EvidenceOptions.from_dict(values["evidence"]),
        seed=values["seed"],
        provenance=_provenance("survive", values, values["seed"], options.model),
    )


def _sparse_run(options: argparse.Namespace) -> None:
    values = _read(options, "sparse_run", subject=options.subject)
    from lmri.config import LoadOptions, SparseOptions
    from lmri.sparse import measure_subject

    measure_subject(
        subject=options.subject,
        model=options.model,
        stimuli=options.stimuli,
        tasks=values["tasks"],
        plans=options.plans,
        out=options.out,
        options=SparseOptions.from_dict(values["sparse"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=_provenance("sparse_run", values, values["seed"], options.model),
    )


def _information(options: argparse.Namespace) -> None:
    values = _read(options, "information", subject=options.subject)
    from lmri.config import InformationOptions, LoadOptions
    from lmri.information import information_subject

    information_subject(
        subject=options.subject,
        model=options.model,
        recordings=options.recordings,
        out=options.out,
        tasks={name: tuple(carriers) for name, carriers in values["tasks"].items()},
        options=InformationOptions.from_dict(values["information"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=_provenance("information", values, values["seed"], options.model),
    )


def _dynamics(options: argparse.Namespace) -> None:
    values = _read(options, "dynamics", series=options.series)
    from lmri.information import follow_series

    follow_series(
        series=options.series,
        profiles=options.profiles,
        recordings=options.recordings,
        out=options.out,
        steps=values["steps"],
        tasks=values["tasks"],
        sensitive=values["sensitive"],
        seed=values["seed"],
        provenance=_provenance("dynamics", values, values["seed"]),
    )


def _validate(options: argparse.Namespace) -> None:
    values = _read(options, "validate", subject=options.subject)
    from lmri.config import LoadOptions, ValidateOptions
    from lmri.validate import validate_subject

    validate_subject(
        subject=options.subject,
        model=options.model,
        stimuli=options.stimuli,
        findings=options.findings,
        plan=_plan(options.plans, values["sparse_plan"]),
        out=options.out,
        options=ValidateOptions.from_dict(values["validate"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=_provenance("validate", values, values["seed"], options.model),
    )


def _bottleneck(options: argparse.Namespace) -> None:
    values = _read(options, "bottleneck", setting=options.setting)
    from lmri.config import BottleneckOptions
    from lmri.information.bottleneck import train_bottleneck

    train_bottleneck(
        setting=options.setting,
        out=options.out,
        options=BottleneckOptions.from_dict(values["bottleneck"]),
        seed=values["seed"],
        provenance=_provenance("bottleneck", values, values["seed"]),
    )


def _bottleneck_summary(options: argparse.Namespace) -> None:
    values = _read(options, "bottleneck_summary")
    from lmri.config import BottleneckOptions
    from lmri.information.bottleneck import summarise_bottleneck

    summarise_bottleneck(
        settings=options.settings,
        out=options.out,
        options=BottleneckOptions.from_dict(values["bottleneck"]),
        seed=values["seed"],
        provenance=_provenance("bottleneck_summary", values, values["seed"]),
    )


def _plan(plans: Path | None, name: str) -> Path | None:
    if not name:
        return None
    if plans is None:
        raise LmriError(f"--plans must be given: the study runs findings under '{name}'.")
    return plans / f"{name}.json"


def _report(options: argparse.Namespace) -> None:
    values = _read(options, "report")
    from lmri.config import StudyConfig
    from lmri.report import write_report

    write_report(
        study=options.study,
        out=options.out,
        config=StudyConfig.from_dict(values, "the slice given as --config"),
        provenance=_provenance("report", values, values["seed"]),
    )


def _explain(options: argparse.Namespace) -> None:
    from lmri.report import explain_verdict

    for line in explain_verdict(options.study, options.verdict):
        print(line)


def _verify(options: argparse.Namespace) -> int:
    from lmri.store import check_stores

    stores = damaged = files = 0
    for checked in check_stores(options.paths):
        print(checked, flush=True)
        stores += 1
        damaged += bool(checked.problems)
        files += len(checked.problems)
    print(f"{stores} stores checked: {stores - damaged} as written, {damaged} damaged")
    if damaged:
        print(
            f"{files} problems: remove each damaged store together with its manifest, "
            "then run again what wrote it"
        )
    return DAMAGED if damaged else 0


def _anatomy(options: argparse.Namespace) -> None:
    from lmri.anatomy import anatomy_table, empty_model, read_configuration

    print(anatomy_table(empty_model(read_configuration(options.model_id, options.revision))))


def _check(options: argparse.Namespace) -> None:
    from lmri.config import load_study
    from lmri.preflight import check_inputs

    study = load_study(options.study_file)
    check_inputs(study, str(options.study_file))
    for line in study.summary():
        print(line)


def _read(options: argparse.Namespace, stage: str, **selectors: Any) -> dict[str, Any]:
    from lmri.config import read_stage

    return read_stage(options.config, stage, **selectors)


def _provenance(
    stage: str, values: dict[str, Any], seed: int, model: Path | None = None
) -> dict[str, object]:
    from lmri.store import verify_store
    from lmri.store.provenance import provenance

    subject = None
    if model is not None:
        subject = verify_store(model, model.with_name(f"{model.name}.manifest.json"))["sha256"]
    return provenance(stage, values, seed, subject)


ARGUMENTS: dict[str, dict[str, Any]] = {
    "--preview": {"action": "store_true", "help": "print trials with the phase of each token"},
    "--config": {"metavar": "FILE|JSON", "help": "study file, or the slice of the job as JSON"},
    "--subject": {"metavar": "NAME", "help": "name of the subject in the study"},
    "--task": {"metavar": "NAME", "help": "name of the task in the study"},
    "--seed": {"type": int, "metavar": "N", "help": "seed of the base"},
    "--shard": {"type": int, "metavar": "I", "help": "number of the shard, from 0"},
    "--model": {"type": Path, "metavar": "DIR", "help": "folder of the prepared subject"},
    "--base": {
        "type": Path,
        "required": False,
        "metavar": "DIR",
        "help": "base of a trained subject",
    },
    "--stimuli": {"type": Path, "metavar": "PATH", "help": "stimuli: a table, or their folder"},
    "--recordings": {
        "type": Path,
        "metavar": "DIR",
        "help": "recordings of the subject, or of all",
    },
    "--profiles": {"type": Path, "metavar": "DIR", "help": "information of all subjects"},
    "--series": {"metavar": "NAME", "help": "name of the series of checkpoints in the study"},
    "--maps": {"type": Path, "metavar": "DIR", "help": "folder of the maps to write"},
    "--findings": {"type": Path, "metavar": "DIR", "help": "folder of the findings"},
    "--plans": {"type": Path, "metavar": "DIR", "help": "folder of the subject's sparse plans"},
    "--setting": {"metavar": "NAME", "help": "activation and penalty, as the study names them"},
    "--settings": {"type": Path, "metavar": "DIR", "help": "folder of all trained settings"},
    "--study": {"type": Path, "metavar": "DIR", "help": "folder of the study under results/"},
    "--out": {"type": Path, "metavar": "PATH", "help": "what to write"},
    "--manifest": {"type": Path, "metavar": "FILE", "help": "manifest to write beside it"},
    "--revision": {"metavar": "NAME", "help": "revision of a model on the hub"},
    "model_id": {"metavar": "MODEL", "help": "folder of a model, or its id on the hub"},
    "verdict": {"metavar": "VERDICT", "help": "<subject>/<contrast>, as the study names them"},
    "paths": {
        "type": Path,
        "nargs": "+",
        "metavar": "PATH",
        "help": "stores, manifests, or folders",
    },
    "study_file": {"type": Path, "metavar": "STUDY", "help": "study file"},
}
"""Arguments by flag; one flag means the same in every command."""

COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int | None], str, str]] = {
    "train-base": (
        _train_base,
        "train the base that embedded subjects start from",
        "--config --seed --out",
    ),
    "train": (
        _train,
        "prepare a subject: train it, unpack it, or point to it",
        "--config --subject --base --out --manifest",
    ),
    "stimuli": (
        _stimuli,
        "write the stimuli of a task, or show one trial of every condition",
        "--config --task? --out? --preview? --model?",
    ),
    "record": (
        _record,
        "record a subject on one shard of a task",
        "--config --subject --model --task --stimuli --shard --out --manifest",
    ),
    "localise": (
        _localise,
        "map the contrasts of a subject and fix its findings",
        "--config --subject --model --stimuli --recordings --maps --findings",
    ),
    "group": (
        _group,
        "compare the maps of all subjects",
        "--config --maps --findings --out",
    ),
    "calibrate": (
        _calibrate,
        "calibrate the sparse policies of a study on recorded trials",
        "--config --subject --model --recordings --out",
    ),
    "record-sparse": (
        _record_sparse,
        "record a subject while it runs under a sparse plan",
        "--config --subject --model --task --stimuli --plans --out --manifest",
    ),
    "survive": (
        _survive,
        "compute the maps of a subject anew from other recordings, and compare",
        "--config --subject --model --stimuli --recordings --maps --out",
    ),
    "sparse-run": (
        _sparse_run,
        "run a subject under its sparse plans: quality, sparsity, speed",
        "--config --subject --model --stimuli --plans --out",
    ),
    "information": (
        _information,
        "tell what recorded activity says of trials, layer by layer",
        "--config --subject --model --recordings --out",
    ),
    "dynamics": (
        _dynamics,
        "follow the information of subjects over a series of checkpoints",
        "--config --series --profiles --recordings --out",
    ),
    "validate": (
        _validate,
        "re-run a subject without the units of its findings and reach verdicts",
        "--config --subject --model --stimuli --findings --plans? --out",
    ),
    "bottleneck": (
        _bottleneck,
        "train small networks of one setting and measure their information",
        "--config --setting --out",
    ),
    "bottleneck-summary": (
        _bottleneck_summary,
        "score the compression of all settings and decide the claims",
        "--config --settings --out",
    ),
    "report": (_report, "write the report of a study", "--config --study --out"),
    "anatomy": (
        _anatomy,
        "say what a model is made of and what recording it takes",
        "model_id --revision?",
    ),
    "explain": (
        _explain,
        "say what a verdict rests on, with the files it stands in",
        "verdict --study",
    ),
    "verify": (_verify, "check that stores hold the bytes of their manifests", "paths"),
    "check": (_check, "check a study file and say what it would run", "study_file"),
}
"""Commands by name: the function, one line of help, the flags (with ? those to be left out)."""


if __name__ == "__main__":
    sys.exit(main())
