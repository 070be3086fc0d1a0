"""Nodes and hours for volumes that nobody has reconstructed yet: rates measured, schedule simulated.

    python benchmarks/sizing.py [--show | --simulate]

Three kinds of figures, kept apart in benchmarks/results/sizing.json and docs/sizing.md:

- *measured*: seconds per voxel and iteration of a whole run by one Ray worker of one thread, alone on
  its machine (benchmarks/overhead.py). Their division among the phases is measured here on a few blocks
  of each volume's width (`ddgm_dist.runs.calibrate`; other work slows all phases alike). The
  floating-point operations of a denoiser call are counted;
- *simulated*: the package's own scheduler (`ddgm_dist.engine.work`, `.coupled`) gives the plan's steps
  to workers that take the measured time for each. The driver takes its measured time per step
  (benchmarks/scheduling.py). A few rounds of tiles are simulated, and the rest extrapolated;
- *extrapolated*: GPUs, on which nothing was run. The denoiser is taken to need the counted operations
  at a share of the published dense bfloat16 peak. The rest of the step is taken in the same proportion
  as on the CPU.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.engine.coupled import GroupWork
from ddgm_dist.engine.work import Task, TileWork, Work
from ddgm_dist.operators.slab.basis import fast_length
from ddgm_dist.planning.config import ProblemConfig, parse_config
from ddgm_dist.planning.make_plan import make_plan
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.tiling import widest_read
from ddgm_dist.prior.denoisers import load_denoiser
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.runs.calibrate import estimate_runtime
from ddgm_dist.tile.grid import TileGrid
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series

RESULTS = Path(__file__).with_name("results") / "sizing.json"
OVERHEAD = RESULTS.with_name("overhead.json")
ANGLES = tuple(float(a) for a in np.linspace(-60, 60, 61))
# name: thickness, rows, field
VOLUMES = {
    "128 x 4k x 4k": (128, 4096, 4096),
    "128 x 30k x 30k": (128, 30_000, 30_000),
    "1 teravoxel, 128 x 62.5k x 125k": (128, 62_500, 125_000),
}
CORES = 64  # workers of one thread on a CPU node
GPUS = 8  # workers on a GPU node
CPU_NODES, GPU_NODES = (1, 4, 16), (1, 4, 16)
# Published peaks for dense bfloat16, operations per second, and the shares of it that are supposed.
PEAKS = {"A100": 312e12, "H100": 989e12}
SHARES = (0.15, 0.30)
# Of the driver, per step: benchmarks/results/scheduling.json.
DRIVER = {"free": 1.01e-3, "coupled": 1.89e-3}
# Tiles per worker that are simulated.
ROUNDS = 8
# Rows of a GPU's tiles, of which the best is taken. Many rows make the driver's share of a step small;
# few leave no worker without a tile.
GPU_ROWS = (8, 32, 128)
KEYS = {"mean": 0.0, "std": 1.0, "sigma_y": 1.0}


@dataclass(frozen=True)
class Rates:
    """Measured rates of one width.

    Attributes
    ----------
    denoise, other
        Seconds per voxel solved and iteration: the denoiser, and all other phases.
    operations
        Of a denoiser call, per voxel.
    """

    denoise: float
    other: float
    operations: float


def measure(depth: int, field: int, folder: Path) -> tuple[Rates, dict]:
    """Time the phases of a few rows of a volume of this width."""
    rows = 16
    data = np.random.default_rng(0).normal(size=(len(ANGLES), rows, field)).astype(np.float32)
    path = folder / f"{field}.zarr"
    write_tilt_series(path, data, TiltSeriesMeta(ANGLES, None, thickness_px=depth))
    config = parse_config(KEYS)
    built = build_problem(path, config.problem())
    problem, series = built.problem, built.series
    plan = planned(problem, None)
    found = estimate_runtime(problem, plan, series)
    denoiser = load_denoiser("fibsem").denoiser
    image = torch.zeros(1, depth, 2048)
    with FlopCounterMode(display=False) as flops:
        denoiser(image, 1.0, torch.ones_like(image))
    share = found.seconds["denoise"] / found.total
    rates = Rates(
        denoise=whole_rate() * share,
        other=whole_rate() * (1 - share),
        operations=flops.get_total_flops() / image.numel(),
    )
    return rates, {phase: s / found.total for phase, s in found.seconds.items()}


def known() -> tuple[Rates, dict]:
    """What an earlier run measured of the first volume's width, to be taken for all."""
    measured = json.loads(RESULTS.read_text())[next(iter(VOLUMES))]["measured"]
    rate, phases = measured["us_per_voxel_and_iteration"] / 1e6, measured["shares"]
    share = phases["denoise"]
    rates = Rates(rate * share, rate * (1 - share), measured["operations_per_voxel"])
    return rates, phases


