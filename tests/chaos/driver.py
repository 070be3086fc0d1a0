"""One driver process: reconstructs on a cluster and writes events and commits, as they come, to a file.

Arguments: a JSON object with ``tilts``, ``out``, ``address``, ``workers``, ``config``, ``events``;
``calm`` asks for the timeouts that a user's run has, instead of one that suits short runs.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

from ddgm_dist.engine.faults import Limits
from ddgm_dist.ray_engine.engine import RayEngine
from ddgm_dist.ray_engine.watch import Timeouts
from ddgm_dist.records.checkpoint import Generation
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.tile.events import Event, Report
from ddgm_dist.tile.history import History
from ddgm_dist.tile.job import Job


class Logged(RayEngine):
    """Flushes each event before the engine goes on: the log of a killed driver lacks none."""

    def __init__(self, events: str, **options: Any) -> None:
        super().__init__(**options)
        self.events = events

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        with Path(self.events).open("a", encoding="utf-8") as file:

            def listen(event: Event) -> None:
                write(type(event).__name__, **asdict(event))
                report(event)

            def write(event: str, **what: Any) -> None:
                file.write(json.dumps({"event": event, "at": time.time(), **what}) + "\n")
                file.flush()

            plain = History.commit

            def commit(history: History, unit: str, generation: Generation) -> None:
                plain(history, unit, generation)
                write("commit", unit=unit, iteration=generation.iteration)

            write("begin", done=sorted(done))
            with mock.patch.object(History, "commit", commit):
                super().run(job, done, listen)


def main() -> None:
    given = json.loads(sys.argv[1])
    options: dict[str, Any] = {"address": given["address"], "workers": given["workers"]}
    if not given.get("calm"):
        options |= {
            "limits": Limits(losses=20, tile_losses=20),
            "timeouts": Timeouts(
                start=90, stall=60, probe=10, heartbeat=0.1, drain=0.2, resize=0.5
            ),
        }
    engine = Logged(given["events"], **options)
    reconstruct(given["tilts"], given["out"], given["config"], engine)


if __name__ == "__main__":
    main()
