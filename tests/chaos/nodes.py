"""A cluster of three nodes on this machine, and the ways in which parts of it are lost."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from tests.chaos.problem import CallLog
from tests.ray_cluster import tried_again

NODES = 3  # beside the head, of one CPU each


class Nodes:
    """A head without CPUs and three nodes of one; a lost node is replaced.

    Parameters
    ----------
    folder
        Of the denoiser and of the log of its calls.
    delay
        Seconds per call of the denoiser.
    """

    def __init__(self, folder: Path, delay: float) -> None:
        from ray.cluster_utils import Cluster

        self.log = CallLog(folder / "calls")
        environment = {
            "CHAOS_DELAY": str(delay),
            "CHAOS_LOG": str(self.log.folder),
            "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        }
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        self.environment, self._before = environment, before
        # A dead node is told after 2 s, not 15.
        system = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "_system_config": system,
                "object_store_memory": 80 * 2**20,
            },
        )
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        self.address: str = self.cluster.address
        self.nodes: list[Any] = []
        self.fill()

    def fill(self) -> None:
        """Start nodes until there are as many as there should be."""
        os.environ.update(self.environment)
        try:
            while len(self.nodes) < NODES:
                add, memory = self.cluster.add_node, 80 * 2**20
                self.nodes.append(tried_again(add, num_cpus=1, object_store_memory=memory))
        finally:
            for name, value in self._before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)

    def close(self) -> None:
        self.cluster.shutdown()

    # -- faults ----------------------------------------------------------------------------------

    def kill_worker(self, rng: random.Random) -> list[int]:
        """SIGKILL one of the workers that have computed; returns its process."""
        workers = self.log.workers()
        if not workers:
            return []
        _, pid = rng.choice(workers)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return []
        return [pid]

    def remove_node(self, rng: random.Random) -> list[int]:
        """Kill all processes of a node, without a warning; returns its workers."""
        return self._remove(rng.choice(self.nodes))

    def drain_node(self, rng: random.Random, grace: float) -> list[int]:
        """Announce that a node will be taken away, and do so when the grace is over."""
        from ray._raylet import GcsClient
        from ray.core.generated import autoscaler_pb2

        node = rng.choice(self.nodes)
        accepted, why = GcsClient(address=self.address).drain_node(
            node.node_id,
            autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
            "chaos",
            int((time.time() + grace) * 1000),
        )
        assert accepted, why
        time.sleep(grace)
        return self._remove(node)

    def _remove(self, node: Any) -> list[int]:
        raylet = node.all_processes["raylet"][0].process.pid
        pids = [pid for parent, pid in self.log.workers() if parent == raylet]
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)
        for pid in pids:  # Ray's workers follow their raylet, after a while
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return pids
