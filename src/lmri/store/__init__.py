"""Files between stages: recordings, maps, findings, tables, manifests, all written atomically."""

from lmri.store.atomic import atomic_directory, atomic_file, write_text_atomic
from lmri.store.findings import finding_hash, read_finding, write_finding
from lmri.store.manifest import read_manifest, sha256_file, verify, verify_store, write_manifest
from lmri.store.maps import read_map, write_map
from lmri.store.recordings import Recording, RecordingWriter, open_recording
from lmri.store.tables import read_table, write_table

__all__ = [
    "Recording",
    "RecordingWriter",
    "atomic_directory",
    "atomic_file",
    "finding_hash",
    "open_recording",
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
]
