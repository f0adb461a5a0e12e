"""Which process owns a temporary file or a lock, and whether that process is gone.

What a killed process left behind may be removed; what a live one is writing may not. A process id
alone cannot tell: ids are used again, other hosts that share the file system have their own, and so
have containers. An owner is therefore the host, the boot of its kernel, the space of its process
ids, the id, and the time at which that process started. Hosts that share a file system are taken to
have different names.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")
LABEL = re.compile(r"(\d+)-(\w*)-(\w*)-(\w*)@([\w.-]+)")


@dataclass(frozen=True)
class Owner:
    """A process, wherever it runs.

    Attributes
    ----------
    pid : int
        Its process id.
    start : str
        When it started, in ticks since the boot; empty where the system does not say.
    namespace : str
        Number of the space of process ids it lives in; empty where the system does not say.
    boot : str
        Start of the id of the boot; empty where the system does not say.
    host : str
        Name of the host.
    """

    pid: int
    start: str
    namespace: str
    boot: str
    host: str

    @classmethod
    def this(cls) -> Owner:
        """Return the owner that is running now."""
        pid = os.getpid()
        return cls(pid, _start(pid), *_machine())

    @classmethod
    def parse(cls, label: str) -> Owner | None:
        """Read a label back; None if it is none.

        Parameters
        ----------
        label : str
            See :meth:`label`.
        """
        found = LABEL.fullmatch(label)
        if found is None:
            return None
        pid, *rest = found.groups()
        return cls(int(pid), *rest)

    def label(self) -> str:
        """Return the owner as a part of a file name."""
        return f"{self.pid}-{self.start}-{self.namespace}-{self.boot}@{self.host}"

    def is_here(self) -> bool:
        """Tell whether it is a process of this host."""
        return self.host == _machine()[2]

    def is_gone(self) -> bool:
        """Tell whether the process has certainly ended; of another host this is never certain."""
        namespace, boot, host = _machine()
        if self.host != host:
            return False
        if self.boot != boot:
            return True  # the host was restarted since
        return self.namespace == namespace and not _alive(self.pid, self.start)


@cache
def _machine() -> tuple[str, str, str]:
    """Return the space of process ids, the boot, and the name of the host, fit for a file name."""
    try:
        namespace = f"{(PROC / 'self/ns/pid').stat().st_ino:x}"
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        namespace, boot = "", ""
    return namespace, boot, re.sub(r"[^\w.-]", "_", socket.gethostname(), flags=re.ASCII)[:40]


def _alive(pid: int, start: str) -> bool:
    if start:
        return _start(pid) == start
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it runs, as another user
    return True


def _start(pid: int) -> str:
    """Return when a process started; empty if it has ended or the system does not say."""
    try:
        content = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name of the process, in parentheses, may hold anything: fields are counted after it.
    state, *fields = content.rpartition(")")[2].split()
    return "" if state in {"Z", "X"} else fields[18]
