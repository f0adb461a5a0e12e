"""Whole studies checked at once, and whether a store is finished and need not be written again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lmri.errors import StoreError
from lmri.store.manifest import SUFFIX, manifest_path, problems, read_manifest, verify_store


@dataclass(frozen=True)
class CheckedStore:
    """What checking one store found.

    Attributes
    ----------
    store : Path
        The store.
    problems : tuple of str
        What is wrong, one entry for each damaged file; empty when every byte is as written.
    files, bytes : int
        How many the manifest lists; 0 when it cannot be read.
    sha256 : str
        Hash of the list of files; empty when the manifest cannot be read.
    """

    store: Path
    problems: tuple[str, ...]
    files: int = 0
    bytes: int = 0
    sha256: str = ""

    def __str__(self) -> str:
        if self.problems:
            return f"{self.store}: DAMAGED: {'; '.join(self.problems)}"
        return (
            f"{self.store}: {self.files} files, {self.bytes} bytes as written, {self.sha256[:12]}"
        )


def check_stores(paths: Iterable[Path]) -> Iterator[CheckedStore]:
    """Check stores byte by byte against their manifests.

    Parameters
    ----------
    paths : iterable of Path
        Stores, manifests, or folders: below a folder every manifest is checked, and a recording
        without one is reported. Each store is checked once.

    Yields
    ------
    CheckedStore
        One for each store.

    Raises
    ------
    StoreError
        If a path holds nothing that can be checked.
    """
    seen = set()
    for path in paths:
        stores = _find(path)
        if not stores:
            raise StoreError(
                f"{path}: neither a store nor a manifest, and no manifest below it. "
                "Give a store, its manifest, or the folder of a study."
            )
        for store in stores:
            if store.absolute() not in seen:
                seen.add(store.absolute())
                yield check_store(store)


def check_store(store: Path) -> CheckedStore:
    """Check one store byte by byte against its manifest.

    Parameters
    ----------
    store : Path
        The folder.

    Returns
    -------
    CheckedStore
        With everything that is wrong.
    """
    manifest = manifest_path(store)
    if not manifest.exists():
        return CheckedStore(store, (f"its manifest '{manifest.name}' is missing",))
    try:
        content = read_manifest(manifest)
    except StoreError as error:
        reason = str(error).removeprefix(f"{manifest}: ").partition(". ")[0].rstrip(".")
        return CheckedStore(store, (f"'{manifest.name}': {reason}",))
    return CheckedStore(
        store,
        tuple(problems(store, content)),
        len(content["files"]),
        sum(size for size, _ in content["files"].values()),
        content["sha256"],
    )


def finished_store(store: Path, manifest: Path, provenance: Mapping[str, object]) -> bool:
    """Tell whether a store is complete, undamaged, and what would be written again.

    Parameters
    ----------
    store : Path
        The folder.
    manifest : Path
        Its manifest.
    provenance : mapping
        What its job would write as its provenance.

    Returns
    -------
    bool
        True if every byte is as the manifest says and the provenance is equal.
    """
    try:
        content = verify_store(store, manifest)
    except StoreError:
        return False
    return content.get("provenance") == json.loads(json.dumps(provenance))


def _find(path: Path) -> list[Path]:
    if path.name.endswith(SUFFIX):
        return [path.with_name(path.name.removesuffix(SUFFIX))]
    if manifest_path(path).exists() or path.suffix == ".zarr":
        return [path]
    if not path.is_dir():
        return []
    described = {p.with_name(p.name.removesuffix(SUFFIX)) for p in path.rglob(f"*{SUFFIX}")}
    # Maps have no manifest; a recording is told from them by its trials.
    recordings = {trials.parent for trials in path.rglob("*.zarr/trials")}
    return sorted(
        store
        for store in described | recordings
        if not any(part.startswith(".") for part in store.relative_to(path).parts)
    )
