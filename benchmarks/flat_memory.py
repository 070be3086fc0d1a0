"""Memory per worker does not grow with the volume: 32 to 1024 Mvoxel, and slices up to 1,000,000 wide.

    python benchmarks/flat_memory.py --scratch DIR [--sizes 32,128,512,1024] [--slices 250000,1000000]

With `--small` the input is noise, and the denoiser an untrained network of the shipped form with a
quarter of its channels. That is a sixteenth of the work, in calls of the same shape. Then nothing is
compared.

A procedural phantom is simulated once and cut to size. Each run is a process of its own with two Ray
workers of one thread. The peak resident set of each process is read once a second from the kernel's
high-water mark. The volume is then compared with the phantom, block by block. Results are added to
benchmarks/results/flat_memory.json as they come.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

RESULTS = Path(__file__).with_name("results") / "flat_memory.json"
DEPTH, FIELD = 128, 1824  # with the reach of 60 degrees one denoiser window
ANGLES = tuple(float(a) for a in range(-60, 61, 3))
ROWS = {32: 137, 64: 274, 128: 548, 256: 1097, 512: 2193, 1024: 4386}


def peak(pid: int) -> int:
    """High-water mark of a process, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    return 0


def phantom(shape):
    from ddgm_dist.simulation.phantom import TissuePhantom

    return TissuePhantom(shape, seed=1)


def simulated(scratch: Path, shape, name: str) -> Path:
    from ddgm_dist import simulate

    path = scratch / f"{name}.zarr"
    if not path.exists():
        began = time.time()
        simulate(
            phantom(shape),
            scratch / "part.zarr",
            angles=ANGLES,
            noise="gaussian:0.3",
            field=shape[2] - 224,
            overwrite=True,
        )
        (scratch / "part.zarr").rename(path)
        print(f"simulated {shape} in {time.time() - began:.0f} s", flush=True)
    return path


def noise(scratch: Path, rows: int) -> Path:
    """A tilt series of noise, of the shape of the simulated ones."""
    import numpy as np

    from ddgm_dist.tilts.series import TiltSeriesMeta, create_tilt_series

    path = scratch / f"noise-{rows}.zarr"
    shape, meta = (len(ANGLES), rows, FIELD), TiltSeriesMeta(ANGLES, None, thickness_px=DEPTH)
    generator = np.random.default_rng(0)
    with create_tilt_series(path, shape, meta, overwrite=True) as writer:
        for start in range(0, rows, 64):
            part = slice(start, min(rows, start + 64))
            size = (len(ANGLES), part.stop - start, FIELD)
            writer.write(part, generator.standard_normal(size, np.float32))
    return path


def cropped(whole: Path, rows: int) -> Path:
    from ddgm_dist.tilts.series import create_tilt_series, open_tilt_series

    path = whole.with_name(f"{whole.stem}-{rows}.zarr")
    if not path.exists():
        series = open_tilt_series(whole)
        shape = (series.shape[0], rows, series.shape[2])
        with create_tilt_series(path, shape, series.meta, overwrite=True) as writer:
            for start in range(0, rows, 64):
                part = slice(start, min(rows, start + 64))
                writer.write(part, series.read(part))
    return path


def small_denoiser(scratch: Path) -> str:
    """Path of the weights."""
    import torch

    from ddgm_dist.prior.unet import UNet, UNetSpec
    from ddgm_dist.prior.weights import save_weights

    path = scratch / "small.safetensors"
    torch.manual_seed(0)
    save_weights(path, UNet(UNetSpec(channels=(8, 16, 32, 48))), {"sigma_range": [0.01, 30.0]})
    return str(path)


