"""A Ray cluster of its own for tests: on loopback, with a dashboard, closed by a token.

Started as people start one, by ``ray start --block``, in a session of its own, and ended by killing
that session: never by ``ray stop``, which ends every Ray of the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

BIN = Path(sys.executable).parent
Node = TypeVar("Node")
STARTING = 300.0
# Ray gives its processes 30 to 60 s to come up, which can be too little on a machine that is busy.
PATIENT_START = {
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_gcs_server_request_timeout_seconds": "120",
    "RAY_worker_register_timeout_seconds": "300",
}


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs.

    Attributes
    ----------
    dashboard, gcs
        URL of the dashboard; address for ``--address``.
    token
        What it asks for.
    environment
        That a node was started with, the token included.
    metrics
        Port at which the head's metrics are scraped.
    folder
        Ray's own, with its logs.
    """

    dashboard: str
    gcs: str
    token: str
    environment: dict[str, str]
    metrics: int
    folder: Path

    def ask(self, path: str, *, token: str | None = None) -> bytes:
        """GET from the dashboard, with its token or another."""
        request = urllib.request.Request(self.dashboard + path)
        request.add_header("Authorization", f"Bearer {token or self.token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def started(
    words: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, killed at the end with all that it started."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            list(words),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def ray_folder() -> Iterator[Path]:
    """A folder for Ray's files whose name is short: that of a socket has at most 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    try:
        yield folder
        _wait_until_gone(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_gone(folder: Path) -> None:
    """Workers end by themselves when their node is gone; nothing of a cluster may stay behind."""
    end = time.monotonic() + STARTING
    while left := [p for p in _command_lines() if f"{folder}/" in p]:
        assert time.monotonic() < end, left
        time.sleep(0.2)


def _command_lines() -> Iterator[str]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield file.read_bytes().replace(b"\0", b" ").decode(errors="replace")


def base_environment(token: str) -> dict[str, str]:
    """What all nodes are started with, and whoever may talk to them."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return {
        **inherited,
        **PATIENT_START,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def tried_again(start: Callable[..., Node], **options: Any) -> Node:
    """What a start of Ray's processes gives; twice more where it fails, as on a busy machine."""
    for _ in range(2):
        with contextlib.suppress(Exception):  # Ray raises no narrower kind
            return start(**options)
    return start(**options)


class HeadDiedError(AssertionError):
    """`ray start` has ended."""


@contextlib.contextmanager
def head(
    environment: Mapping[str, str] | None = None, options: Sequence[str] = ("--num-cpus=2",)
) -> Iterator[Cluster]:
    """A head with a dashboard; ``options`` are of ``ray start``.

    A raylet ends if its agents take longer than 15 s to start, for which Ray has no setting. So a start
    that fails is tried again, twice.
    """
    for left in (2, 1, 0):
        with contextlib.ExitStack() as stack:
            try:
                cluster = stack.enter_context(_head(environment, options))
            except HeadDiedError:
                if not left:
                    raise
                continue
            yield cluster
            return


@contextlib.contextmanager
def _head(environment: Mapping[str, str] | None, options: Sequence[str]) -> Iterator[Cluster]:
    token = secrets.token_hex(32)
    everything = {**base_environment(token), **(environment or {})}
    gcs, dashboard, agent, metrics, client = free_ports(5)
    words = [
        str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1",
        f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}",
        f"--ray-client-server-port={client}", "--object-store-memory=100000000", *options,
    ]  # fmt: skip
    with ray_folder() as folder:
        words.append(f"--temp-dir={folder}/t")
        with started(words, everything, folder / "head.log") as process:
            url = f"http://127.0.0.1:{dashboard}"
            cluster = Cluster(url, "", token, everything, metrics, folder)
            _wait_for(cluster, process)
            address = _gcs_address(folder, gcs)
            yield Cluster(url, address, token, everything, metrics, folder)


def _wait_for(cluster: Cluster, process: subprocess.Popen[bytes]) -> None:
    """Until the dashboard takes jobs, and a node runs them."""
    end = time.monotonic() + STARTING
    while True:
        told = (cluster.folder / "head.log").read_text(errors="replace")
        if process.poll() is not None:
            raise HeadDiedError(told)
        with contextlib.suppress(OSError, urllib.error.URLError):
            cluster.ask("/api/jobs/")
            found = json.loads(cluster.ask("/api/v0/nodes"))["data"]["result"]["result"]
            if any(node["state"] == "ALIVE" for node in found):
                return
        assert time.monotonic() < end, told
        time.sleep(0.3)


def _gcs_address(folder: Path, port: int) -> str:
    """Ray writes where it listens: not at loopback, where the machine has another address."""
    files = list((folder / "t").glob("ray_current_cluster"))
    return files[0].read_text().strip() if files else f"127.0.0.1:{port}"
