"""Where an artefact comes from: the code, the configuration, the subject, the libraries.

Snakemake does not notice that an installed package has changed. Every rule therefore carries
:func:`code_hash` of its stage as a parameter, so it must be quick and give the same value in
every process.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import lmri
from lmri.checks import check_choice
from lmri.errors import StoreError

ENTRIES = {
    "base": ("subjects", "train_base"),
    "subject": ("subjects", "prepare_subject"),
    "stimuli": ("stimuli", "write_stimuli"),
    "record": ("record", "record_task"),
    "localise": ("localise", "localise_subject"),
    "group": ("localise", "map_group"),
    "calibrate": ("sparse", "calibrate_subject"),
    "record_sparse": ("sparse", "record_sparse"),
    "survive": ("localise", "compare_maps"),
    "sparse_run": ("sparse", "measure_subject"),
    "information": ("information", "information_subject"),
    "dynamics": ("information", "follow_series"),
    "connect": ("connect", "connect_subject"),
    "align": ("align", "align_subjects"),
    "decode": ("decode", "decode_subject"),
    "encode": ("encode", "encode_subject"),
    "examples": ("examples", "find_examples"),
    "draws": ("validate", "score_draws"),
    "validate": ("validate", "validate_subject"),
    "experiment": ("experiment", "run_experiment"),
    "compare": ("validate", "write_comparisons"),
    "bottleneck": ("information.bottleneck", "train_bottleneck"),
    "bottleneck_summary": ("information.bottleneck", "summarise_bottleneck"),
    "report": ("report", "write_report"),
}
"""Stages of the workflow: the package and the function that each one calls."""

LIBRARIES = ("numpy", "scipy", "pandas", "xarray", "zarr", "torch", "transformers", "safetensors")

# Weights are inputs of a study, not code; the card beside them holds their hash.
WEIGHTS = ".safetensors"


def code_hash(stage: str, root: Path | None = None) -> str:
    """Hash the code of a stage: the module of its function and all of lmri that it imports.

    The closure is static: every import statement counts, also those inside functions. Packages
    whose ``__init__`` only passes names on are looked through to the modules the names are from.
    Data files of the packages (templates, cards) count, weights do not. The command line is no
    part of it.

    Parameters
    ----------
    stage : str
        One of :data:`ENTRIES`.
    root : Path, optional
        Folder of the package lmri; by default the one that is running.

    Returns
    -------
    str
        SHA-256 in hexadecimal.

    Raises
    ------
    StoreError
        If the stage is unknown or its package is not there.
    """
    check_choice(stage, ENTRIES, "stage", "a code hash", StoreError)
    root = Path(__file__).parents[1] if root is None else root
    package, function = ENTRIES[stage]
    modules = _Modules(root)
    start = modules.resolve(f"{root.name}.{package}", function)
    if modules.file(start) is None:
        raise StoreError(f"{root}: there is no module '{start}' to hash for the stage '{stage}'.")
    total = hashlib.sha256()
    for path in sorted(modules.closure(start)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return total.hexdigest()


def slice_hash(config_slice: Mapping[str, object]) -> str:
    """Hash a slice of the configuration.

    Parameters
    ----------
    config_slice : mapping
        JSON-able, see :func:`lmri.config.stage_slice`.

    Returns
    -------
    str
        SHA-256 of its canonical JSON, in hexadecimal.
    """
    text = json.dumps(config_slice, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def provenance(
    stage: str,
    config_slice: Mapping[str, object],
    seed: int,
    subject_hash: str | None = None,
) -> dict[str, object]:
    """Describe where an artefact comes from.

    Parameters
    ----------
    stage : str
        Who writes it.
    config_slice : mapping
        What the stage read of the configuration.
    seed : int
        Seed of its random numbers.
    subject_hash : str, optional
        ``sha256`` of the manifest of its subject.

    Returns
    -------
    dict
        ``lmri`` (version), ``stage``, ``code``, ``config``, ``subject`` (hashes; ``subject`` is
        None without one), ``seed``, ``threads`` (of a process: sums depend on them), ``python``,
        ``libraries`` (name to version).
    """
    return {
        "lmri": lmri.__version__,
        "stage": stage,
        "code": code_hash(stage),
        "config": slice_hash(config_slice),
        "subject": subject_hash,
        "seed": seed,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(),
        # From the installed metadata: importing torch to ask its version takes seconds.
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


class _Modules:
    """Modules of the package as they are now: a closure asks for the same ones again and again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = cache(self._file)
        self.resolve = cache(self._resolve)
        self.passed_on = cache(self._passed_on)

    def closure(self, start: str) -> set[Path]:
        """Collect the files of a module and of all it imports, with the data of their packages."""
        files: set[Path] = set()
        seen: set[str] = set()
        packages: set[str] = set()
        waiting = [start]
        while waiting:
            module = waiting.pop()
            path = self.file(module)
            if module in seen or path is None:
                continue
            seen.add(module)
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            files.add(path)
            packages.add(package)
            waiting.extend(self._impure_packages(module))
            for target in _imports(path.read_text(encoding="utf-8"), package):
                waiting.append(self.resolve(*target))
        for package in packages:
            files.update(_data_files(self.root.parent.joinpath(*package.split("."))))
        return files

    def _file(self, module: str) -> Path | None:
        """Return the file of a module of the package, or None if it has no module of that name."""
        top, *rest = module.split(".")
        if top != self.root.name or rest[:1] == ["cli"]:
            return None
        path = self.root.joinpath(*rest)
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if candidate.is_file():
                return candidate
        return None

    def _impure_packages(self, module: str) -> Iterator[str]:
        """Yield the packages above a module whose ``__init__`` does more than pass names on."""
        while "." in module:
            module = module.rpartition(".")[0]
            if self.file(module) is not None and self.passed_on(module) is None:
                yield module

    def _resolve(self, module: str, name: str | None) -> str:
        """Return the module an imported name comes from.

        A package whose ``__init__`` only passes names on is looked through: a stage that imports
        one function of ``lmri.store`` does not depend on the other modules there.
        """
        if name is None:
            return module
        if self.file(f"{module}.{name}") is not None:
            return f"{module}.{name}"
        path = self.file(module)
        if path is not None and path.name == "__init__.py":
            passed_on = self.passed_on(module) or {}
            if name in passed_on:
                return self.resolve(*passed_on[name])
        return module

    def _passed_on(self, package: str) -> dict[str, tuple[str, str | None]] | None:
        return _passed_on(self.file(package).read_text(encoding="utf-8"), package)


