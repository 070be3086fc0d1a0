"""What a run reconstructs, and how: drawn from its seed."""

from __future__ import annotations

import importlib
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.planning.plan import Plan
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.tile.events import Event, Report, StepEvent
from ddgm_dist.tile.job import Job
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series
from tests.small_runs import ANGLES, project, specimen

KINDS: dict[str, dict[str, Any]] = {
    "free": {},
    "memory": {"tile_columns": 48, "margin": 24, "state": "memory"},
    "store": {"tile_columns": 48, "margin": 24, "state": "store"},
    "planes": {"planes": ("zx", "zy"), "window_rows": 16, "overlap_rows": 4, "state": "memory"},
}

# A weak prior that takes its time and leaves a line per call: when it began, at which noise level.
# A file per process, named by its parent (the node's raylet) and itself; lines of fixed length.
SLOW = '''
import os
import time

import torch.nn.functional as F

DELAY, LOG = float(os.environ.get("CHAOS_DELAY", "0")), os.environ.get("CHAOS_LOG")
file = None


def smooth(x, sigma):
    """The posterior mean of white noise, blurred where there is much noise."""
    global file
    if LOG:
        if file is None:
            name = f"{LOG}/{os.getppid()}-{os.getpid()}"
            file = os.open(name, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(file, f"{time.time():17.6f} {sigma:12.8f}\\n".encode())
        time.sleep(DELAY)
    share = sigma * sigma / (1 + sigma * sigma)
    return (1 - share) * x + share * F.avg_pool2d(x[:, None], 3, 1, 1)[:, 0] / (1 + sigma)
'''
LINE = 17 + 1 + 12 + 1


@dataclass(frozen=True)
class Call:
    """A call of the denoiser.

    Attributes
    ----------
    time
        When it began, seconds since the epoch.
    raylet, pid
        The node it ran on, by its raylet's process; the worker's process.
    """

    time: float
    raylet: int
    pid: int


class CallLog:
    """The folder to which all workers' denoisers write; emptied before each run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    def count(self) -> int:
        """Calls so far."""
        return sum(path.stat().st_size for path in self.folder.iterdir()) // LINE

    def workers(self) -> list[tuple[int, int]]:
        """Raylet and process of every worker that has ever called and is alive."""
        found = [tuple(int(x) for x in p.name.split("-")) for p in sorted(self.folder.iterdir())]
        return [(raylet, pid) for raylet, pid in found if _alive(pid)]

    def calls(self) -> list[Call]:
        found = []
        for path in self.folder.iterdir():
            raylet, pid = (int(x) for x in path.name.split("-"))
            lines = path.read_text(encoding="ascii").splitlines()
            found += [Call(float(line.split()[0]), raylet, pid) for line in lines]
        return sorted(found, key=lambda call: call.time)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


@dataclass(frozen=True)
class Case:
    """One run's problem and its undisturbed result.

    Attributes
    ----------
    kind
        ``free`` (uncoupled), ``resident``, ``streamed``, or ``planes`` (coupled along y, resident).
    config
        Keys of the configuration.
    tilts
        Its tilt series.
    plan
        As LocalEngine has it.
    volume
        What LocalEngine makes of it, undisturbed.
    calls
        Of the denoiser, undisturbed, by tile and iteration.
    """

    kind: str
    config: dict[str, Any]
    tilts: Path
    plan: Plan
    volume: np.ndarray
    calls: dict[tuple[str, int], int]

    @property
    def interval(self) -> float:
        """Seconds between checkpoints, as asked."""
        return 0.0 if self.kind == "store" else float(self.config["checkpoint_every"])


class _Counting(LocalEngine):
    """Counts the denoiser's calls of each step."""

    def __init__(self, log: CallLog) -> None:
        self.log, self.calls = log, dict[tuple[str, int], int]()

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        before = 0

        def listen(event: Event) -> None:
            nonlocal before
            if isinstance(event, StepEvent):
                now = self.log.count()
                self.calls[event.tile, event.iteration], before = now - before, now
            report(event)

        super().run(job, done, listen)


def write_denoiser(folder: Path) -> None:
    """Write the module ``slow``, for this process and for those started with the folder in
    PYTHONPATH."""
    (folder / "slow.py").write_text(SLOW)
    sys.path.insert(0, str(folder))


def draw_case(seed: int, folder: Path) -> Case:
    """The problem of a seed, with its undisturbed result, made in ``folder``."""
    rng = random.Random(seed)
    kinds = list(KINDS)
    kind = kinds[seed % len(kinds)]
    field = rng.choice([96, 144])
    rows = rng.choice([8, 12, 16])
    N = rng.randint(6, 12)
    every = rng.choice([0.0, 0.5, 2.0])
    return make_case(kind, folder, field=field, rows=rows, N=N, every=every, seed=seed)


def make_case(
    kind: str, folder: Path, *, field: int, rows: int, N: int, every: float, seed: int
) -> Case:
    """A problem with its undisturbed result, made in ``folder``; ``every`` is seconds."""
    config = {
        "N": N,
        "K": 5,
        "seed": seed,
        "mean": 100.0,
        "std": 20.0,
        "sigma_y": 5.0,
        "rows_per_call": 2,
        "tile_rows": 4,
        "checkpoint_every": every,
        "denoiser": "slow:smooth",
        **KINDS[kind],
    }
    data = project(specimen(12, rows, field + 80, seed=seed), field, ANGLES)
    tilts = folder / "tilts.zarr"
    write_tilt_series(tilts, data, TiltSeriesMeta(ANGLES, None, thickness_px=12))
    log = CallLog(folder / "reference-calls")
    engine = _Counting(log)
    with _logged(log.folder):
        # No checkpoints: what is compared with must not depend on what is tested.
        calm = {**config, "state": "auto", "checkpoint_every": 1e6}
        result = reconstruct(tilts, folder / "reference.zarr", calm, engine)
    volume = result.to_dask().compute()
    assert np.isfinite(volume).all()
    assert sum(engine.calls.values()) == log.count()
    return Case(kind, config, tilts, result.plan, volume, engine.calls)


@contextmanager
def _logged(folder: Path) -> Iterator[None]:
    """The module ``slow`` anew, writing to a folder and without delay."""
    os.environ["CHAOS_LOG"] = str(folder)
    sys.modules.pop("slow", None)
    importlib.import_module("slow")
    try:
        yield
    finally:
        del os.environ["CHAOS_LOG"]
        del sys.modules["slow"]
