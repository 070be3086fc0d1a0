"""The overhead of Ray on one machine, and the speed-up by a second worker.

    python benchmarks/overhead.py [--rows 64] [--repeats 2]

The same problem is solved by the local engine, by Ray with one worker, and with two, of one thread each.
The three run in turn, several times, each in a process of its own. *Wall* is from the call of
`reconstruct` to its return. *Work* leaves out the time before the first iteration, in which Ray and its
actors start. The volumes must have the same bits. Results go to benchmarks/results/overhead.json; only
ratios within one run are meaningful.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).with_name("results") / "overhead.json"
ANGLES = tuple(float(a) for a in range(-60, 61, 3))
DEPTH, FIELD = 64, 400
ENGINES = ("local", "one", "two")


def run(engine: str, tilts: Path, out: Path, keys: dict) -> dict:
    """One reconstruction in this process."""
    import numpy as np
    import torch

    from ddgm_dist import reconstruct
    from ddgm_dist.engine.local import LocalEngine
    from ddgm_dist.ray_engine.engine import RayEngine
    from ddgm_dist.tile.events import StepEvent
    from ddgm_dist.tile.host import allocate_as_workers

    torch.set_num_threads(1)
    first: list[float] = []

    def listening(kind):
        class Listening(kind):
            def run(self, job, done, report):
                def tell(event):
                    if isinstance(event, StepEvent) and not first:
                        first.append(event.started)
                    report(event)

                super().run(job, done, tell)

        return Listening

    if engine == "local":
        allocate_as_workers()  # as the command line does, and as Ray workers have it
        chosen = listening(LocalEngine)()
    else:
        import ray

        count = {"one": 1, "two": 2}[engine]
        ray.init(address="local", num_cpus=count, include_dashboard=False, log_to_driver=False)
        chosen = listening(RayEngine)(workers=count)
    began = time.time()
    result = reconstruct(tilts, out, keys, chosen)
    end = time.time()
    volume = np.ascontiguousarray(result.to_dask().compute())
    return {
        "wall": round(end - began, 2),
        "work": round(end - first[0], 2),
        "tiles": len(result.plan.tiles),
        "digest": hashlib.sha256(volume.tobytes()).hexdigest(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("-N", type=int, default=20)
    parser.add_argument("--one", nargs=4)
    args = parser.parse_args()
    if args.one:
        engine, tilts, out, keys = args.one
        print("RESULT " + json.dumps(run(engine, Path(tilts), Path(out), json.loads(keys))))
        return
    import numpy as np

    from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series

    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    keys = {"N": args.N, "tile_rows": 4, "mean": 0.0, "std": 1.0, "sigma_y": 1.0}
    found: dict[str, list[dict]] = {engine: [] for engine in ENGINES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = (len(ANGLES), args.rows, FIELD)
        data = np.random.default_rng(0).standard_normal(shape, np.float32)
        write_tilt_series(
            folder / "tilts.zarr", data, TiltSeriesMeta(ANGLES, None, thickness_px=DEPTH)
        )
        for turn in range(args.repeats):
            for engine in ENGINES:
                out = folder / f"{engine}-{turn}.zarr"
                given = [engine, str(folder / "tilts.zarr"), str(out), json.dumps(keys)]
                done = subprocess.run(
                    [sys.executable, __file__, "--one", *given],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT "))
                found[engine].append(json.loads(line[7:]))
                print(engine, found[engine][-1], flush=True)
    record(found, [DEPTH, args.rows, FIELD], args.N)


def record(found: dict[str, list[dict]], shape: list[int], n: int) -> None:
    def median(engine: str, what: str) -> float:
        return statistics.median(run[what] for run in found[engine])

    digests = {run["digest"] for runs in found.values() for run in runs}
    if len(digests) != 1:
        raise SystemExit(f"the volumes differ: {digests}")
    summary = {
        "shape": shape,
        "N": n,
        "ray_over_local_wall": round(median("one", "wall") / median("local", "wall"), 4),
        "ray_over_local_work": round(median("one", "work") / median("local", "work"), 4),
        "two_over_one_wall": round(median("one", "wall") / median("two", "wall"), 3),
        "two_over_one_work": round(median("one", "work") / median("two", "work"), 3),
        "runs": found,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps({k: v for k, v in summary.items() if k != "runs"}), flush=True)


if __name__ == "__main__":
    main()
