"""Build libraries of C++ once for each machine that uses them.

The compiler is called directly, not through ``torch.utils.cpp_extension``: that needs ninja, uses a
lock that a killed process leaves behind, includes the headers of Python (which minimal
installations lack) and takes several times longer.

Libraries lie in ``$XDG_CACHE_HOME/lmri/kernels`` (``~/.cache`` by default), one for each
combination of sources, flags, compiler, processor and torch; see :func:`build_key`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from lmri.errors import BuildError
from lmri.store.atomic import atomic_file

COMPILERS = ("g++", "c++", "clang++")
"""Looked for in this order where the variable CXX names none."""

FLAGS = ("-O3", "-std=c++20", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-Wno-psabi")

EXACT = ("-ffp-contract=off",)
"""For all but inner loops: no multiplication and addition in one, to round as torch does."""

PORTABLE = {"portable": (16, ())}
X86 = {"avx2": (32, ("-mavx2", "-mfma", "-mf16c")), "avx512": (64, ("-mavx512f", "-mfma"))}
"""Sets of instructions: bytes of a vector register, and the flags that allow them."""

SECONDS = 600
"""A compiler that takes longer is taken to hang."""


@dataclass(frozen=True)
class Library:
    """Sources of a shared library.

    Attributes
    ----------
    title : str
        What it holds, for messages: ``sparse kernels``.
    package : str
        Package beside whose modules the sources lie.
    loops : str
        Source of the inner loops, compiled once for each set of instructions with the macros
        ``LMRI_SET``, its name, and ``LMRI_BYTES``, the size of a register.
    operators : str
        Source that sees the headers of torch; empty if there is none.
    headers : tuple of str
        What these include.
    """

    title: str
    package: str
    loops: str
    operators: str = ""
    headers: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the sources are."""
        return Path(str(resources.files(self.package)))

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all files that it is made of."""
        return tuple(name for name in (*self.headers, self.loops, self.operators) if name)


def built(library: Library) -> Path:
    """Return a library, built if it is not there.

    Several processes may ask at once: one builds, the others wait for it.

    Parameters
    ----------
    library : Library
        Its sources.

    Returns
    -------
    Path
        The shared library.

    Raises
    ------
    BuildError
        If there is no compiler, if it fails, or if the cache is not private.
    """
    compiler = find_compiler(library)
    path = private_cache(library) / f"{build_key(library, compiler)}.so"
    if not path.exists():
        with _waiting_lock(path.with_suffix(".lock")):
            if not path.exists():
                _build(library, compiler, path)
    return path


def find_compiler(library: Library) -> list[str]:
    """Find a C++ compiler: the command in the variable CXX, or the first of :data:`COMPILERS`.

    Parameters
    ----------
    library : Library
        What it is for.

    Returns
    -------
    list of str
        The command, the first word with its full path.

    Raises
    ------
    BuildError
        If there is none.
    """
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [[name] for name in COMPILERS]:
        program = shutil.which(command[0])
        if program is not None:
            return [program, *command[1:]]
    looked = f"CXX='{named[0]}'" if named else ", ".join(COMPILERS)
    raise BuildError(
        f"There is no C++ compiler to build the {library.title} with (looked for {looked}): "
        "install g++ or name one in CXX."
    )


def build_key(library: Library, compiler: Sequence[str]) -> str:
    """Hash all that a library depends on.

    Parameters
    ----------
    library : Library
        Its sources.
    compiler : sequence of str
        Its command.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    parts = [
        *((library.folder / name).read_text(encoding="utf-8") for name in library.sources),
        *FLAGS,
        *EXACT,
        repr(_sets()),
        shlex.join(compiler),
        _run(library, [*compiler, "--version"]),
        platform.system(),
        platform.machine(),
        torch.__version__,
        str(torch.compiled_with_cxx11_abi()),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def private_cache(library: Library) -> Path:
    """Make the folder of libraries; refuse one that others can write, whose code we would run.

    Parameters
    ----------
    library : Library
        What it is for.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    BuildError
        If there can be none, or if others may write it.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    folder = root / "lmri" / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except (OSError, RuntimeError) as error:
        raise BuildError(f"The {library.title} have no place to be kept: {error}.") from error
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BuildError(
            f"{folder}: others may write it, so no {library.title} are run from there. Make it "
            "yours alone (chmod 700), or name another place in XDG_CACHE_HOME."
        )
    return folder


def _build(library: Library, compiler: Sequence[str], path: Path) -> None:
    of_torch = Path(torch.__file__).parent
    include = of_torch / "include"
    headers = ["-isystem", str(include), "-isystem", str(include / "torch/csrc/api/include")]
    # OpenMP is torch's own copy, found through its library: a second one would bring a second pool
    # of threads. So the flag is for the compiler and not for the linker.
    parallel = ["-fopenmp"] if torch.backends.openmp.is_available() else []
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    with tempfile.TemporaryDirectory() as folder, atomic_file(path) as partial:
        objects = []

        def compile_into(name: str, source: str, *flags: str) -> None:
            objects.append(f"{folder}/{name}.o")
            own = [*FLAGS, *flags, *parallel, "-c", str(library.folder / source)]
            _run(library, [*compiler, *own, "-o", objects[-1]])

        if library.operators:
            compile_into("operators", library.operators, *EXACT, abi, *headers)
        for name, (size, flags) in _sets().items():
            compile_into(name, library.loops, *flags, f"-DLMRI_SET={name}", f"-DLMRI_BYTES={size}")
        # What is missing shows when the library is loaded, not at the first call.
        asked = ["-Wl,-z,now", "-Wl,--no-as-needed"]
        libraries = [f"-L{of_torch / 'lib'}", "-ltorch_cpu", "-lc10"]
        _run(library, [*compiler, "-shared", *asked, *objects, *libraries, "-o", str(partial)])


def _run(library: Library, command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"The compiler of the {library.title} cannot be run: {error}.") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        first = (errors or done.stderr.splitlines() or ["it says nothing"])[0]
        raise BuildError(
            f"The {library.title} cannot be built with '{command[0]}': {first.strip()}."
        )
    return done.stdout


def _sets() -> dict[str, tuple[int, tuple[str, ...]]]:
    return PORTABLE | (X86 if platform.machine() in {"x86_64", "AMD64"} else {})


@contextmanager
def _waiting_lock(path: Path) -> Iterator[None]:
    """Hold a lock that ends with its process; wait for it while another has it.

    It saves work and no more: libraries are renamed when they are whole, so that two processes may
    build the same one on a file system without locks.
    """
    with path.open("w") as stream:
        with suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