def whole_rate() -> float:
    """Seconds per voxel solved and iteration, of a run by one worker of one thread."""
    found = json.loads(OVERHEAD.read_text())
    depth, rows, field = found["shape"]
    first, last = Geometry(ANGLES, depth, rows, field).domain
    work = min(run["work"] for run in found["runs"]["one"])
    return work / (depth * rows * (last - first) * found["N"])


def planned(problem: Problem, tile_rows: int | None) -> Plan:
    config = parse_config({**KEYS, **({"tile_rows": tile_rows} if tile_rows else {})})
    read = widest_read(problem.geometry, problem.config)
    memory = None if tile_rows else 4 * 2**30
    return make_plan(problem, config, length=fast_length(read), memory=memory)


def without_data(depth: int, rows: int, field: int) -> Problem:
    """The problem of a volume without its data."""
    return Problem.derive(
        Geometry(ANGLES, depth, rows, field),
        ProblemConfig(**KEYS),
        Intensity(0.0, 1.0, 1.0),
        stride=8,
        data_digest="",
        denoiser_digest="",
    )


class Nothing:
    """A history without checkpoints."""

    def newest(self, tiles: Sequence[object]) -> None:
        return None

    def forget(self, unit: str) -> None:
        pass


def simulate(problem: Problem, plan: Plan, workers: int, step: float) -> tuple[float, float]:
    """Seconds of the whole plan, and the share of its steps' time that workers were busy.

    Parameters
    ----------
    problem, plan
        Whose tiles; a few rounds of them are handed out.
    workers
        Their number; each computes one step at a time.
    step
        Seconds of an iteration of a tile.
    """
    coupled = plan.state != "none"
    driver, N = DRIVER["coupled" if coupled else "free"], plan.iterations
    across = len(plan.groups[0]) if coupled else 1
    wanted = max(across, math.ceil(min(len(plan.tiles), ROUNDS * workers) / across) * across)
    work: Work
    grid = TileGrid(plan, problem.geometry, problem.rows_per_call)
    if coupled:
        groups = plan.groups[: wanted // across]
        work = GroupWork(plan, grid, Nothing(), groups, resident=plan.state == "memory")  # type: ignore[arg-type]
    else:
        work = TileWork([plan.tiles[i] for i in range(wanted)], Nothing())  # type: ignore[arg-type]
    names = [f"w{i}" for i in range(workers)]
    work.set_workers(names)
    # (end, order, worker, task); when the driver is next free; seconds of work handed out
    events: list[tuple[float, int, str, Task]] = []
    idle, clock, free, order, busy = set(names), 0.0, 0.0, 0, 0.0
    seconds = {"run": N * step, "step": step, "finish": 0.0}
    while True:
        for name in sorted(idle):
            if (given := work.next(name, ahead=False)) is not None:
                task, _ = given
                order, busy = order + 1, busy + seconds[task.kind]
                idle.discard(name)
                heapq.heappush(events, (max(clock, free) + seconds[task.kind], order, name, task))
        if not events:
            break
        end, _, name, task = heapq.heappop(events)
        clock = free = max(end, free) + driver  # one message after another
        # Streamed states are on disk after every iteration; what is written is not looked at.
        streamed = plan.state == "store" and task.kind == "step"
        written = dict.fromkeys(grid.chunks(task.tile), "") if streamed else {}
        work.done(task, written, [None] * len(task.receivers))
        for unit, generation in work.commits():
            work.committed(unit, generation)
        idle.add(name)
    assert work.finished
    share = busy / (workers * clock)
    rest = (len(plan.tiles) - wanted) * N * step / (workers * share)
    # Uncoupled tiles tell of every iteration, whoever waits for them or not.
    return max(clock + rest, len(plan.tiles) * N * driver), share


def case(name: str, rates: Rates, phases: dict) -> dict:
    """All figures of a volume."""
    depth, rows, field = VOLUMES[name]
    problem = without_data(depth, rows, field)
    plan = planned(problem, None)
    cut = [planned(problem, n) for n in GPU_ROWS if n < rows]
    voxels = plan.voxels / len(plan.tiles)
    step = voxels * (rates.denoise + rates.other)
    found: dict = {
        "voxels": math.prod(plan.shape),
        "iterations": plan.iterations,
        "measured": {
            "us_per_voxel_and_iteration": round(1e6 * (rates.denoise + rates.other), 4),
            "shares": {k: round(v, 4) for k, v in phases.items()},
            "operations_per_voxel": round(rates.operations),
            "core_hours": round(
                plan.voxels * plan.iterations * (rates.denoise + rates.other) / 3600
            ),
        },
        "planned": {
            "state": plan.state,
            "tiles": len(plan.tiles),
            "tile": plan.tiles[0].write_box.shape,
            "tiles_side_by_side": len(plan.groups[0]),
            "halo": round(plan.halo, 3),
            "worker_bytes": plan.worker_memory,
            "exchanged_bytes_per_iteration": plan.traffic.exchanged,
            "written_bytes": plan.bytes_written,
            "tilts_bytes": 4 * len(ANGLES) * rows * field,
        },
        "simulated": [],
        "extrapolated": [],
    }
    for nodes in CPU_NODES:
        wall, share = simulate(problem, plan, nodes * CORES, step)
        found["simulated"].append(
            {"nodes": nodes, "workers": nodes * CORES, "hours": wall / 3600, "busy": share}
        )
    for gpu, peak in PEAKS.items():
        for part in SHARES:
            seconds = rates.operations / (peak * part) * (1 + rates.other / rates.denoise)
            for nodes in GPU_NODES:
                found["extrapolated"].append(
                    {"gpu": gpu, "share_of_peak": part, "nodes": nodes, "gpus": nodes * GPUS}
                    | min((on_gpus(problem, p, nodes * GPUS, seconds) for p in cut), key=_hours)
                )
    return found


def on_gpus(problem: Problem, plan: Plan, workers: int, seconds: float) -> dict:
    """A plan on GPUs that take so many seconds per voxel and iteration."""
    step = plan.voxels / len(plan.tiles) * seconds
    wall, share = simulate(problem, plan, workers, step)
    tile = plan.tiles[0].write_box.shape
    return {"tile": tile, "step_s": step, "hours": wall / 3600, "busy": share}


def _hours(line: dict) -> float:
    return line["hours"]


def show(results: dict[str, dict]) -> None:
    """The tables of docs/sizing.md."""
    print("| volume | core hours (measured rate) | tiles | state | bytes exchanged per iteration |")
    print("| --- | ---: | ---: | --- | ---: |")
    for name, r in results.items():
        p, m = r["planned"], r["measured"]
        print(
            f"| {name} | {m['core_hours']:,} | {p['tiles']:,} of {p['tile']} | {p['state']} "
            f"| {p['exchanged_bytes_per_iteration'] / 1e9:,.1f} GB |"
        )
    print(f"\n| volume | {CORES}-core nodes | hours (simulated) | busy |")
    print("| --- | ---: | ---: | ---: |")
    for name, r in results.items():
        for line in r["simulated"]:
            print(f"| {name} | {line['nodes']} | {line['hours']:.2f} | {line['busy']:.1%} |")
    print(f"\n| volume | nodes of {GPUS} | " + " | ".join(PEAKS) + " |")
    print("| --- " * (2 + len(PEAKS)) + "|")
    for name, r in results.items():
        for nodes in GPU_NODES:
            cells = []
            for gpu in PEAKS:
                lines = [e for e in r["extrapolated"] if (e["gpu"], e["nodes"]) == (gpu, nodes)]
                hours = sorted(e["hours"] for e in lines)
                cells.append(f"{hours[0]:.2f} to {hours[-1]:.2f}")
            print(f"| {name} | {nodes} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", action="store_true", help="print what there is")
    parser.add_argument("--simulate", action="store_true", help="with the first one's rates")
    options = parser.parse_args()
    if options.show:
        show(json.loads(RESULTS.read_text()))
        return
    torch.set_num_threads(1)
    if options.simulate:
        found = dict.fromkeys(VOLUMES, known())
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = {
                name: measure(depth, field, Path(folder))
                for name, (depth, _, field) in VOLUMES.items()
            }
    print(*found.items(), sep="\n", flush=True)
    results = {}
    for name, (rates, phases) in found.items():
        results[name] = case(name, rates, phases)
        results[name]["measured"]["width_of"] = next(iter(VOLUMES)) if options.simulate else name
        RESULTS.write_text(json.dumps(results, indent=1))
    show(results)


if __name__ == "__main__":
    main()
