"""The cost of large blocks on the heap, and mapped: peak memory and processor time of denoiser calls.

    python benchmarks/allocation.py [--calls 8] [--shape 4,128,2048]

Each way of allocating is a process of its own of one thread. Between calls 200 small blocks of random
sizes are made and freed, as readers and writers do beside a step. Prints a line per way.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

from ddgm_dist.tile.host import ALLOCATION

WAYS = {
    "mapped, huge pages": ALLOCATION,
    "mapped": {k: v for k, v in ALLOCATION.items() if k.startswith("MALLOC")},
    "heap": {
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**40),
    },
}


def peak() -> int:
    """High-water mark since the last time, MiB."""
    status = Path("/proc/self/status").read_text().splitlines()
    Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))


def work(shape: tuple[int, ...], calls: int, precision: str) -> dict:
    import numpy as np
    import torch

    from ddgm_dist.prior.denoisers import load_denoiser
    from ddgm_dist.tile.host import give_back_memory

    torch.set_num_threads(1)
    denoise = load_denoiser("fibsem", precision=precision).denoiser
    x = torch.randn(*shape)
    inside, draw, peaks, times = torch.ones_like(x), random.Random(0), [], []
    for n in range(calls + 1):
        small = [np.empty(draw.randint(1000, 300_000), np.uint8) for _ in range(200)]
        before = resource.getrusage(resource.RUSAGE_SELF)
        denoise(x, 0.5, inside)
        after = resource.getrusage(resource.RUSAGE_SELF)
        if n:  # the first one warms up
            times.append((after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime))
            peaks.append(peak())
        else:
            peak()
        del small
        give_back_memory()
    user, system = (round(sum(column) / calls, 2) for column in zip(*times, strict=True))
    return {"peaks": sorted(peaks), "user": user, "system": system}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--shape", default="4,128,2048")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        shape = tuple(int(n) for n in args.shape.split(","))
        print(json.dumps(work(shape, args.calls, args.precision)))
        return
    for name, variables in WAYS.items():
        done = subprocess.run(
            [sys.executable, __file__, "--work", *sys.argv[1:]],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, **variables, "OMP_NUM_THREADS": "1"},
        )
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name:20} peaks {found['peaks'][0]} to {found['peaks'][-1]} MiB, per call "
            f"{found['user']} s of its own and {found['system']} s of the system's",
            flush=True,
        )


if __name__ == "__main__":
    main()
