"""Estimate how long a run will take: time its steps on this machine, each on one block or call."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ddgm_dist.algorithm.ddgm import ddgm_step
from ddgm_dist.algorithm.schedule import IMPUTED_EVERY
from ddgm_dist.core.box import Box
from ddgm_dist.core.noise import addressed_noise
from ddgm_dist.operators.slab.inverse import regularized_inverse
from ddgm_dist.planning.calls import call_shape, calls_by_plane
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.runtime_estimate import RuntimeEstimate
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.prior.denoisers import shared_denoiser
from ddgm_dist.records.checkpoint import Checkpoints, Generation
from ddgm_dist.tile.blending import Piece, blend
from ddgm_dist.tile.events import Timer
from ddgm_dist.tile.grid import TileGrid
from ddgm_dist.tile.measured import MeasuredBlocks
from ddgm_dist.tile.start import Start, start_restorer
from ddgm_dist.tilts.series import TiltSeries
from ddgm_dist.volumes.layout import VolumeLayout
from ddgm_dist.volumes.store import create_volume

__all__ = ["estimate_runtime"]

# Each step is run once to warm up, and then for so many seconds or times; the median counts.
_SECONDS, _TIMES = 1.5, 5


def estimate_runtime(
    problem: Problem,
    plan: Plan,
    series: TiltSeries,
    *,
    building: float = 0.0,
    enough: float = math.inf,
) -> RuntimeEstimate:
    """Time the steps of a plan and add them up.

    Takes a few seconds: a few denoiser calls, the operator's basis, one block read and written. The
    device is that of a worker here: a GPU if there is one.

    Parameters
    ----------
    problem, plan, series
        The problem, its plan and its data.
    building
        Seconds that building the problem took.
    enough
        Seconds of denoiser calls from which on nothing else is timed: the estimate is a lower bound.
    """
    # As many as torch would take here, divided among the workers as Ray does.
    threads = max(1, torch.get_num_threads() // plan.workers)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _threads(threads):
        trial = _Trial(problem, plan, series, device)
        start, found = 0.0, {"denoise": trial.denoiser()}
        if found["denoise"] < enough:
            start, found = _other_phases(trial, found["denoise"])
    del trial
    torch.cuda.empty_cache()  # the workers need it
    return RuntimeEstimate(
        seconds=found,
        building=building,
        start=start,
        workers=plan.workers,
        threads=threads,
        units=len(plan.tiles),
    )


def _other_phases(trial: _Trial, denoise: float) -> tuple[float, dict[str, float]]:
    """Seconds that a worker takes to start, and seconds of all phases."""
    plan, planes = trial.plan, trial.problem.config.planes
    start, gradient, reading = trial.gradient()
    noise, rest = trial.noise(), trial.arithmetic()
    with tempfile.TemporaryDirectory() as folder:
        written = trial.writing(Path(folder))
        through_store = trial.store(Path(folder))
    blending = trial.blending()
    each, read = trial.blocks(own=True), trial.blocks(own=False)
    solved = sum(read if planes[n % len(planes)] != "zx" else each for n in range(plan.iterations))
    coupled = plan.state != "none"
    restore = trial.restore()
    return start, {
        **({"restore": restore} if restore else {}),
        "read": reading * read * _readings(plan),
        "gradient": gradient * solved,
        "noise": noise * solved,
        "denoise": denoise + rest * solved,
        "exchange": (blending * each + through_store) * plan.iterations if coupled else 0.0,
        "write": written * plan.bytes_written / 4,
    }


def _readings(plan: Plan) -> int:
    """Number of times that a tile is read: 1, or more if its data are not kept."""
    if plan.state != "store":
        return 1
    whole = plan.cached(plan.budget) >= plan.kept(1)
    return min(plan.iterations, plan.workers) if whole else plan.iterations


class _Trial:
    """The steps of one block."""

    def __init__(
        self, problem: Problem, plan: Plan, series: TiltSeries, device: torch.device
    ) -> None:
        self.problem, self.plan, self.device = problem, plan, device
        self.data = MeasuredBlocks(problem, plan.length, series, device)
        # A tile from the middle, and one block of it.
        self.whole = plan.tiles[len(plan.tiles) // 2]
        self.tile = _first_block(self.whole, problem.rows_per_call)
        (z0, y0, x0), (z1, _, x1) = self.tile.read_box.start, self.tile.read_box.stop
        self.box = Box((z0, y0, x0), (z1, y0 + problem.rows_per_call, x1))
        self.block = torch.zeros(self.box.shape, device=device)

    def blocks(self, *, own: bool) -> int:
        """Blocks of all tiles: those they own, or all that they read."""
        rows = [(t.write_box if own else t.read_box).shape[1] for t in self.plan.tiles]
        return sum(-(-n // self.problem.rows_per_call) for n in rows)

    def denoiser(self) -> float:
        """Seconds of all denoiser calls."""
        config = self.problem.config
        denoiser = shared_denoiser(
            config.denoiser, device=self.device, precision=config.precision
        ).denoiser
        seconds = 0.0
        for plane, count in calls_by_plane(self.plan.tiles, self.problem).items():
            x = torch.zeros(call_shape(self.problem, plane), device=self.device)
            inside = torch.ones_like(x)
            seconds += count * self._time(lambda x=x, inside=inside: denoiser(x, 1.0, inside))  # type: ignore[misc]
        return seconds

    def gradient(self) -> tuple[float, float, float]:
        """Making the basis (once per worker), a block's gradient phase, reading a block."""
        clock = time.perf_counter()
        loaded = self.data.load(self.tile, Timer())
        data = loaded.blocks[min(loaded.blocks)]
        # Of steps between two imputations, however many, that take the same time.
        runs = [math.ceil(steps / IMPUTED_EVERY) for steps in self.problem.schedule.steps]

        def descend() -> None:
            loaded.operator.descend(self.block, data, IMPUTED_EVERY, self.problem.step_size)

        descend()
        start = time.perf_counter() - clock

        def read() -> None:
            self.data.drop(self.tile.name)
            self.data.load(self.tile, Timer())

        def nearest(level: float) -> None:
            intensity, c = self.problem.intensity, self.problem.config.data_weight_cap
            noise, spread = intensity.uncertainty / intensity.std, math.sqrt(c) * level
            regularized_inverse(loaded.operator, data, noise, around=self.block, spread=spread)

        if self.problem.config.step_rule == "proximal":
            # It takes more steps at the first levels than at the last ones.
            sigma = self.problem.schedule.sigma
            seconds = sum(self._time(partial(nearest, s)) for s in (sigma[0], sigma[-1])) / 2
        else:
            seconds = self._time(descend) * sum(runs) / len(runs)
        return start, seconds, self._time(read) / len(loaded.blocks)

    def restore(self) -> float:
        """Seconds to begin all tiles from a restored estimate, with reading beside the blocks."""
        loaded = start_restorer(self.problem.config, self.device)
        if loaded is None:
            return 0.0
        start = Start(self.problem, loaded.restorer, self.device)
        data = self.data.load(self.tile, Timer())

        def begin() -> None:
            start(self.tile, data, self.data.sides(self.tile, start.neighbours, Timer()))

        return self.problem.config.starts * self._time(begin) * self.blocks(own=False)

    def noise(self) -> float:
        """Seconds to draw a block's noise."""
        return self._time(lambda: addressed_noise(0, 0, self.box, device=self.device))

    def arithmetic(self) -> float:
        """Seconds of the rest of a block's step."""

        def step() -> None:
            ddgm_step(
                self.block,
                0,
                schedule=self.problem.schedule,
                descend=lambda x, steps: x,
                noise=lambda n: self.block,
                denoise=lambda x, sigma, n: x,
            )

        return self._time(step)

    def blending(self) -> float:
        """Blending a block of a coupled tile."""
        piece = {
            self.tile.name: Piece(self.tile.read_box, self.block[:, : self.tile.read_box.shape[1]])
        }
        return self._time(lambda: blend(self.tile.read_box, piece, self.device))

    def writing(self, folder: Path) -> float:
        """Seconds per voxel of the volume, into a temporary folder."""
        own = _first_block(self.whole, self.plan.shard[1]).write_box
        box = Box((0, 0, 0), own.shape)
        layout = VolumeLayout(own.shape, self.plan.shard, self.plan.chunk)
        store = create_volume(folder / "volume.zarr", layout, voxel_size_nm=None, name="trial")
        noise = np.random.default_rng(0).standard_normal(own.shape, np.float32)
        return self._time(lambda: store.write(box, noise)) / own.size

    def store(self, folder: Path) -> float:
        """Seconds of one iteration's way through the store, if states are streamed."""
        if self.plan.state != "store":
            return 0.0
        grid = TileGrid(self.plan, self.problem.geometry, self.problem.rows_per_call)
        layout = replace(grid.layout, columns=1, rows=self.problem.rows_per_call)
        checkpoints = Checkpoints(folder / "volume.zarr", layout, "trial")
        state = np.zeros((layout.depth, layout.block, layout.support), np.float32)
        digests = checkpoints.write(1, 0, 0, state)
        written = self._time(lambda: checkpoints.write(1, 0, 0, state)) / state.nbytes
        generation = Generation(1, digests)
        read = self._time(lambda: checkpoints.read(generation, 0, 0, layout.block)) / state.nbytes
        return written * self.plan.traffic.written + read * self.plan.traffic.read

    def _time(self, step: Callable[[], object]) -> float:
        """Median seconds of a step, after one to warm up."""
        taken: list[float] = []
        for _ in range(1 + _TIMES):
            clock = time.perf_counter()
            step()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            taken.append(time.perf_counter() - clock)
            if len(taken) > 1 and sum(taken) > _SECONDS:
                break
        return float(np.median(taken[1:]))


def _first_block(tile: Tile, rows: int) -> Tile:
    """A tile of the first rows of another."""

    def cut(box: Box) -> Box:
        (z0, _, x0), (z1, _, x1) = box.start, box.stop
        y = tile.write_box.start[1]
        return Box((z0, y, x0), (z1, min(y + rows, tile.write_box.stop[1]), x1))

    return replace(tile, write_box=cut(tile.write_box), read_box=cut(tile.read_box))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Give torch as many threads as a worker has, within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
