"""An environment for the peers: made once, shared with nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

PINS = ("torch==2.13.0", "transformers==5.23.0", "transformer-lens==4.3.0", "nnsight==0.8.1")


class PeersMissingError(Exception):
    """The peers cannot be installed here; the message says why."""


def peers_python() -> Path:
    """Return the interpreter that has the peers; installs them the first time.

    Returns
    -------
    Path
        In ``$XDG_CACHE_HOME/lmri/benchmarks`` (by default ``~/.cache``).

    Raises
    ------
    PeersMissingError
        If pip cannot install them.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    pinned = hashlib.sha256("\n".join((*PINS, sys.version)).encode()).hexdigest()[:12]
    folder = cache / "lmri" / "benchmarks" / f"peers-{pinned}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if complete.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", *PINS])
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        said = getattr(error, "stderr", None) or str(error)
        raise PeersMissingError(said.strip().splitlines()[-1]) from None
    complete.touch()
    return python


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, env=peers_variables())


def peers_variables() -> dict[str, str]:
    """Return the environment variables of the peers: without our packages, one thread, offline."""
    own = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return {**own, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