def run(tilts: Path, out: Path, keys: dict) -> dict:
    """One reconstruction in this process: peaks of its workers and of itself."""
    from ddgm_dist import reconstruct
    from ddgm_dist.ray_engine.engine import RayEngine

    peaks: dict[int, int] = {}
    over_time = []

    class Watched(RayEngine):
        def run(self, job, done, report):
            stop = threading.Event()

            def watch() -> None:
                began = time.time()
                while not stop.wait(1.0):
                    workers = self.dispatcher.pool.ready if self.dispatcher else []
                    for worker in workers:
                        with contextlib.suppress(OSError):
                            found = peak(worker.handshake.pid)
                            peaks[worker.handshake.pid] = max(
                                peaks.get(worker.handshake.pid, 0), found
                            )
                    over_time.append((round(time.time() - began), max(peaks.values(), default=0)))

            thread = threading.Thread(target=watch, daemon=True)
            thread.start()
            super().run(job, done, report)
            stop.set()

    began = time.time()
    result = reconstruct(tilts, out, keys, Watched(workers=2))
    seconds = time.time() - began
    every = max(1, len(over_time) // 20)
    return {
        "seconds": round(seconds, 1),
        "tiles": len(result.plan.tiles),
        "tile": [list(result.plan.tiles[0].read_box.shape)],
        "order": result.plan.order,
        "projected": result.plan.worker_memory,
        "worker_peaks": sorted(peaks.values()),
        "driver_peak": peak(os.getpid()),
        "over_time": over_time[::every],
        "worker_seconds": result.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--sizes", default="32,128,512,1024")
    parser.add_argument("--slices", default="")
    parser.add_argument("--score-rows", type=int, default=10**9, help="compare so many rows only")
    parser.add_argument("--small", action="store_true", help="a sixteenth of the work")
    parser.add_argument("--one", nargs=3)
    args = parser.parse_args()
    args.scratch.mkdir(parents=True, exist_ok=True)
    if args.one:
        tilts, out, keys = args.one
        print("RESULT " + json.dumps(run(Path(tilts), Path(out), json.loads(keys))))
        return
    jobs = []
    sizes = [int(s) for s in args.sizes.split(",") if s]
    if args.small:
        keys = {"mean": 0, "std": 1, "sigma_y": 1, "denoiser": small_denoiser(args.scratch)}
        jobs = [
            (f"{s} Mvoxel, small", noise(args.scratch, ROWS[s]), ROWS[s], 0, keys) for s in sizes
        ]
    elif sizes:
        whole = simulated(
            args.scratch, (DEPTH, ROWS[max(sizes)], FIELD + 224), f"tilts{max(sizes)}"
        )
        jobs += [(f"{s} Mvoxel", cropped(whole, ROWS[s]), ROWS[s], FIELD, {}) for s in sizes]
    for width in [int(s) for s in args.slices.split(",") if s]:
        tilts = simulated(args.scratch, (DEPTH, 1, width + 224), f"slice{width}")
        jobs.append((f"slice {width}", tilts, 1, width, {"state": "store", "checkpoint_every": 60}))
    for name, tilts, rows, field, more in jobs:
        out = args.scratch / "out.zarr"
        keys = {"N": 2, **more}
        subprocess.run(["rm", "-rf", str(out)], check=True)
        done = subprocess.run(
            [
                sys.executable,
                __file__,
                "--scratch",
                str(args.scratch),
                "--one",
                str(tilts),
                str(out),
                json.dumps(keys),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = json.loads(next(x for x in done.stdout.splitlines() if x.startswith("RESULT "))[7:])
        if not args.small:
            found["score"] = score(out, rows, field, min(rows, args.score_rows))
        record(name, found)


def score(out: Path, rows: int, field: int, some: int) -> dict:
    from ddgm_dist import evaluate

    source = phantom((DEPTH, rows, field + 224))
    began = time.time()
    first = (rows - some) // 2
    found = evaluate(out, source, inner=f":,{first}:{first + some},112:{field - 112}")
    return {**found.to_dict(), "seconds": round(time.time() - began, 1)}


def record(name: str, found: dict) -> None:
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[name] = found
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    print(name, json.dumps(found["worker_peaks"]), found["seconds"], "s", flush=True)


if __name__ == "__main__":
    main()
