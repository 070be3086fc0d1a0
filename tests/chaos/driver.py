"""One driver process: reconstructs on a cluster and writes every event, as it comes, to a file.

Arguments: a JSON object with ``tilts``, ``out``, ``address``, ``workers``, ``config``, ``events``;
``calm`` asks for the patience that a user's run has, instead of one that suits short runs.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddgm_dist.engine.base import Event, Job, Report
from ddgm_dist.engine.faults import Limits
from ddgm_dist.engine.ray import RayEngine
from ddgm_dist.engine.ray_dispatch import Patience
from ddgm_dist.reconstruct import reconstruct


class Logged(RayEngine):
    """Flushes each event before the engine goes on: the log of a killed driver lacks none."""

    def __init__(self, events: str, **options: Any) -> None:
        super().__init__(**options)
        self.events = events

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        with Path(self.events).open("a", encoding="utf-8") as file:

            def listen(event: Event) -> None:
                line = {"event": type(event).__name__, "at": time.time(), **asdict(event)}
                file.write(json.dumps(line) + "\n")
                file.flush()
                report(event)

            file.write(
                json.dumps({"event": "begin", "at": time.time(), "done": sorted(done)}) + "\n"
            )
            file.flush()
            super().run(job, done, listen)


def main() -> None:
    given = json.loads(sys.argv[1])
    options: dict[str, Any] = {"address": given["address"], "workers": given["workers"]}
    if not given.get("calm"):
        options |= {
            "limits": Limits(losses=20, tile_losses=20),
            "patience": Patience(start=90, stall=60, probe=10, pulse=0.1, drain=0.2, resize=0.5),
        }
    engine = Logged(given["events"], **options)
    reconstruct(given["tilts"], given["out"], given["config"], engine)


if __name__ == "__main__":
    main()
