"""`make chaos`: seeded runs under faults; one line each, and a JSON file of all.

Each seed draws a problem, a plan of faults and the moments at which they strike (by the share of the
work that is done, so that a slow machine gets the same). In the end the volume must be, bit for
bit, what the undisturbed for-loop gives, the record complete and nothing left over, and the repeated
work within the bound of :mod:`tests.chaos.bound`. A failing run keeps its files and says where.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TIMEOUT = 240.0
DELAY = 0.15
FAULTS = ("worker", "node", "drain", "driver")


@dataclass(frozen=True)
class Strike:
    """A fault to be injected once a share of the work is done, after a pause of some seconds."""

    kind: str
    share: float
    pause: float


def draw_strikes(seed: int) -> list[Strike]:
    """One to three faults; the first kinds take turns, so that few runs meet all."""
    rng = random.Random(seed * 7919 + 1)
    count = rng.choice([1, 2, 2, 3, 4])
    kinds = [FAULTS[(seed // 4) % len(FAULTS)]]
    kinds += [rng.choice(FAULTS) for _ in range(count - 1)]
    rng.shuffle(kinds)
    shares = sorted(rng.uniform(0.0, 0.95) for _ in range(count))
    return [
        Strike(kind, share if rng.random() > 0.1 else 0.0, rng.uniform(0.0, 0.3))
        for kind, share in zip(kinds, shares, strict=True)
    ]


class Driver:
    """The process that reconstructs; started anew with the same command after it was killed."""

    def __init__(self, given: dict[str, Any], folder: Path, environment: dict[str, str]) -> None:
        self.given, self.folder, self.environment = given, folder, environment
        self.starts = 0
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        with (self.folder / f"driver-{self.starts}.log").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.driver", json.dumps(self.given)],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def kill_and_restart(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = self._start()

    def output(self) -> str:
        text = (self.folder / f"driver-{self.starts}.log").read_text(errors="replace")
        return text.strip().splitlines()[-1] if text.strip() else ""


def run(seed: int, nodes: Any, folder: Path) -> dict[str, Any]:
    """One seed; returns its record, with the reasons why it failed under ``broken``."""
    from tests.chaos.bound import cost
    from tests.chaos.problem import draw_case

    case, strikes = draw_case(seed, folder), draw_strikes(seed)
    rng = random.Random(seed * 104729 + 2)
    nodes.fill()
    nodes.log.clear()
    out, events = folder / "out.zarr", folder / "events.jsonl"
    events.touch()
    given = {
        "tilts": str(case.tilts),
        "out": str(out),
        "address": nodes.address,
        "workers": rng.choice([None, 3]),  # None: nodes that join are taken into the run
        "config": case.config,
        "events": str(events),
    }
    began = time.time()
    driver = Driver(given, folder, {**os.environ, **nodes.environment})
    broken, faults = [], []
    try:
        for strike in strikes:
            injected = inject(strike, sum(case.calls.values()), nodes, driver, rng, began)
            if injected is not None:
                faults.append(injected)
        left = max(1.0, TIMEOUT - (time.time() - began))
        try:
            if driver.process.wait(left) != 0:
                broken.append(f"the driver failed: {driver.output()}")
        except subprocess.TimeoutExpired:
            broken.append(f"not done after {TIMEOUT:.0f} s")
    finally:
        if driver.process.poll() is None:
            driver.process.kill()
            driver.process.wait()
    record: dict[str, Any] = {
        "seed": seed,
        "kind": case.kind,
        "checkpoint_every": case.config["checkpoint_every"],
        "faults": [fault.kind for fault in faults],
        "seconds": round(time.time() - began, 1),
    }
    if not broken:
        broken += compare(case, out)
        found = cost(case, events, nodes.log.calls(), faults)
        broken += found.broken
        record |= {
            "steps": found.steps,
            "repeated": found.repeated,
            "excess": found.excess,
            "oldest": round(found.oldest, 2),
        }
    record["broken"] = broken
    (folder / "faults.json").write_text(json.dumps([f.__dict__ for f in faults]))
    return record


def inject(
    strike: Strike, calls: int, nodes: Any, driver: Driver, rng: random.Random, began: float
) -> Any:
    """Wait for the moment and strike; None when the run has ended before."""
    from tests.chaos.bound import Injected

    while nodes.log.count() < max(strike.share * calls, strike.kind == "worker"):
        if driver.process.poll() is not None or time.time() - began > TIMEOUT:
            return None
        time.sleep(0.02)
    time.sleep(strike.pause)
    if driver.process.poll() is not None:
        return None
    moment = time.time()
    match strike.kind:
        case "worker":
            pids = nodes.kill_worker(rng)
        case "node":
            pids = nodes.remove_node(rng)
        case "drain":
            pids = nodes.drain_node(rng, grace=rng.uniform(0.2, 4.0))
        case _:
            pids = [pid for _, pid in nodes.log.workers()]
            driver.kill_and_restart()
    end = time.time()
    nodes.fill()
    return Injected(strike.kind, moment, end, pids)


def compare(case: Any, out: Path) -> list[str]:
    """What is wrong with a finished output."""
    from ddgm_dist.records.result import open_result
    from ddgm_dist.records.run_record import COMPLETE, RunRecord

    broken = []
    volume = open_result(out).to_dask().compute()
    if not np.array_equal(volume, case.volume):
        wrong = int((volume != case.volume).sum())
        broken.append(f"{wrong} of {volume.size} voxels differ")
    record = RunRecord(out)
    state = record.read_state() or {}
    if state.get("state") != COMPLETE:
        broken.append(f"the state is {state}")
    left = [
        name for name in ("commits", "generations", "lease.json") if (record.folder / name).exists()
    ]
    if left:
        broken.append(f"left over: {', '.join(left)}")
    return broken


def line(record: dict[str, Any]) -> str:
    """A run in one line."""
    result = "; ".join(record["broken"][:3]) or "ok"
    return (
        f"seed {record['seed']:4d}  {record['kind']:8s}  every {record['checkpoint_every']:3.1f} s  "
        f"{record['seconds']:5.1f} s  {'+'.join(record['faults']) or 'none':28s}  "
        f"repeated {record.get('repeated', '?'):>3} of {record.get('steps', '?'):>3} steps "
        f"(calls {record.get('excess', 0):+.1f}), oldest {record.get('oldest', 0):4.2f} s  {result}"
    )


def main() -> int:
    """Run the seeds; the exit status tells whether all kept all promises."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from tests.chaos.nodes import Nodes
    from tests.chaos.problem import write_denoiser

    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    (root / "module").mkdir()
    write_denoiser(root / "module")
    began = time.time()
    nodes = Nodes(root / "module", DELAY)
    records = []
    try:
        for seed in range(options.seed, options.seed + options.runs):
            folder = root / f"seed-{seed}"
            folder.mkdir()
            record = run(seed, nodes, folder)
            records.append(record)
            print(line(record), flush=True)
            if record["broken"]:
                print(f"  seed {seed}: its files are kept in {folder}", flush=True)
            else:
                shutil.rmtree(folder)
            if options.json:
                options.json.write_text(json.dumps(summary(records, began), indent=1) + "\n")
    finally:
        nodes.close()
        if not any(record["broken"] for record in records):
            shutil.rmtree(root)
    total = summary(records, began)
    print(json.dumps({k: v for k, v in total.items() if k != "records"}))
    return 1 if total["failed"] else 0


def summary(records: list[dict[str, Any]], began: float) -> dict[str, Any]:
    """The figures of all runs so far."""
    kinds = {name: sum(r["faults"].count(name) for r in records) for name in FAULTS}
    done = [r for r in records if "steps" in r]
    return {
        "runs": len(records),
        "failed": [r["seed"] for r in records if r["broken"]],
        "faults": kinds,
        "steps": sum(r["steps"] for r in done),
        "repeated": sum(r["repeated"] for r in done),
        "excess": round(sum(r["excess"] for r in done), 1),
        "seconds": round(time.time() - began, 1),
        "records": records,
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TMPDIR", tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    sys.exit(main())
