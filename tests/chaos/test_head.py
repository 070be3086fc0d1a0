"""The cluster's head is lost: the driver ends, and the same command on another cluster goes on."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.chaos.__main__ import Driver, compare

pytestmark = [pytest.mark.chaos, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

# Seconds for which processes look for a head that is gone (60 by default), and after which the
# driver has ended for certain.
PATIENCE, BOUND = 5, 300.0


@pytest.mark.parametrize("kind", ["free", "memory"])
def test_the_driver_ends_with_the_head_and_another_cluster_goes_on(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.chaos.nodes import Nodes
    from tests.chaos.problem import make_case, write_denoiser

    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", str(PATIENCE))
    write_denoiser(tmp_path)
    case = make_case(kind, tmp_path, field=96, rows=12, N=8, every=0.0, seed=5)
    events = tmp_path / "events.jsonl"
    given = {
        "tilts": str(case.tilts),
        "out": str(tmp_path / "out.zarr"),
        "workers": 3,
        "config": case.config,
        "events": str(events),
    }

    def begin(nodes: Nodes) -> Driver:
        (tmp_path / "calls").mkdir(exist_ok=True)
        return Driver(
            {**given, "address": nodes.address}, tmp_path, {**os.environ, **nodes.environment}
        )

    def told(event: str) -> int:
        lines = events.read_text().splitlines() if events.exists() else []
        return sum(json.loads(line)["event"] == event for line in lines if line.endswith("}"))

    nodes = Nodes(tmp_path, delay=0.15)
    driver = begin(nodes)
    try:
        end = time.monotonic() + BOUND
        while told("SaveEvent") < 3 and driver.process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        assert driver.process.poll() is None, driver.output()
        head = nodes.cluster.head_node.all_processes["gcs_server"][0].process
        os.kill(head.pid, signal.SIGKILL)
        assert driver.process.wait(BOUND) != 0
    finally:
        driver.process.kill()
        driver.process.wait()
        nodes.close()
    assert told("SaveEvent") >= 3
    nodes = Nodes(tmp_path, delay=0.0)
    again = begin(nodes)
    try:
        assert again.process.wait(2 * BOUND) == 0, again.output()
    finally:
        again.process.kill()
        again.process.wait()
        nodes.close()
    assert compare(case, tmp_path / "out.zarr") == []
