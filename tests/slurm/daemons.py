"""Processes that are started here, and stopped by their ids whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


class Daemons:
    """Daemons in the foreground, each with a log of its own."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, subprocess.Popen]] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, *command: str | Path) -> None:
        """Start a daemon; its output goes to ``<name>.log``."""
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                list(map(str, command)), stdout=log, stderr=log, start_new_session=True
            )
        self._running.append((name, process))

    def wait(self, what: str, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something is there; say which daemon ended instead."""
        end = time.monotonic() + seconds
        while not ready():
            for name, process in self._running:
                if process.poll() is not None:
                    raise SystemExit(f"{name} ended with {process.returncode}:\n{self.log(name)}")
            if time.monotonic() > end:
                names = "".join(f"\n{name}: {self.log(name)}" for name, _ in self._running)
                raise SystemExit(f"{what}: not ready after {seconds:g} s{names}")
            time.sleep(0.2)

    def log(self, name: str) -> str:
        """Return the end of the log of a daemon."""
        return (self._logs / f"{name}.log").read_text(errors="replace")[-1500:]

    def stop(self) -> None:
        """End every daemon by its id, the last one first."""
        while self._running:
            _, process = self._running.pop()
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def left_behind(folder: Path) -> list[tuple[int, str]]:
    """List processes that name a folder or work in it: what a daemon or a job left."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                command = command.decode("utf-8", "replace")
                place = os.readlink(entry / "cwd")
                if f"{folder}/" in f"{command}/" or place.startswith(str(folder)):
                    found.append((int(entry.name), command))
    return found


def of_job(job: str) -> list[tuple[int, str]]:
    """List the processes of a job of Slurm with their commands, and none of Slurm's own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if f"SLURM_JOB_ID={job}".encode() in variables:
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found.append((int(entry.name), command.decode("utf-8", "replace")))
    return found


def end_by_id(processes: list[tuple[int, str]]) -> None:
    """Kill processes by their ids; those that have ended are none."""
    for pid, _ in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
