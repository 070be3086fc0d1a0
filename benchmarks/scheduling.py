"""Scheduling at scale, with a denoiser that sleeps: how busy 64 actors are, what a step costs.

    python benchmarks/scheduling.py [--actors 64] [--tiles 4096] [--seconds 2] [--mode free coupled]

Everything is real but the denoiser's work: Ray actors (fractions of a CPU), tiles with their gradient
steps, reads, shards and receipts. Each denoiser call sleeps instead of computing, as a worker waits for
a GPU, so a few cores can drive many actors. *Busy* is the share of all actors' time that they sleep in
the denoiser. It is taken from the moment the last actor is ready to the end of the last step. Results
go to benchmarks/results/scheduling.json.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).with_name("results") / "scheduling.json"
DENOISER = '''
import os
import time

SECONDS = float(os.environ["SLEEP_SECONDS"])


def sleep(x, sigma):
    """Shrinks a little, after a nap."""
    time.sleep(SECONDS)
    return x / (1 + sigma * sigma)
'''
ANGLES = tuple(float(a) for a in range(-60, 61, 12))
# What one tile is: thickness, rows, columns of its own.
DEPTH, ROWS, COLUMNS = 8, 4, 64


def tilts(path: Path, rows: int, columns: int) -> Path:
    """A series of noise: what is in it does not matter here."""
    import numpy as np

    from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series

    data = np.random.default_rng(0).normal(size=(len(ANGLES), rows, columns)).astype(np.float32)
    write_tilt_series(path, data, TiltSeriesMeta(ANGLES, None, thickness_px=DEPTH))
    return path


def problem(mode: str, tiles: int) -> tuple[int, int, dict]:
    """Rows, columns and configuration that make so many tiles."""
    keys = {"denoiser": "sleeper:sleep", "K": 1, "rows_per_call": ROWS, "tile_rows": ROWS}
    keys |= {"mean": 0.0, "std": 1.0, "sigma_y": 1.0}
    if mode == "free":
        return ROWS * tiles, COLUMNS, {**keys, "N": 2}
    # Groups of eight tiles side by side.
    coupled = {"tile_columns": COLUMNS, "margin": 16, "state": mode}
    return ROWS * tiles // 8, 8 * COLUMNS, {**keys, **coupled, "N": 6}


def measure(mode: str, actors: int, tiles: int, seconds: float, folder: Path) -> dict:
    """One run; its figures."""
    import ray

    from ddgm_dist import reconstruct
    from ddgm_dist.ray_engine.engine import RayEngine
    from ddgm_dist.tile.events import PoolEvent, StepEvent

    rows, columns, keys = problem(mode, tiles)
    moments: list[tuple[float, str]] = []
    ready: list[float] = []
    own: list[float] = []
    spent: list[tuple[int, dict[str, float]]] = []

    class Watched(RayEngine):
        def run(self, job, done, report):
            def tell(event):
                began = time.perf_counter()
                if isinstance(event, StepEvent):
                    end = event.started + sum(event.seconds.values())
                    moments.append((end, event.worker))
                elif isinstance(event, PoolEvent) and event.workers == actors and not ready:
                    ready.append(event.time)
                    # Until then it looks after actors that start, on cores that these take.
                    own.append(self.dispatcher.own_seconds if self.dispatcher else 0.0)
                    spent.append((len(moments), cpu_seconds()))
                elif isinstance(event, PoolEvent) and len(spent) == 1:  # the first one has gone
                    spent.append((len(moments), cpu_seconds()))
                own.append(time.perf_counter() - began)  # of this, not of the driver
                report(event)

            super().run(job, done, tell)
            if len(spent) == 1:
                spent.append((len(moments), cpu_seconds()))

    engine = Watched(workers=actors)
    began = time.time()
    result = reconstruct(
        tilts(folder / "tilts.zarr", rows, columns), folder / "out.zarr", keys, engine
    )
    seconds_all = time.time() - began
    last = engine.dispatcher
    assert last is not None
    start, end = ready[0], max(moment for moment, _ in moments)
    # A step that began before the start counts from then on.
    slept = sum(min(seconds, max(0.0, moment - start)) for moment, _ in moments)
    window = end - start
    later = sum(moment > start for moment, _ in moments)
    (first, before), (last_step, after) = spent
    steady = _steady(moments, start, seconds, actors)
    return {
        "mode": mode,
        "actors": actors,
        "cpus": os.cpu_count(),
        "tiles": len(result.plan.tiles),
        "groups": len(result.plan.groups),
        "iterations": result.plan.iterations,
        "sleep_seconds": seconds,
        "wall_seconds": round(seconds_all, 1),
        "busy": round(slept / (actors * window), 4),
        "busy_without_the_end": round(steady, 4),
        "driver_ms_per_step": round(1e3 * (last.own_seconds - sum(own)) / later, 3),
        "steps": len(moments),
        "cpu_ms_per_step": {
            who: round(1e3 * (after[who] - before.get(who, 0)) / (last_step - first), 2)
            for who in after
        },
        "ray": ray.__version__,
    }


def cpu_seconds() -> dict[str, float]:
    """Processor time of this process and of all below it so far, by what they are."""
    import psutil

    me = psutil.Process()
    found = {"driver": sum(me.cpu_times()[:2])}
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            name = process.name().removeprefix("ray::").split(".")[0]
            found[name] = found.get(name, 0.0) + sum(process.cpu_times()[:2])
    return found


def _steady(moments, start: float, seconds: float, actors: int) -> float:
    """The share up to the moment at which the first actor has nothing left to do."""
    last: dict[str, float] = {}
    for moment, worker in moments:
        last[worker] = max(last.get(worker, 0.0), moment)
    stop = min(last.values())
    slept = sum(max(0.0, min(moment, stop) - max(moment - seconds, start)) for moment, _ in moments)
    return slept / (actors * (stop - start))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--actors", type=int, default=64)
    parser.add_argument("--tiles", type=int, default=4096)
    parser.add_argument("--coupled-tiles", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--mode", nargs="*", default=["free", "memory", "store"])
    parser.add_argument("--profile", type=Path)
    args = parser.parse_args()
    os.environ["SLEEP_SECONDS"] = str(args.seconds)
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for mode in args.mode:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "sleeper.py").write_text(DENOISER)
            sys.path.insert(0, name)
            os.environ["PYTHONPATH"] = name + os.pathsep + os.environ.get("PYTHONPATH", "")
            import ray

            ray.init(
                address="local",
                num_cpus=os.cpu_count(),
                include_dashboard=False,
                object_store_memory=200 * 2**20,
                # An actor here takes 0.18 GB; the planner leaves room for a denoiser that computes.
                _memory=args.actors * 2**29,
                log_to_driver=False,
            )
            tiles = args.tiles if mode == "free" else args.coupled_tiles
            try:
                if args.profile:
                    import cProfile

                    profile = cProfile.Profile()
                    found = profile.runcall(measure, mode, args.actors, tiles, args.seconds, folder)
                    profile.dump_stats(args.profile)
                else:
                    found = measure(mode, args.actors, tiles, args.seconds, folder)
            finally:
                ray.shutdown()
            record(mode, found)


def record(mode: str, found: dict) -> None:
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[mode] = found
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
