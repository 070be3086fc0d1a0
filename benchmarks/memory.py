"""Peak resident memory of a worker against what the plan projects, over shapes of problems.

    python benchmarks/memory.py [--only NAME ...]

Each measurement is a run of two iterations on noise, in a process of its own. It uses the local engine,
or Ray with one worker of one thread and two concurrent calls. Then one tile is read or written while
another is computed. The peak is the kernel's high-water mark of the worker's resident set (VmHWM).
Results go to benchmarks/results/memory.json.
"""

import argparse
import contextlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

RESULTS = Path(__file__).with_name("results") / "memory.json"

# Data take more than volumes.
_MANY = {"tilts": 121, "tile_columns": 1024, "tile_rows": 32}
# name: depth, rows, field, calls at a time (1: local, 2: Ray), configuration keys
SHAPES = {
    "thin, narrow": (32, 8, 512, 1, {}),
    "thin, wide, 8 rows": (32, 16, 3000, 2, {"rows_per_call": 8}),
    "thin, float32": (32, 8, 1600, 2, {"precision": "float32"}),
    "64 thick, narrow windows": (64, 8, 3000, 2, {"window": 512}),
    "64 thick, wide window": (64, 8, 3000, 2, {"window": 4096}),
    "128 thick, one row a call": (128, 2, 2048, 2, {"rows_per_call": 1}),
    "128 thick, local": (128, 4, 1500, 1, {}),
    "64 thick, planes": (
        64,
        64,
        400,
        2,
        {"planes": ["zx", "zy", "yx"], "window_rows": 32, "overlap_rows": 8, "tile_rows": 32},
    ),
    "192 thick": (192, 4, 600, 2, {"rows_per_call": 2}),
    "192 thick, float32": (192, 4, 320, 2, {"precision": "float32"}),
    "64 thick, coupled, resident": (64, 32, 3000, 2, {"tile_columns": 1024, "tile_rows": 16}),
    "64 thick, coupled, streamed": (
        64,
        32,
        3000,
        2,
        {"tile_columns": 1024, "tile_rows": 16, "state": "store"},
    ),
    "128 thick, coupled, one slice": (
        128,
        1,
        9000,
        2,
        {"tile_columns": 2048, "rows_per_call": 1, "state": "store"},
    ),
    # S is then as large as the data.
    "121 tilts, coupled, local": (16, 32, 6000, 1, _MANY),
    "121 tilts, shifted": (16, 32, 6000, 1, _MANY | {"shifts": True}),
    "121 tilts, pixels missing": (16, 32, 6000, 1, _MANY | {"missing": True}),
    "121 tilts, pixels missing, in the store": (
        16,
        32,
        6000,
        1,
        _MANY | {"missing": True, "state": "store"},
    ),
}
# Besides keys of the configuration: the number of tilts (41), whether views are shifted by fractions
# of a pixel, and whether a pixel in a thousand is missing.
SERIES = {"tilts": 41, "shifts": False, "missing": False}
WIDEST = 60.0


def peak(pid: int | str) -> int:
    """High-water mark of a process, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("the system does not tell")


def prepare(folder: Path, depth: int, rows: int, field: int, calls: int, keys: dict) -> tuple:
    """A tilt series of noise, the job, and its empty output."""
    import numpy as np

    from ddgm_dist.planning.config import parse_config
    from ddgm_dist.runs.build_problem import build_problem
    from ddgm_dist.runs.output import Output
    from ddgm_dist.runs.plan import plan_problem
    from ddgm_dist.tile.job import Job
    from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series

    series = {key: keys.get(key, value) for key, value in SERIES.items()}
    keys = {key: value for key, value in keys.items() if key not in SERIES}
    angles = tuple(np.linspace(-WIDEST, WIDEST, series["tilts"]).tolist())
    rng = np.random.default_rng(0)
    data = rng.standard_normal((len(angles), rows, field), np.float32)
    shifts = None
    if series["shifts"]:
        shifts = tuple(map(tuple, rng.uniform(-1, 1, (len(angles), 2)).tolist()))
    if series["missing"]:
        data[rng.random(data.shape) < 1e-3] = np.nan
        keys["impute_nonfinite"] = True
    tilts = folder / "tilts.zarr"
    write_tilt_series(tilts, data, TiltSeriesMeta(angles, shifts, thickness_px=depth))
    config = parse_config({"N": 2, "mean": 0.0, "std": 1.0, "sigma_y": 1.0, **keys})
    built = build_problem(tilts, config.problem())
    problem, series = built.problem, built.series
    plan = plan_problem(problem, series, config, None, calls=calls)
    with Output.claim(folder / "out.zarr", overwrite=False) as output:
        output.begin(problem, plan, None)
        job = Job(problem, plan, series.place, output.place, output.digest, state=config.state)
    return job, calls


def work(job, calls: int) -> int:
    """Run a job as a worker does; returns the worker's peak."""
    if calls == 1:
        import torch

        from ddgm_dist.engine.local import LocalEngine

        torch.set_num_threads(1)
        LocalEngine().run(job, frozenset(), lambda event: None)
        return peak("self")
    return in_ray(job)


def in_ray(job) -> int:
    """The same in Ray, on one worker."""
    from ddgm_dist.ray_engine.engine import RayEngine

    engine, peaks, done = RayEngine(workers=1), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            for worker in engine.dispatcher.pool.ready if engine.dispatcher else []:
                with contextlib.suppress(OSError):
                    peaks.append(peak(worker.handshake.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        engine.run(job, frozenset(), lambda event: None)
    finally:
        done.set()
        watcher.join()
    return max(peaks)


def measure(shape: tuple) -> dict:
    """One shape: the worker's peak and the projection, bytes."""
    from ddgm_dist.tile.host import ALLOCATION

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
            env={**os.environ, **ALLOCATION, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"},
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
    parser.add_argument(
        "--shape", help="JSON: depth, rows, field, calls, keys; prints and saves nothing"
    )
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
