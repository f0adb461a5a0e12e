"""Manifests: the hash of every file of a store, so that a lost or altered byte is found.

Snakemake does not notice a chunk that is deleted or changed inside a ``directory()`` output; a
reader that checks the manifest does.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lmri.errors import StoreError
from lmri.store.atomic import write_text_atomic

SCHEMA = "lmri.manifest/1"

# Snakemake drops this file into every directory output after the job has ended.
IGNORED = frozenset({".snakemake_timestamp"})


def sha256_file(path: Path) -> str:
    """Hash one file without loading it whole.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(store: Path, manifest: Path, **description: object) -> dict:
    """List every file of a store with its size and hash.

    Parameters
    ----------
    store : Path
        The finished folder.
    manifest : Path
        The JSON file to write.
    **description
        Further entries (shapes, provenance), JSON-able.

    Returns
    -------
    dict
        The manifest: ``schema``, ``store`` (name), ``files`` (relative path to ``[bytes,
        sha256]``), ``sha256`` (hash of the list of files), and the description.
    """
    files = {
        str(path.relative_to(store)): [path.stat().st_size, sha256_file(path)]
        for path in _files(store)
    }
    listing = json.dumps(files, sort_keys=True)
    content = {
        "schema": SCHEMA,
        "store": store.name,
        "sha256": hashlib.sha256(listing.encode()).hexdigest(),
        "files": files,
        **description,
    }
    write_text_atomic(manifest, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return content


def read_manifest(manifest: Path) -> dict:
    """Read a manifest.

    Parameters
    ----------
    manifest : Path
        The JSON file.

    Returns
    -------
    dict
        As :func:`write_manifest` returned it.

    Raises
    ------
    StoreError
        If it is missing or not a manifest.
    """
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(
            f"{manifest}: no such manifest. Was the job that writes it finished?"
        ) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{manifest}: not a readable manifest ({error}). Delete it and run again."
        ) from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise StoreError(f"{manifest}: the 'schema' of a manifest must be '{SCHEMA}'.")
    return content


def verify_store(store: Path, manifest: Path) -> dict:
    """Check that a store holds exactly the bytes its manifest lists.

    Parameters
    ----------
    store : Path
        The folder.
    manifest : Path
        Its manifest.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    StoreError
        Naming the first missing, truncated, altered or additional file.
    """
    content = read_manifest(manifest)
    if not store.is_dir():
        raise StoreError(f"{store}: no such store, though {manifest.name} describes it.")
    present = {str(path.relative_to(store)): path for path in _files(store)}
    for name, (size, digest) in content["files"].items():
        path = present.pop(name, None)
        if path is None:
            raise StoreError(f"{store}: the file '{name}' is missing. {_again(store)}")
        got = path.stat().st_size
        if got != size:
            raise StoreError(
                f"{store}: '{name}' must have {size} bytes. Got {got}. {_again(store)}"
            )
        if sha256_file(path) != digest:
            raise StoreError(f"{store}: '{name}' was altered (SHA-256 differs). {_again(store)}")
    if present:
        raise StoreError(f"{store}: '{min(present)}' is not in the manifest. {_again(store)}")
    return content


def verify(path: Path) -> dict:
    """Check a store, given by its folder or by its manifest.

    Parameters
    ----------
    path : Path
        ``<store>`` or ``<store>.manifest.json``.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    StoreError
        If anything differs, see :func:`verify_store`.
    """
    suffix = ".manifest.json"
    if path.name.endswith(suffix):
        return verify_store(path.with_name(path.name.removesuffix(suffix)), path)
    return verify_store(path, path.with_name(path.name + suffix))


def _again(store: Path) -> str:
    return f"Delete {store} and run again: the job that wrote it is repeated."


def _files(store: Path) -> list[Path]:
    return sorted(p for p in store.rglob("*") if p.is_file() and p.name not in IGNORED)
