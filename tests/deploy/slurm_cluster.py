"""A SLURM cluster on this machine: munged, slurmctld and a slurmd per virtual node, all of Debian's.

Each node has its own address, process numbers, host name and scratch disk (namespaces), as real nodes
do. So Ray on one does not see that of another, and each has all ports. The nodes reach no other
network. All processes of a node end with it.

It needs root, and apt-get unless SLURM is there.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.network import Network, UnavailableError, network

__all__ = ["SlurmCluster", "UnavailableError", "cluster"]

PACKAGES = ("slurm-wlm", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
CPUS, MEMORY = 4, 16_000  # of a node, as SLURM counts; the host may have less
_START = 300.0  # seconds for the daemons
_PATH = os.pathsep.join(
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
)


def install() -> None:
    """Install SLURM and munge, unless they are there.

    Raises
    ------
    UnavailableError
        They cannot be installed here.
    """
    if os.geteuid() != 0:
        raise UnavailableError("slurmd has to be started by root")
    if all(shutil.which(name, path=_PATH) for name in PROGRAMS):
        return
    if not shutil.which("apt-get"):
        raise UnavailableError(f"there is no SLURM, and no apt-get to install {' '.join(PACKAGES)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    words = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *PACKAGES]
    for command in (words, ["apt-get", "update", "--quiet"], words):
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
        if command is words and done.returncode == 0:
            return
    raise UnavailableError(f"`{' '.join(words)}` failed: {done.stderr.strip()[-500:]}")


class SlurmCluster:
    """Nodes ``n1 ... n<count>`` and a controller; use :func:`cluster`, which ends them again.

    Parameters
    ----------
    net
        Hosts for the controller and the nodes.
    folder
        Of SLURM's own files; a short path, for munge's socket.
    """

    def __init__(self, net: Network, folder: Path) -> None:
        self.net, self.folder = net, folder
        self.count = len(net.hosts) - 1
        self.nodes = [f"n{i + 1}" for i in range(self.count)]
        self.scratch = folder / "disk"  # another file system on each node
        self.scratch.mkdir()
        (folder / "home").mkdir()
        self.environment = {
            "PATH": _PATH,
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(folder / "slurm.conf"),
        }
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the daemons, and wait for the nodes."""
        socket, key = self.folder / "munge", self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        (self.folder / "slurm.conf").write_text(self._configuration(socket))
        (self.folder / "state").mkdir()
        files = ("key-file", "pid-file", "log-file", "seed-file")
        names = dict(zip(files, ("munge.key", "munge.pid", "munge.log", "munge.seed"), strict=True))
        options = [f"--{option}={self.folder / name}" for option, name in names.items()]
        self._daemon("munged", "munged", "--foreground", "--force", f"--socket={socket}", *options)
        self._await(socket.exists, "munged")
        named = "hostname controller && exec slurmctld -D"
        self._daemon("slurmctld", *self.net.inside(0, "unshare", "--uts", "bash", "-c", named))
        for i, node in enumerate(self.nodes, start=1):
            (self.folder / node).mkdir()
            self._daemon(node, *self._inside(i, node, f"slurmd -D -N {node}"))
        self._await(self._idle, "slurmctld")

    def _configuration(self, socket: Path) -> str:
        folder = self.folder
        lines = [
            "ClusterName=test",
            f"SlurmctldHost=controller({self.net.address(0)})",
            "AuthType=auth/munge",
            "CredType=cred/munge",
            # A job that is requeued waits for its credential to expire, 120 s by default.
            f"AuthInfo=socket={socket},cred_expire=5",
            "SlurmUser=root",
            f"StateSaveLocation={folder / 'state'}",
            f"SlurmctldPidFile={folder / 'slurmctld.pid'}",
            f"SlurmctldLogFile={folder / 'slurmctld.log'}",
            f"SlurmdSpoolDir={folder}/%n",
            f"SlurmdPidFile={folder}/%n.pid",
            f"SlurmdLogFile={folder}/%n.log",
            "SlurmdParameters=config_overrides",  # CPUs and memory are as said below
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU_Memory",
            "SchedulerType=sched/backfill",
            "SchedulerParameters=bf_interval=2,sched_interval=2",
            "MpiDefault=none",
            "MailProg=/bin/true",
            "KillWait=15",
            "AccountingStorageType=accounting_storage/none",
            "PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP",
        ]
        for i, node in enumerate(self.nodes, start=1):
            lines.append(
                f"NodeName={node} NodeAddr={self.net.address(i)} NodeHostname={node} CPUs={CPUS} "
                f"RealMemory={MEMORY} State=UNKNOWN"
            )
        return "\n".join(lines) + "\n"

    def _inside(self, i: int, node: str, command: str) -> list[str]:
        """A command as the first thing that runs on a node; it does not outlive it."""
        # Not `ip netns exec`: that hides /sys/fs/cgroup, and slurmd does not start without it.
        spaces = ["nsenter", f"--net=/run/netns/{self.net.hosts[i]}", "unshare"]
        spaces += ["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--uts"]
        # The shell is process 1 there, and buries orphans.
        script = (
            f"hostname {node} && mount -t tmpfs {node} {self.scratch} && {{ {command} & wait; }}"
        )
        return [*spaces, "bash", "-c", script]

    def _daemon(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("wb") as output:
            process = subprocess.Popen(
                # They end with this process, also when it is killed.
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._daemons.append(process)

    def _await(self, ready: Callable[[], bool], what: str) -> None:
        limit = time.monotonic() + _START
        while not ready():
            if time.monotonic() > limit:
                said = (self.folder / f"{what}.out").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{what} did not start: {said}")
            time.sleep(0.2)

    def _idle(self) -> bool:
        done = self.run("sinfo", "--noheader", "--format=%D %t", check=False)
        return done.stdout.split() == [str(self.count), "idle"]

    def close(self) -> None:
        """End the daemons, and with them whatever runs on the nodes."""
        # Nodes lose their power, last come first gone; nothing of them is kept.
        for process in reversed(self._daemons):
            process.kill()
            process.wait()

    # -- what a user does ------------------------------------------------------------------------

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command where users work: on the controller's host."""
        return self._run(self.net.inside(0, *command), check)

    def on(self, node: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on a node, among its processes and with its disk."""
        return self._run(self.entering(node, *command), check)

    def entering(self, node: str, *command: str) -> list[str]:
        """The command that runs a command on a node."""
        spaces = ["--mount", "--uts", "--net", "--pid"]
        return ["nsenter", f"--target={self._leader(node)}", *spaces, *command]

    def _run(self, command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done

    def _leader(self, node: str) -> int:
        """Process 1 of a node, by its number here."""
        outer = self._daemons[2 + self.nodes.index(node)].pid
        children = Path(f"/proc/{outer}/task/{outer}/children").read_text(encoding="ascii").split()
        return int(children[0])

    def submit(self, script: Path, *options: str) -> str:
        """``sbatch``; returns the job's number."""
        done = self.run("sbatch", "--parsable", *options, str(script))
        return done.stdout.strip().partition(";")[0]

    def state(self, job: str) -> str:
        """State of a job, such as PENDING, RUNNING, COMPLETED or FAILED."""
        return self.told(job)["JobState"]

    def told(self, job: str) -> dict[str, str]:
        """Attributes of a job that ``scontrol`` shows."""
        text = self.run("scontrol", "--oneliner", "show", "job", job).stdout
        return dict(word.split("=", 1) for word in text.split() if "=" in word)


@contextmanager
def cluster(count: int) -> Iterator[SlurmCluster]:
    """A cluster of some nodes, for a while. All of it is removed, whatever happens.

    Raises
    ------
    UnavailableError
        There can be none here.
    """
    install()
    folder = Path(tempfile.mkdtemp(prefix="sl", dir="/tmp"))
    try:
        with network(count + 1) as net:
            found = SlurmCluster(net, folder)
            try:
                found.start()
                yield found
            finally:
                found.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Keep a cluster up for a shell in it: ``python -m tests.deploy.slurm_cluster``."""
    with cluster(2) as found:
        shell = os.environ.get("SHELL", "bash")
        path = os.pathsep.join([str(Path(sys.executable).parent), _PATH])
        environment = {**os.environ, **found.environment, "PATH": path}
        sys.stdout.write(f"2 nodes; their disks: {found.scratch}; exit ends them\n")
        sys.stdout.flush()
        subprocess.run(found.net.inside(0, shell), env=environment, check=False)


if __name__ == "__main__":
    main()
