"""Files between stages: recordings, maps, findings, tables, manifests, all written atomically."""

from lmri.store.atomic import atomic_directory, atomic_file, write_text_atomic
from lmri.store.carriers import carriers_of
from lmri.store.findings import finding_hash, read_finding, write_finding
from lmri.store.integrity import check_store, check_stores, finished_store
from lmri.store.locks import writing_lock
from lmri.store.manifest import (
    manifest_path,
    manifest_text,
    read_manifest,
    sha256_file,
    verify,
    verify_store,
    write_manifest,
)
from lmri.store.maps import CAUSAL_PHASE, FIRST_QUANTITY, read_map, write_map
from lmri.store.recordings import Recording, open_recording
from lmri.store.storage import encode
from lmri.store.tables import read_table, write_table
from lmri.store.trees import open_recordings
from lmri.store.writer import RecordingWriter

__all__ = [
    "CAUSAL_PHASE",
    "FIRST_QUANTITY",
    "Recording",
    "RecordingWriter",
    "atomic_directory",
    "atomic_file",
    "carriers_of",
    "check_store",
    "check_stores",
    "encode",
    "finding_hash",
    "finished_store",
    "manifest_path",
    "manifest_text",
    "open_recording",
    "open_recordings",
    "read_finding",
    "read_manifest",
    "read_map",
    "read_table",
    "sha256_file",
    "verify",
    "verify_store",
    "write_finding",
    "write_manifest",
    "write_map",
    "write_table",
    "write_text_atomic",
    "writing_lock",
]
