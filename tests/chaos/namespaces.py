"""Runs on a cluster of three hosts with addresses of their own, one of which is cut off for a while.

The cluster is started as one does by hand: `ray start --head` on the first host and `ray start
--address` on the others, all ports pinned, Ray's own settings otherwise. The driver runs on the first
host, with the timeouts that a user's run has. Each run's volume is compared with what the
undisturbed for-loop gives, bit for bit, and a line is written about what the fault cost.

    python -m tests.chaos.namespaces --json benchmarks/results/namespaces.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.__main__ import compare
from tests.chaos.bound import Injected, cost
from tests.chaos.network import Network, network
from tests.chaos.problem import CallLog, Case, make_case, write_denoiser

HOSTS = 3
CUT = 60.0  # seconds
DELAY = 0.9  # of each of the denoiser's calls, so that a run goes on well beyond the cut
TIMEOUT = 400.0
_START = 300.0  # seconds for `ray start`
_PORT = 6379
# All the ports that other hosts connect to: what a firewall between hosts has to let through.
_PORTS = {
    "node-manager-port": 7000,
    "object-manager-port": 7001,
    "runtime-env-agent-port": 7002,
    "metrics-export-port": 7003,
    "dashboard-agent-listen-port": 7004,
    "dashboard-agent-grpc-port": 7005,
    "min-worker-port": 7100,
    "max-worker-port": 7199,
}
# Prints the addresses of a cluster's nodes, without becoming a driver of it.
_ALIVE = """
import sys
from ray._raylet import GcsClient
from ray.core.generated.gcs_pb2 import GcsNodeInfo
nodes = GcsClient(address=sys.argv[1]).get_all_node_info(state_filter=GcsNodeInfo.GcsNodeState.ALIVE)
print(*[node.node_manager_address for node in nodes.values()])
"""


# By default Ray takes a host for dead about a minute after it has fallen silent.
_PROMPT = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


@dataclass(frozen=True)
class Trial:
    """A run, and the host that is cut off once a share of its work is done; None cuts none.

    Where the head is ``prompt`` it takes a silent host for dead after some 10 s: others then do the
    work of one that is still at it.
    """

    name: str
    kind: str
    rows: int
    N: int
    cut: int | None = None
    share: float = 0.2
    seconds: float = CUT
    prompt: bool = False


TRIALS = (
    Trial("undisturbed", "memory", rows=8, N=6),
    Trial("uncoupled, cut", "free", rows=24, N=20, cut=1),
    Trial("coupled, cut", "memory", rows=8, N=20, cut=2),
    Trial("uncoupled, cut, prompt", "free", rows=24, N=20, cut=1, prompt=True),
    Trial("coupled, cut, prompt", "memory", rows=8, N=20, cut=2, prompt=True),
)


class Hosts:
    """A Ray cluster on a network's hosts, of one CPU each.

    Parameters
    ----------
    net
        Where.
    folder
        Of the denoiser, of the log of its calls, and of Ray's files (Unix sockets: a short path).
    settings
        Further environment of Ray's processes.
    """

    def __init__(self, net: Network, folder: Path, settings: dict[str, str]) -> None:
        self.net, self.folder = net, folder
        self.log = CallLog(folder / "calls")
        root = Path(__file__).parents[2]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.environment = kept | {
            "CHAOS_DELAY": str(DELAY),
            "CHAOS_LOG": str(self.log.folder),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(root), str(folder)]),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            **settings,
        }
        self.address = f"{net.address(0)}:{_PORT}"
        for i in range(len(net.hosts)):
            self.start(i)

    def fill(self) -> None:
        """Start Ray anew on hosts that the head takes for dead, as an operator does."""
        alive = self.alive()
        for i in range(len(self.net.hosts)):
            if i not in alive:
                self.net.end(i)
                self.start(i)

    def alive(self) -> list[int]:
        """Hosts that belong to the cluster, as its head says."""
        command = self.net.inside(0, sys.executable, "-c", _ALIVE, self.address)
        output = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True
        ).stdout
        found = output.split()
        return [i for i in range(len(self.net.hosts)) if self.net.address(i) in found]

    def start(self, i: int) -> None:
        """`ray start`."""
        first = ["--head", f"--port={_PORT}", "--include-dashboard=false"]
        where = first if i == 0 else [f"--address={self.address}"]
        ray = str(Path(sys.executable).with_name("ray"))
        limits = ["--num-cpus=1", f"--object-store-memory={80 * 2**20}"]
        ports = [f"--{name}={port}" for name, port in _PORTS.items()]
        own = [f"--node-ip-address={self.net.address(i)}", f"--temp-dir={self.folder / str(i)}"]
        command = self.net.inside(i, ray, "start", *where, *own, *limits, *ports)
        log = self.folder / f"start-{i}.log"
        with log.open("ab") as output:
            done = subprocess.run(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_START,
                check=False,
            )
        if done.returncode != 0:
            raise RuntimeError(f"ray start failed on host {i}: {log.read_text()[-2000:]}")

    def raylets(self, i: int) -> list[int]:
        """Processes of the host's raylet: none, or one."""
        return [pid for pid in self.net.processes(i) if _name(pid) == "raylet"]

    def drive(self, given: dict[str, Any], log: Path) -> subprocess.Popen[bytes]:
        """A driver on the first host."""
        command = (sys.executable, "-m", "tests.chaos.driver", json.dumps(given))
        with log.open("wb") as output:
            return subprocess.Popen(
                self.net.inside(0, *command),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


@contextmanager
def hosts(*, prompt: bool = False) -> Iterator[Hosts]:
    """A cluster for a while. All of it is removed, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="net", dir="/tmp"))
    try:
        write_denoiser(folder)
        with network(HOSTS) as net:
            yield Hosts(net, folder, _PROMPT if prompt else {})
    finally:
        sys.path.remove(str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def run(trial: Trial, found: Hosts, folder: Path) -> dict[str, Any]:
    """One run; returns its record, with the reasons why it failed under ``broken``."""
    found.fill()  # an earlier trial's cut may have ended one
    every = 5.0
    case = make_case(
        trial.kind, folder, field=144, rows=trial.rows, N=trial.N, every=every, seed=trial.N
    )
    found.log.clear()
    out, events, log = folder / "out.zarr", folder / "events.jsonl", folder / "driver.log"
    given = {
        "tilts": str(case.tilts),
        "out": str(out),
        "address": found.address,
        "workers": None,
        "config": case.config,
        "events": str(events),
        "calm": True,
    }
    record: dict[str, Any] = {"trial": trial.name, "kind": trial.kind, "checkpoint_every": every}
    broken: list[str] = []
    began = time.time()
    driver = found.drive(given, log)
    cut: Injected | None = None
    try:
        if trial.cut is not None:
            cut = _cut(trial, trial.cut, case, found, driver, record, broken)
        code = driver.wait(max(1.0, TIMEOUT - (time.time() - began)))
        if code != 0:
            broken.append(f"the driver failed: {_last(log)}")
    except subprocess.TimeoutExpired:
        broken.append(f"not done after {TIMEOUT:.0f} s")
    finally:
        if driver.poll() is None:
            driver.kill()
            driver.wait()
    record["seconds"] = round(time.time() - began, 1)
    record["hosts in the end"] = found.alive()
    record["raylets in the end"] = [i for i in range(HOSTS) if found.raylets(i)]
    if not broken:
        broken += compare(case, out)
        broken += cost(case, events, found.log.calls(), [cut] if cut else []).broken
    record |= figures(case, events, found.log, cut.time if cut else None)
    return record | {"broken": broken}


def _cut(
    trial: Trial,
    host: int,
    case: Case,
    found: Hosts,
    driver: subprocess.Popen[bytes],
    record: dict[str, Any],
    broken: list[str],
) -> Injected:
    """Cut a host off once a share of the work is done, and mend it."""
    total = sum(case.calls.values())
    raylets, workers = found.raylets(host), list[int]()
    while driver.poll() is None and (found.log.count() < trial.share * total or not workers):
        time.sleep(0.1)
        workers = [pid for raylet, pid in found.log.workers() if raylet in raylets]
    share = round(found.log.count() / total, 2)
    found.net.cut(host)
    moment = time.time()
    while time.time() < moment + trial.seconds:
        time.sleep(0.1)
    found.net.mend(host)
    record |= {
        "cut": trial.seconds,
        "share when cut": share,
        "share when mended": round(found.log.count() / total, 2),
    }
    if not workers:
        broken.append("nobody worked on the host that was cut off")
    if driver.poll() is not None:
        broken.append(f"the run ended (status {driver.poll()}) before the link was mended")
    return Injected("cut", moment, time.time(), workers)


def figures(case: Case, events: Path, log: CallLog, cut: float | None) -> dict[str, Any]:
    """The figures of a run: steps and those done again, and what the engine met with."""
    lines = [json.loads(x) for x in events.read_text(encoding="utf-8").splitlines()]
    steps = [(e["tile"], e["iteration"]) for e in lines if e["event"] == "StepEvent"]
    faults = [e for e in lines if e["event"] == "FaultEvent"]
    calls = sum(case.calls.values())
    times = sorted(e["at"] for e in lines if e["event"] == "StepEvent")
    pauses = [after - before for before, after in itertools.pairwise(times)]
    return {
        "steps": len(case.calls),
        # As the driver heard of them; and with what only the host that was cut off knew of.
        "repeated steps": len(steps) - len(set(steps)),
        "steps computed in excess": round((log.count() - calls) * len(case.calls) / calls, 1),
        "longest time without a step": round(max(pauses, default=0.0), 1),
        "faults": [
            {
                "kind": e["kind"],
                "action": e["action"],
                "tile": e["tile"],
                "detail": e["detail"][:160],
                "seconds after the cut": round(e["time"] - cut, 1) if cut else None,
            }
            for e in faults
        ],
    }


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def main() -> int:
    """Run all trials; the exit status tells whether each kept its promises."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.namespaces")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=int, action="append", help="number of a trial")
    options = parser.parse_args()
    chosen = [TRIALS[i] for i in options.only or range(len(TRIALS))]
    records = []
    for prompt, trials in itertools.groupby(chosen, key=lambda trial: trial.prompt):
        with hosts(prompt=prompt) as found:
            for trial in trials:
                with tempfile.TemporaryDirectory(prefix="namespaces-") as folder:
                    records.append(run(trial, found, Path(folder)))
                print(json.dumps(records[-1], indent=1), flush=True)
    load = os.getloadavg()[2] / (os.cpu_count() or 1)
    result = {"processes per CPU, last 15 min": round(load, 1), "trials": records}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if any(record["broken"] for record in records) else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
