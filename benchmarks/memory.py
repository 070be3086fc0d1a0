"""Peak resident memory of a worker against what the plan projects, over shapes of problems.

    python benchmarks/memory.py [--only NAME ...]

Each measurement is a process of its own that does what a worker does: it opens the stores and solves the
first tiles of a plan. With ``calls`` 2 it works as one of Ray's actors: two calls at a time, so one tile is
read while another is computed. The peak is the kernel's high-water mark of the resident set (VmHWM).
Data are noise, the problem has two iterations: memory does not depend on either. Results go to
benchmarks/results/memory.json.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RESULTS = Path(__file__).with_name("results") / "memory.json"

# name: depth, rows, field, calls at a time, configuration keys
SHAPES = {
    "thin, narrow": (32, 8, 512, 1, {}),
    "thin, wide, 8 rows": (32, 16, 3000, 2, {"rows_per_call": 8}),
    "thin, float32": (32, 8, 1600, 2, {"precision": "float32"}),
    "64 thick, narrow windows": (64, 8, 3000, 2, {"window": 512}),
    "64 thick, wide window": (64, 8, 3000, 2, {"window": 4096}),
    "128 thick, one row a call": (128, 2, 2048, 2, {"rows_per_call": 1}),
    "128 thick, local": (128, 4, 1500, 1, {}),
    "192 thick": (192, 4, 600, 2, {"rows_per_call": 2}),
    "192 thick, float32": (192, 4, 320, 2, {"precision": "float32"}),
    "64 thick, coupled, resident": (64, 32, 3000, 2, {"tile_columns": 1024, "tile_rows": 16}),
    "64 thick, coupled, streamed": (
        64,
        32,
        3000,
        2,
        {"tile_columns": 1024, "tile_rows": 16, "state": "streamed"},
    ),
    "128 thick, coupled, one slice": (
        128,
        1,
        9000,
        2,
        {"tile_columns": 2048, "rows_per_call": 1, "state": "streamed"},
    ),
}
ANGLES = tuple(float(a) for a in range(-60, 61, 3))


def peak() -> int:
    """High-water mark of this process, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("the system does not tell")


def prepare(folder: Path, depth: int, rows: int, field: int, calls: int, keys: dict) -> tuple:
    """A tilt series of noise, the job, and its empty output."""
    import numpy as np

    from ddgm_dist.engine.base import Job
    from ddgm_dist.output import Output
    from ddgm_dist.plan.config import parse_config
    from ddgm_dist.pose import pose_problem
    from ddgm_dist.reconstruct import plan_problem
    from ddgm_dist.storage.tilt_series import TiltSeriesMeta, write_tilt_series

    data = np.random.default_rng(0).standard_normal((len(ANGLES), rows, field), np.float32)
    tilts = folder / "tilts.zarr"
    write_tilt_series(tilts, data, TiltSeriesMeta(ANGLES, None, thickness_px=depth))
    config = parse_config({"N": 2, "mean": 0.0, "std": 1.0, "sigma_y": 1.0, **keys})
    problem, series = pose_problem(tilts, config.problem())
    plan = plan_problem(problem, series, config, None, calls=calls)
    with Output.claim(folder / "out.zarr", problem, plan, None, overwrite=False) as output:
        job = Job(problem, plan, series.path, output.path, output.digest, state=config.state)
    return job, calls


def work(job, calls: int) -> int:
    """What a worker does; returns its peak."""
    import torch

    from ddgm_dist.engine.resume import History
    from ddgm_dist.engine.tile import TileSolver

    torch.set_num_threads(1)
    if calls > 1:
        import ray  # noqa: F401  (an actor has it)
    solver = TileSolver(job)

    def run(tile) -> None:
        torch.set_num_threads(1)  # OpenMP keeps the number per thread
        for _ in solver.run(tile):
            pass

    with ThreadPoolExecutor(calls) as threads:
        group = job.plan.groups[0]
        if len(group) == 1:
            list(threads.map(run, job.plan.tiles[: calls + 1]))
        else:
            coupled(solver, group, History(solver.checkpoints, solver.grid), threads)
    return peak()


def coupled(solver, group, history, threads) -> None:
    """All iterations of a group, as the scheduler makes them; each iteration ends for all at once."""
    import torch

    from ddgm_dist.engine.resume import unit_name
    from ddgm_dist.storage.checkpoint import Generation

    resident = solver.job.resident(1)
    load, mail = None, {tile.name: {} for tile in group}

    def step(tile, n, mail, load):
        torch.set_num_threads(1)
        return solver.step(tile, n, mail, load=load, save=not resident, keep=resident)

    for n in range(solver.job.plan.iterations):
        made = list(threads.map(lambda t, n=n: step(t, n, mail[t.name], load), group))
        mail = {tile.name: {} for tile in group}
        if resident:
            for tile in group:
                others = [t for t in solver.grid.receivers(tile) if t is not tile]
                for other, piece in zip(others, solver.pieces(tile, others), strict=True):
                    if piece is not None:
                        mail[other.name][tile.name] = piece
        else:
            load = Generation(n + 1, {k: v for m in made for k, v in m.digests.items()})
            history.commit(unit_name(group), load)
    list(threads.map(lambda t: solver.finish(t, mail[t.name], load), group))


def measure(shape: tuple) -> dict:
    """One shape: the worker's peak and the projection, bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job, calls = prepare(folder, *shape)
        (folder / "job").write_bytes(pickle.dumps((job, calls)))
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, __file__, "--work", str(folder / "job")],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        measured = int(done.stdout.split()[-1])
        model, projected = job.plan.memory, job.plan.worker_memory
        return {
            "measured": measured,
            "projected": projected,
            "ratio": round(projected / measured, 3),
            "parts": model.parts(),
            "tile": list(job.plan.tiles[0].read_box.shape),
            "seconds": round(time.perf_counter() - began, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", help="names of shapes")
    parser.add_argument("--shape", help="JSON: depth, rows, field, calls, keys; prints and saves nothing")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(work(*pickle.loads(args.work.read_bytes())))
        return
    if args.shape:
        print(json.dumps(measure(tuple(json.loads(args.shape)))))
        return
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in args.only or SHAPES:
        found = known[name] = measure(SHAPES[name])
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(known, indent=1) + "\n")
        mib = {k: round(v / 2**20) for k, v in found["parts"].items()}
        print(
            f"{name:32} measured {found['measured'] / 2**20:6.0f} projected "
            f"{found['projected'] / 2**20:6.0f} MiB, ratio {found['ratio']}  {mib} {found['seconds']} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
