"""A cluster of two nodes on the loopback of one machine, with and without accounting.

The configuration must be in /etc/slurm: the step of a job that Snakemake starts drops SLURM_CONF.
Links there lead to a temporary folder, and are removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

from daemons import Daemons, end_by_id, free_ports, left_behind

ETC = Path("/etc/slurm")
LINKED = ("slurm.conf", "gres.conf", "slurmdbd.conf")
NODES = ("n1", "n2")
ACCOUNT = "lab"

SLURM = """\
ClusterName=lmri
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
# Credentials that expire soon: a requeued job waits until those of its first start have.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=2
MpiDefault=none
ReturnToService=2
JobRequeue=1
MinJobAge=3600
KillWait=5
GresTypes=gpu
JobCompType=jobcomp/none
NodeName=DEFAULT CPUs=2 RealMemory=12000
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} Gres=gpu:1
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=120 State=UP
PartitionName=gpu Nodes=n2 MaxTime=120 State=UP
"""
WITHOUT = "AccountingStorageType=accounting_storage/none\nJobAcctGatherType=jobacct_gather/none\n"
WITH = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[3]}
AccountingStoragePass={folder}/munge.socket
JobAcctGatherType=jobacct_gather/linux
"""
DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports[3]}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[4]}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
"""


class Cluster:
    """Daemons of Slurm and what they need, all of them below one folder.

    Parameters
    ----------
    folder : Path
        Empty; state, sockets and logs go there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons = Daemons(folder / "logs")
        self._ports = free_ports(5)
        self._links: list[Path] = []

    def start(self, *, accounting: bool) -> None:
        """Bring the cluster up and wait until its nodes take jobs."""
        there = [ETC / name for name in LINKED if os.path.lexists(ETC / name)]
        if there:
            raise SystemExit(f"{there[0]} is there: this machine has a Slurm of its own.")
        self._configure(accounting)
        self._authenticate()
        if accounting:
            self._start_accounting()
        self._daemons.start("slurmctld", "slurmctld", "-D", "-c")
        for node in NODES:
            self._daemons.start(f"slurmd_{node}", "slurmd", "-D", "-N", node)
        self._daemons.wait("nodes", lambda: said("sinfo", "-h", "-o", "%t %D") == "idle 2")

    def stop(self) -> None:
        """End the jobs, then the daemons, by their ids, and take the links away."""
        for job in said("squeue", "-h", "-o", "%A").split():
            subprocess.run(["scancel", "--signal=KILL", "--full", job], check=False)
        self._daemons.stop()
        end_by_id(left_behind(self._folder))
        for link in self._links:
            link.unlink(missing_ok=True)
        self._links.clear()

    def _configure(self, accounting: bool) -> None:
        folder = self._folder
        for name in ("state", *(f"spool_{node}" for node in NODES)):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir(parents=True)
        values = {
            "folder": folder,
            "ports": self._ports,
            "host": socket.gethostname(),
            "password": (password := secrets.token_hex(16)),
        }
        self._password = password
        write = {
            "slurm.conf": SLURM + (WITH if accounting else WITHOUT),
            "gres.conf": "NodeName=n2 Name=gpu File=/dev/null\n",
            "slurmdbd.conf": DATABASE,
        }
        ETC.mkdir(exist_ok=True)
        for name, text in write.items():
            path = folder / name
            path.touch(mode=0o600)
            path.write_text(text.format(**values))
            if name == "slurm.conf":
                path.chmod(0o644)
            (ETC / name).symlink_to(path)
            self._links.append(ETC / name)

    def _authenticate(self) -> None:
        key = self._folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        names = {"key-file": "key", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
        options = [f"--{name}={self._folder}/munge.{end}" for name, end in names.items()]
        socket_of = self._folder / "munge.socket"
        self._daemons.start("munged", "munged", "-F", "-f", f"--socket={socket_of}", *options)
        self._daemons.wait("munged", socket_of.exists)

    def _start_accounting(self) -> None:
        folder, at = self._folder, self._folder / "mysql.socket"
        data = folder / "mysql"
        run(
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            "--user=root",
            "--skip-test-db",
        )
        self._daemons.start(
            "mariadbd",
            *("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={at}"),
            *("--bind-address=127.0.0.1", f"--port={self._ports[4]}", "--skip-name-resolve"),
            f"--pid-file={folder}/mysql.pid",
        )
        client = ("mariadb", "--no-defaults", f"--socket={at}", "--user=root")
        self._daemons.wait("mariadbd", lambda: _works(*client, "-e", "select 1"))
        run(
            *client,
            "-e",
            f"create database slurm; create user 'slurm'@'127.0.0.1' identified by "
            f"'{self._password}'; grant all on slurm.* to 'slurm'@'127.0.0.1';",
        )
        self._daemons.start("slurmdbd", "slurmdbd", "-D")
        self._daemons.wait("slurmdbd", lambda: _works("sacctmgr", "-n", "list", "cluster"))
        run("sacctmgr", "-i", "add", "cluster", "lmri")
        run("sacctmgr", "-i", "add", "account", ACCOUNT)
        run("sacctmgr", "-i", "add", "user", "root", f"account={ACCOUNT}")


def run(*command: str) -> str:
    """Run a command and return what it says; end everything if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def said(*command: str) -> str:
    """Return what a command says; nothing where it fails."""
    with contextlib.suppress(SystemExit, OSError, subprocess.TimeoutExpired):
        return run(*command)
    return ""


def _works(*command: str) -> bool:
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return done.returncode == 0
