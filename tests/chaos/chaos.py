"""Seeded faults on a cluster of three nodes: the volume must not know of them.

    python tests/chaos/chaos.py [--runs 20] [--seed 0] [--json FILE]

Each run is a small problem (uncoupled, or coupled with resident or with streamed states), reconstructed
by a driver process on a Ray cluster whose three worker nodes have one CPU each. While it goes, faults
strike at random times: a worker gets SIGKILL, a node is removed without warning, a node is drained
as by a spot market and then removed (a new one joins after either), the driver gets SIGKILL and is
started again. In the end

- the volume has the bits of an undisturbed run in one process;
- it is declared complete, and no checkpoint is left behind;
- each fault costs at most the work since the last checkpoint: see `bound`.
"""

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DELAY = 0.08
KINDS = {
    "free": {},
    "resident": {"tile_columns": 48, "margin": 24, "state": "resident"},
    "streamed": {"tile_columns": 48, "margin": 24, "state": "streamed"},
}
PROBLEM = {
    "K": 5, "rows_per_call": 2, "denoiser": "slow_prior:smooth",
    "mean": 100.0, "std": 20.0, "sigma_y": 5.0,
}  # fmt: skip


def environment() -> dict[str, str]:
    """Of this process, the cluster's and the drivers'."""
    paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "1000",
        "RAY_health_check_failure_threshold": "4",
        "OMP_NUM_THREADS": "1",
        "CHAOS_DELAY": str(DELAY),
        "PYTHONPATH": ":".join(p for p in paths if p),
    }


class Nodes:
    """The cluster: a head without CPUs, three nodes with one each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []
        self.refill()

    def refill(self) -> None:
        while len(self.nodes) < 3:
            self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20))

    def remove(self, dice: random.Random) -> None:
        node = self.nodes.pop(dice.randrange(len(self.nodes)))
        self.cluster.remove_node(node, allow_graceful=False)

    def drain(self, dice: random.Random) -> Any:
        from ray._raylet import GcsClient
        from ray.core.generated import autoscaler_pb2

        node = self.nodes.pop(dice.randrange(len(self.nodes)))
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int((time.time() + 4) * 1000)
        GcsClient(address=self.cluster.address).drain_node(node.node_id, reason, "spot", deadline)
        return node

    def workers(self) -> list[int]:
        """Processes that are our actors, now: children of this cluster's raylets."""
        raylets = {
            process.process.pid
            for node in self.nodes
            for process in node.all_processes.get("raylet", [])
        }
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if path.read_bytes().startswith(b"ray::Worker"):
                    status = path.with_name("stat").read_text(encoding="ascii", errors="replace")
                    if int(status.rpartition(")")[2].split()[1]) in raylets:
                        found.append(int(path.parent.name))
        return found