def _data_files(package: Path) -> Iterator[Path]:
    """Yield the data of one package: folders below it that are packages keep theirs."""
    for path in package.iterdir():
        if path.is_dir():
            if path.name != "__pycache__" and not (path / "__init__.py").exists():
                yield from _data_files(path)
        elif path.suffix not in {".py", ".pyc", WEIGHTS}:
            yield path


@cache
def _passed_on(source: str, package: str) -> dict[str, tuple[str, str | None]] | None:
    """Map the names an ``__init__`` passes on to where they are from; None if it does more."""
    tree = ast.parse(source)
    for node in tree.body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_docstring and not isinstance(node, ast.ImportFrom) and not _sets_dunder(node):
            return None
    return {
        alias.asname or alias.name: (_from(node, package), alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _sets_dunder(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and all(
        isinstance(target, ast.Name) and target.id in {"__all__", "__version__"}
        for target in node.targets
    )


@cache
def _imports(source: str, package: str) -> tuple[tuple[str, str | None], ...]:
    """Return every (module, name) that a source imports; the name is None for whole modules."""
    found: list[tuple[str, str | None]] = []
    for node in _statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.extend((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.extend((_from(node, package), alias.name) for alias in node.names)
    return tuple(found)


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Walk over all statements, and over no expression: none of them holds an import."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        # Bodies of blocks and their branches, the handlers of a try, the cases of a match.
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, name, ())
            waiting.extend(inner)
        if isinstance(node, ast.stmt):
            yield node


def _from(node: ast.ImportFrom, package: str) -> str:
    """Return the absolute name of the module of a ``from … import``."""
    if not node.level:
        return node.module or ""
    above = package.split(".")
    above = above[: len(above) - node.level + 1]
    return ".".join([*above, node.module] if node.module else above)
