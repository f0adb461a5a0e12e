"""Manifests: the hash of every file of a store, so that a lost or altered byte is found.

Snakemake does not notice a chunk that is deleted or changed inside a ``directory()`` output; a
reader that checks the manifest does. The manifest carries its own hash, and is read only if it is
byte for byte what was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from lmri.errors import StoreError
from lmri.store.atomic import write_text_atomic

SCHEMA = "lmri.manifest/2"
SUFFIX = ".manifest.json"

# Snakemake drops this file into every directory output after the job has ended.
IGNORED = ".snakemake_timestamp"


def manifest_path(store: Path) -> Path:
    """Return where the manifest of a store is.

    Parameters
    ----------
    store : Path
        The store.

    Returns
    -------
    Path
        ``<store>.manifest.json``.
    """
    return store.with_name(store.name + SUFFIX)


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


def write_manifest(
    store: Path,
    manifest: Path,
    hashes: Mapping[str, tuple[int, str]] | None = None,
    **description: object,
) -> dict:
    """List every file of a store with its size and hash.

    Parameters
    ----------
    store : Path
        The finished folder.
    manifest : Path
        The JSON file to write.
    hashes : mapping of str to (int, str), optional
        Bytes and SHA-256 of files that were hashed as they were written, by relative path; the
        others are read.
    **description
        Further entries (shapes, provenance), JSON-able.

    Returns
    -------
    dict
        The manifest: ``schema``, ``store`` (name), ``files`` (relative path to ``[bytes,
        sha256]``), ``sha256`` (hash of the list of files), the description, and ``hash`` (of all
        else in the manifest).

    Raises
    ------
    StoreError
        If a file that was written is missing, or has another size.
    """
    hashes = hashes or {}
    files = {}
    for path in _files(store):
        name, size = str(path.relative_to(store)), path.stat().st_size
        written, digest = hashes.get(name) or (size, sha256_file(path))
        if size != written:
            raise StoreError(
                f"{path}: must have the {written} bytes that were written. Got {size}: look at the "
                "disk, delete the store and run again."
            )
        files[name] = [size, digest]
    for name in sorted(hashes.keys() - files.keys()):
        raise StoreError(
            f"{store / name}: was written and is missing. Delete the store, run again."
        )
    listing = json.dumps(files, sort_keys=True)
    content = {
        "schema": SCHEMA,
        "store": store.name,
        "sha256": hashlib.sha256(listing.encode()).hexdigest(),
        "files": files,
        **description,
    }
    text = manifest_text(content)
    write_text_atomic(manifest, text)
    return json.loads(text)


def manifest_text(content: Mapping[str, object]) -> str:
    """Render a manifest with its hash.

    Parameters
    ----------
    content : mapping
        The manifest; a ``hash`` in it is not looked at.

    Returns
    -------
    str
        JSON, the same for the same content.
    """
    # Through JSON first, so that the hash is that of what a reader will see.
    content = json.loads(json.dumps({**content, "hash": ""}))
    content["hash"] = hashlib.sha256(_render(content).encode()).hexdigest()
    return _render(content)


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
        If it is missing, not a manifest, or not what was written.
    """
    try:
        text = manifest.read_bytes().decode("utf-8")
        content = json.loads(text)
    except FileNotFoundError:
        raise StoreError(
            f"{manifest}: no such manifest. Was the job that writes it finished?"
        ) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{manifest}: not a readable manifest ({error}). Delete it and run again."
        ) from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise StoreError(
            f"{manifest}: the 'schema' of a manifest must be '{SCHEMA}'. Delete it and run again."
        )
    if manifest_text(content) != text:
        raise StoreError(
            f"{manifest}: the manifest was altered (its hash does not match). "
            "Delete it and run again."
        )
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
    for problem in problems(store, content):
        raise StoreError(f"{store}: {problem}. {_again(store)}")
    return content


def problems(store: Path, content: Mapping) -> Iterator[str]:
    """Compare a store with its manifest.

    Parameters
    ----------
    store : Path
        The folder.
    content : mapping
        Its manifest.

    Yields
    ------
    str
        What is wrong with each missing, truncated, altered or additional file, which is named.
    """
    if not store.is_dir():
        yield "no such store, though its manifest is there"
        return
    present = {str(path.relative_to(store)): path for path in _files(store)}
    for name, (size, digest) in content["files"].items():
        path = present.pop(name, None)
        if path is None:
            yield f"the file '{name}' is missing"
        elif (got := path.stat().st_size) != size:
            yield f"'{name}' must have {size} bytes. Got {got}"
        elif sha256_file(path) != digest:
            yield f"'{name}' was altered (SHA-256 differs)"
    for name in sorted(present):
        yield f"'{name}' is not in the manifest"


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
    if path.name.endswith(SUFFIX):
        return verify_store(path.with_name(path.name.removesuffix(SUFFIX)), path)
    return verify_store(path, manifest_path(path))


def _render(content: Mapping) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _again(store: Path) -> str:
    return f"Delete {store} and run again: the job that wrote it is repeated."


def _files(store: Path) -> list[Path]:
    # A link counts as the file it points to, and as an additional file if it points nowhere.
    return sorted(
        path
        for path in store.rglob("*")
        if (path.is_file() or path.is_symlink()) and path != store / IGNORED
    )
