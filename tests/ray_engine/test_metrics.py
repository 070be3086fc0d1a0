"""What is counted is what a scrape of Ray's own endpoint shows."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

pytestmark = pytest.mark.cluster

# In a process of its own: the port is an option of ray.init.
FEED = """
import sys
import ray
from ddgm_dist.tile.events import FaultEvent, PoolEvent, Receipt, SaveEvent, StepEvent
from types import SimpleNamespace
from ddgm_dist.engine.tally import Tally
from ddgm_dist.ray_engine.metrics import RayMetrics
problem = SimpleNamespace(intensity=SimpleNamespace(std=10.0))
# Three tiles of an earlier session are done: progress, and not counted as written by this one.
tally = Tally(problem, total=1000, before=100, tiles=9, tiles_done=3)
with RayMetrics("run-a", tally, checkpoint_every=300, losses_allowed=8) as metrics:
    # A run starts Ray last: metrics are there before.
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        _metrics_export_port=int(sys.argv[1]),
        logging_level=40,
    )
    def report(event):
        tally.add(event)
        metrics(event)
    for n in (0, 1, 2, 1):  # one is done again: work, and no progress
        report(StepEvent("t", n, 1.0, 8.0, 2.0, 100, {"gradient": 0.5, "denoise": 2.0}))
    report(SaveEvent("t", 2, 4096, 0.25, started=100.0))
    report(FaultEvent("worker-lost", "w", "t", "replace the worker", "", 0.0))
    metrics.flush()  # and what is counted after that is not lost
    report(Receipt("t", "d", {"read": 1.5, "write": 0.25, "gradient": 1.5, "denoise": 6.0}, "w"))
    for kind, action in (("worker-lost", "replace the worker"), ("draining", "move its work")):
        report(FaultEvent(kind, "w", "t", action, "", 0.0))
    report(PoolEvent(4, None, None, 0.0))
print("fed", flush=True)
sys.stdin.readline()
"""

EXPECTED = {
    "ray_ddgm_voxels_total": 400,
    "ray_ddgm_iterations_total": 4,
    'ray_ddgm_phase_seconds_total phase="gradient"': 2.0,
    'ray_ddgm_phase_seconds_total phase="denoise"': 8.0,
    'ray_ddgm_phase_seconds_total phase="read"': 1.5,
    'ray_ddgm_phase_seconds_total phase="write"': 0.25,
    'ray_ddgm_faults_total kind="worker-lost"': 2,
    'ray_ddgm_faults_total kind="draining"': 1,
    "ray_ddgm_checkpoint_every_seconds": 300,
    "ray_ddgm_losses_allowed": 8,
    "ray_ddgm_losses_in_a_row": 1,  # the other was before a tile was done
    "ray_ddgm_checkpoint_bytes_total": 4096,
    "ray_ddgm_checkpoint_seconds_total": 0.25,
    "ray_ddgm_tiles_done_total": 1,
    "ray_ddgm_residual": 2.0,
    "ray_ddgm_workers": 4,
    "ray_ddgm_last_checkpoint_timestamp_seconds": 100.25,
    "ray_ddgm_progress_ratio": 0.4,
}

TIMES = ("ray_ddgm_last_progress_timestamp_seconds", "ray_ddgm_last_saved_timestamp_seconds")


def scraped(port: int) -> dict[str, float]:
    """Values of our series by name and, where there is one, the tag beside the run's."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = {}
    for line in text.splitlines():
        if line.startswith("ray_ddgm") and 'run="run-a"' in line:
            name, _, rest = line.partition("{")
            tags, _, value = rest.rpartition("} ")
            extra = [t for t in tags.split(",") if t.startswith(("phase=", "kind="))]
            found[" ".join([name, *extra])] = float(value)
    return found


def test_a_scrape_shows_what_was_counted() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.time()
    process = subprocess.Popen(
        [sys.executable, "-c", FEED, str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "fed\n"
        found: dict[str, float] = {}
        for _ in range(600):
            with contextlib.suppress(OSError):
                found = scraped(port)
            times = {name: found.pop(name, 0.0) for name in TIMES}
            if found == EXPECTED:
                break
            time.sleep(0.5)
        assert found == EXPECTED
        # The last tile was done after the session had begun, and after the last checkpoint.
        assert all(began <= value <= time.time() for value in times.values()), times
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
