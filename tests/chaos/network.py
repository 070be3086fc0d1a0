"""Hosts with addresses of their own on one machine: network namespaces joined by a bridge.

The bridge lies in a namespace of its own, so nothing is changed in that of the machine, and there is
no way from the hosts to anywhere else. It needs root and ``ip`` (iproute2). What runs in the
namespaces was started there: all of it is ended when they are removed, by process number.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "ddgm-"
SUBNET = "198.18.0"  # of the block that RFC 2544 sets aside for such tests
_PATIENCE = 120.0  # seconds for processes to end


class UnavailableError(Exception):
    """Namespaces cannot be made here; the message says what failed."""


class Network:
    """Hosts ``0 ... count - 1`` on a switch; use :func:`network`, which removes them again.

    Parameters
    ----------
    count
        Hosts.

    Raises
    ------
    UnavailableError
        Namespaces cannot be made here.
    """

    def __init__(self, count: int) -> None:
        tag = f"{PREFIX}{os.getpid()}-"
        self.switch, self.hosts = f"{tag}switch", [f"{tag}{i}" for i in range(count)]
        try:
            self._build()
        except UnavailableError:
            self.close()
            raise

    def _build(self) -> None:
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "bridge", "up")
        for i, host in enumerate(self.hosts):
            port = self._port(i)
            _ip("netns", "add", host)
            pair = ("type", "veth", "peer", "name", "eth0", "netns", host)
            _ip("-n", self.switch, "link", "add", port, *pair)
            _ip("-n", self.switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", host, "address", "add", f"{self.address(i)}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "lo", "up")
            _ip("-n", host, "link", "set", "eth0", "up")
            # Leads nowhere; but Ray finds its own address by asking for the way to the world.
            _ip("-n", host, "route", "add", "default", "dev", "eth0")

    @staticmethod
    def _port(i: int) -> str:
        return f"port{i}"

    @staticmethod
    def address(i: int) -> str:
        """Of a host."""
        return f"{SUBNET}.{i + 1}"

    def inside(self, i: int, *command: str) -> list[str]:
        """The command that runs a command on a host."""
        return [_tool(), "netns", "exec", self.hosts[i], *command]

    def cut(self, i: int) -> None:
        """Pull a host's cable at the switch: what is sent is lost, and nobody is told."""
        _ip("-n", self.switch, "link", "set", self._port(i), "down")

    def mend(self, i: int) -> None:
        """Plug it in again."""
        _ip("-n", self.switch, "link", "set", self._port(i), "up")

    def processes(self, i: int) -> list[int]:
        """All processes of a host."""
        return _processes(self.hosts[i])

    def end(self, i: int) -> None:
        """End all processes of a host, as when its power fails."""
        _end(self.hosts[i])

    def close(self) -> None:
        """End all processes and remove the namespaces, and with them their links."""
        for name in [*self.hosts, self.switch]:
            _remove(name)


@contextmanager
def network(count: int) -> Iterator[Network]:
    """A network for a while; first, those that killed processes have left are removed."""
    for name in _existing():
        owner = name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            _remove(name)
    made = Network(count)
    try:
        yield made
    finally:
        made.close()


def _tool() -> str:
    found = shutil.which("ip", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        raise UnavailableError("no `ip` (iproute2) is installed")
    return found


def _ip(*words: str) -> str:
    done = subprocess.run([_tool(), *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnavailableError(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout


def _existing() -> list[str]:
    folder = Path("/run/netns")
    return [p.name for p in folder.glob(f"{PREFIX}*")] if folder.is_dir() else []


def _processes(name: str) -> list[int]:
    return [int(word) for word in _ip("netns", "pids", name).split()]


def _end(name: str) -> None:
    limit = time.monotonic() + _PATIENCE
    while (found := _processes(name)) and time.monotonic() < limit:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _remove(name: str) -> None:
    if name in _existing():
        _end(name)
        _ip("netns", "delete", name)