class Run:
    """One problem, its faults and its verdict."""

    def __init__(self, seed: int, folder: Path, nodes: Nodes, references: "References") -> None:
        self.dice = random.Random(seed)
        self.seed, self.nodes = seed, nodes
        self.kind = list(KINDS)[seed % 3]
        self.every = self.dice.choice([0.0, 0.3, 1.0])
        self.config = {
            **PROBLEM,
            **KINDS[self.kind],
            "N": self.dice.choice([6, 9, 12]),
            "tile_rows": self.dice.choice([2, 4]),
            "checkpoint_every": self.every,
        }
        self.out = folder / f"seed{seed}.zarr"
        self.log = folder / f"seed{seed}.log"
        self.references = references
        self.driver: subprocess.Popen[bytes] | None = None
        self.faults: list[str] = []
        self.leaving: list[tuple[float, Any]] = []

    def start(self) -> None:
        command = [
            sys.executable, str(HERE / "driver.py"), self.nodes.cluster.address,
            str(self.references.tilts), str(self.out), json.dumps(self.config),
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.driver = subprocess.Popen(command, stdout=log, stderr=log)

    def go(self) -> dict[str, Any]:
        began = time.time()
        self.start()
        plan = sorted(self.dice.uniform(0.5, 9.0) for _ in range(self.dice.randint(1, 4)))
        working: float | None = None
        while True:
            assert self.driver is not None
            status = self.driver.poll()
            if status == 0:
                break
            assert status in (None, -signal.SIGKILL), f"the driver failed, see {self.log}"
            if status is not None:
                self.start()
            assert time.time() - began < 240, f"no end, see {self.log}"
            if working is None and (self.out / "ddgm_dist/progress.json").exists():
                working = time.time()
            if working is not None and plan and time.time() - working > plan[0]:
                plan.pop(0)
                self.strike()
            for when, node in list(self.leaving):
                if time.time() > when:
                    self.leaving.remove((when, node))
                    self.nodes.cluster.remove_node(node, allow_graceful=False)
                    self.nodes.refill()
            time.sleep(0.05)
        for _, node in self.leaving:
            self.nodes.cluster.remove_node(node, allow_graceful=False)
        self.nodes.refill()
        return {**self.verdict(), "seconds": round(time.time() - began, 1)}

    def strike(self) -> None:
        fault = self.dice.choice(["worker", "worker", "node", "drain", "driver"])
        self.faults.append(fault)
        if fault == "worker":
            workers = self.nodes.workers()
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.dice.choice(workers), signal.SIGKILL)
        elif fault == "node":
            self.nodes.remove(self.dice)
            self.nodes.refill()
        elif fault == "drain":
            self.leaving.append((time.time() + 4, self.nodes.drain(self.dice)))
        else:
            assert self.driver is not None
            self.driver.send_signal(signal.SIGKILL)

    def verdict(self) -> dict[str, Any]:
        import numpy as np

        from ddgm_dist.storage.run_record import RunRecord, open_result

        volume = open_result(self.out).to_dask().compute()
        expected = self.references.volume(self.kind, self.config)
        assert np.array_equal(volume, expected), f"seed {self.seed}: another volume, {self.out}"
        record = RunRecord(self.out)
        assert record.names("commits") == []
        assert not (self.out / "ddgm_dist/generations").exists()
        steps = Counter[tuple[str, int]]()
        for event in record.events():
            if event["event"] == "step":
                steps[event["tile"], event["iteration"]] += 1
        tiles = {tile for tile, _ in steps}
        repeated = sum(count - 1 for count in steps.values())
        bound = self.bound(len(tiles))
        assert repeated <= bound, f"seed {self.seed}: {repeated} steps repeated, bound {bound}"
        return {
            "seed": self.seed, "kind": self.kind, "checkpoint_every": self.every,
            "faults": self.faults, "steps": len(steps), "repeated": repeated, "bound": bound,
        }  # fmt: skip

    def bound(self, tiles: int) -> int:
        """Steps that the faults may have cost.

        A unit (an uncoupled tile, or a coupled group of three) is checkpointed every C seconds, at the
        end of the next iteration. So a fault takes back at most the iterations that fit into C seconds
        (each takes at least `DELAY`), one that the checkpoint waited for and one under way, for each
        tile of a unit that it strikes. A worker computes one uncoupled tile at a time, the driver
        has three workers; coupled groups have tiles on several workers, and three are open at a
        time. A drain that is announced in time costs nothing, but may be too short.
        """
        size = 1 if self.kind == "free" else 3
        steps = size * min(self.config["N"], math.ceil(self.every / DELAY) + 2)
        return sum(
            steps * min(tiles // size, 3 if size > 1 or fault == "driver" else 1)
            for fault in self.faults
        )


class References:
    """The data, and undisturbed volumes by configuration."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        from ddgm_dist.storage.tilt_series import TiltSeriesMeta, write_tilt_series

        self.folder, self.tilts = folder, folder / "tilts.zarr"
        self.known: dict[str, Any] = {}
        noise = np.random.default_rng(0).standard_normal((11, 12, 144))
        meta = TiltSeriesMeta(tuple(range(-50, 51, 10)), thickness_px=12)
        write_tilt_series(self.tilts, (1200 + 50 * noise).astype(np.float32), meta)

    def volume(self, kind: str, config: dict[str, Any]) -> Any:
        from ddgm_dist.reconstruct import reconstruct

        name = f"{'free' if kind == 'free' else 'coupled'}-{config['N']}"
        if name not in self.known:
            os.environ["CHAOS_DELAY"] = "0"
            calm = {**config, "state": "auto", "checkpoint_every": 1e6, "tile_rows": 12}
            result = reconstruct(self.tilts, self.folder / f"{name}.zarr", calm, "local")
            self.known[name] = result.to_dask().compute()
            os.environ["CHAOS_DELAY"] = str(DELAY)
        return self.known[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ.update(environment())
    sys.path.insert(0, str(HERE))
    import torch

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    nodes, references, verdicts = Nodes(), References(folder), []
    try:
        for seed in range(args.seed, args.seed + args.runs):
            run = Run(seed, folder, nodes, references)
            verdicts.append(run.go())
            shutil.rmtree(run.out)
            print(json.dumps(verdicts[-1]), flush=True)
            if args.json:
                args.json.write_text(json.dumps(verdicts, indent=1) + "\n")
    finally:
        nodes.cluster.shutdown()
    shutil.rmtree(folder)
    faults = sum(len(v["faults"]) for v in verdicts)
    print(f"{len(verdicts)} runs, {faults} faults: every volume the same, bit for bit")


if __name__ == "__main__":
    main()
