"""Build the C++ kernels once for each machine that uses them.

The compiler is called directly, not through ``torch.utils.cpp_extension``: that needs ninja, uses a
lock that a killed process leaves behind, includes the headers of Python (which minimal
installations lack) and takes several times longer. The library registers its operators with
torch's dispatcher and not through ctypes, because a call through Python costs as much as a small
product.

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
from importlib import resources
from pathlib import Path

import torch

from lmri.errors import SparseError
from lmri.store.atomic import atomic_file

HEADERS = (
    "products.h",
    "sums.h",
    "arguments.h",
    "channels.h",
    "between.h",
    "active.h",
    "pages.h",
)
SOURCES = (*HEADERS, "products.cpp", "operators.cpp")
COMPILERS = ("g++", "c++", "clang++")
"""Looked for in this order where the variable CXX names none."""

FLAGS = ("-O3", "-std=c++20", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-Wno-psabi")

EXACT = ("-ffp-contract=off",)
"""For all but the inner loops of products: no multiplication and addition in one, to round as torch
does."""

PORTABLE = {"portable_products": (16, ())}
X86 = {
    "avx2_products": (32, ("-mavx2", "-mfma")),
    "avx512_products": (64, ("-mavx512f", "-mfma")),
}
"""Sets of products: bytes of a vector register, and the flags that allow its instructions."""

SECONDS = 600
"""A compiler that takes longer is taken to hang."""


def built_library() -> Path:
    """Return the library of kernels, built if it is not there.

    Several processes may ask at once: one builds, the others wait for it.

    Returns
    -------
    Path
        A shared library to give to ``torch.ops.load_library``.

    Raises
    ------
    SparseError
        If there is no compiler, if it fails, or if the cache is not private.
    """
    compiler = find_compiler()
    path = _private_cache() / f"{build_key(compiler)}.so"
    if not path.exists():
        with _waiting_lock(path.with_suffix(".lock")):
            if not path.exists():
                _build(compiler, path)
    return path


def find_compiler() -> list[str]:
    """Find a C++ compiler: the command in the variable CXX, or the first of :data:`COMPILERS`.

    Returns
    -------
    list of str
        The command, the first word with its full path.

    Raises
    ------
    SparseError
        If there is none.
    """
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [[name] for name in COMPILERS]:
        program = shutil.which(command[0])
        if program is not None:
            return [program, *command[1:]]
    looked = f"CXX='{named[0]}'" if named else ", ".join(COMPILERS)
    raise SparseError(
        f"There is no C++ compiler to build the sparse kernels with (looked for {looked}): install "
        "g++ or name one in CXX."
    )


def build_key(compiler: Sequence[str]) -> str:
    """Hash all that a library depends on.

    Parameters
    ----------
    compiler : sequence of str
        Its command.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    parts = [
        *((_folder() / name).read_text(encoding="utf-8") for name in SOURCES),
        *FLAGS,
        *EXACT,
        repr(_sets()),
        shlex.join(compiler),
        _run([*compiler, "--version"]),
        platform.system(),
        platform.machine(),
        torch.__version__,
        str(torch.compiled_with_cxx11_abi()),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _build(compiler: Sequence[str], path: Path) -> None:
    of_torch = Path(torch.__file__).parent
    include = of_torch / "include"
    headers = ["-isystem", str(include), "-isystem", str(include / "torch/csrc/api/include")]
    # OpenMP is torch's own copy, found through its library: a second one would bring a second pool
    # of threads. So the flag is for the compiler and not for the linker.
    parallel = ["-fopenmp"] if torch.backends.openmp.is_available() else []
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    with tempfile.TemporaryDirectory() as folder, atomic_file(path) as partial:
        objects = [f"{folder}/operators.o"]
        source = str(_folder() / "operators.cpp")
        _run([*compiler, *FLAGS, *EXACT, abi, *parallel, *headers, "-c", source, "-o", objects[0]])
        for name, (size, flags) in _sets().items():
            objects.append(f"{folder}/{name}.o")
            names = [f"-DLMRI_PRODUCTS={name}", f"-DLMRI_BYTES={size}"]
            source = str(_folder() / "products.cpp")
            _run([*compiler, *FLAGS, *flags, *names, "-c", source, "-o", objects[-1]])
        # What is missing shows when the library is loaded, not at the first product.
        libraries = ["-Wl,-z,now", f"-L{of_torch / 'lib'}", "-ltorch_cpu", "-lc10"]
        _run([*compiler, "-shared", *objects, *libraries, "-o", str(partial)])


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SparseError(f"The compiler of the sparse kernels cannot be run: {error}.") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        first = (errors or done.stderr.splitlines() or ["it says nothing"])[0]
        raise SparseError(
            f"The sparse kernels cannot be built with '{command[0]}': {first.strip()}."
        )
    return done.stdout


def _sets() -> dict[str, tuple[int, tuple[str, ...]]]:
    return PORTABLE | (X86 if platform.machine() in {"x86_64", "AMD64"} else {})


def _folder() -> Path:
    return Path(str(resources.files("lmri.sparse.kernels")))


def _private_cache() -> Path:
    """Make the folder of libraries; refuse one that others can write, whose code we would run."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    folder = root / "lmri" / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except (OSError, RuntimeError) as error:
        raise SparseError(f"The sparse kernels have no place to be kept: {error}.") from error
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SparseError(
            f"{folder}: others may write it, so no kernels are run from there. Make it yours alone "
            "(chmod 700), or name another place in XDG_CACHE_HOME."
        )
    return folder


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
