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
from collections.abc import Sequence

from lmri import __version__
from lmri.cli import (
    cluster,
    decoding,
    encoding,
    experimenting,
    information,
    mapping,
    networks,
    recording,
    reporting,
    scoring,
    sparsity,
    stimuli,
    subjects,
    validation,
)
from lmri.cli.declaring import ARGUMENTS, Commands
from lmri.errors import LmriError

USER_ERROR = 2
"""Exit code of everything the user can act on."""

INTERRUPTED = 130

ONLINE = ("train", "anatomy", "estimate")
"""Commands that may ask a hub; all others find what they need in files, and never wait for one."""

COMMANDS: Commands = {
    **subjects.COMMANDS,
    **stimuli.COMMANDS,
    **recording.COMMANDS,
    **mapping.COMMANDS,
    **sparsity.COMMANDS,
    **information.COMMANDS,
    **networks.COMMANDS,
    **decoding.COMMANDS,
    **encoding.COMMANDS,
    **validation.COMMANDS,
    **experimenting.COMMANDS,
    **scoring.COMMANDS,
    **reporting.COMMANDS,
    **cluster.COMMANDS,
}
"""All commands."""


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
    if options.command not in ONLINE:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
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
        command.set_defaults(run=run, command=name)
    return parser
