"""One iteration of a tile: the paper's step, applied to blocks of rows."""

from __future__ import annotations

import torch
from torch import Tensor

from ddgm_dist.algorithm.ddgm import ddgm_step
from ddgm_dist.algorithm.denoiser import Denoiser, denoise_rows
from ddgm_dist.algorithm.planes import Plane, denoise_plane
from ddgm_dist.core.box import Box
from ddgm_dist.core.noise import addressed_noise
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.tile.events import StepEvent, Timer
from ddgm_dist.tile.measured import MeasuredBlocks, blocks

__all__ = ["Iteration"]


class Iteration:
    """Iterations of any tile of one problem.

    Parameters
    ----------
    problem
        What is solved.
    denoiser
        On the device.
    device
        Where everything is computed.
    """

    def __init__(self, problem: Problem, denoiser: Denoiser, device: torch.device) -> None:
        self.problem, self.denoiser, self.device = problem, denoiser, device

    def __call__(
        self,
        tile: Tile,
        x: Tensor,
        n: int,
        loaded: MeasuredBlocks.Loaded,
        worker: str,
        started: float,
    ) -> tuple[Tensor, StepEvent]:
        """Iteration n (from 0).

        Parameters
        ----------
        tile
            Which.
        x
            Blended estimate over its read box, float32 ``(z, rows, columns)``.
        n, loaded
            Iteration; the tile's data.
        worker, started
            For the event.

        Returns
        -------
        Tensor
            New estimate over the rows it owns and all columns it reads.
        StepEvent
            Sums over its blocks.
        """
        plane = self.problem.config.planes[n % len(self.problem.config.planes)]
        if plane != "zx":
            return self._rotated(tile, x, n, loaded, plane, worker, started)
        own, seconds, seed = tile.write_box, dict[str, float](), self.problem.seed(tile.sample)
        residual = measured = 0.0
        new = torch.empty((x.shape[0], own.shape[1], x.shape[2]), device=self.device)
        for box in blocks(tile, self.problem.rows_per_call):
            first = box.start[1] - tile.read_box.start[1]
            rows = min(box.stop[1], own.stop[1]) - box.start[1]
            block = torch.zeros(box.shape, device=self.device)
            block[:, :rows] = x[:, first : first + rows]
            data = loaded.data[box.start[1]]
            block, error, spent = self._block(box, loaded.operator, data, block, n, seed)
            target = box.start[1] - own.start[1]
            new[:, target : target + rows] = block[:, :rows]
            residual += error
            measured += float(data.measured.expand(data.stretched.shape).sum())
            for phase, value in spent.items():
                seconds[phase] = seconds.get(phase, 0.0) + value
        sigma = self.problem.schedule.sigma[n]
        return new, StepEvent(
            tile.name, n, sigma, residual, measured, own.size, seconds, worker, started
        )

    def _rotated(
        self,
        tile: Tile,
        x: Tensor,
        n: int,
        loaded: MeasuredBlocks.Loaded,
        plane: Plane,
        worker: str,
        started: float,
    ) -> tuple[Tensor, StepEvent]:
        """An iteration that denoises in another plane: over all rows that the tile reads."""
        problem, timer, read = self.problem, Timer(), tile.read_box
        seed = problem.seed(tile.sample)
        own = (tile.write_box.start[1], tile.write_box.stop[1])
        mine = slice(own[0] - read.start[1], own[1] - read.start[1])
        sums = {"residual": 0.0, "measured": 0.0}
        lattice_rows = problem.lattice_rows
        assert lattice_rows is not None

        def descend(x: Tensor, steps: float) -> Tensor:
            out = torch.empty_like(x)
            for box in blocks(tile, problem.rows_per_call, halo=True):
                first = box.start[1] - read.start[1]
                rows = min(box.stop[1], read.stop[1]) - box.start[1]
                block = torch.zeros(box.shape, device=self.device)
                block[:, :rows] = x[:, first : first + rows]
                data = loaded.data[box.start[1]]
                block, error = loaded.operator.descend(block, data, steps, problem.step_size)
                out[:, first : first + rows] = block[:, :rows]
                if own[0] <= box.start[1] < own[1]:
                    sums["residual"] += float(error)
                    sums["measured"] += float(data.measured.expand(data.stretched.shape).sum())
            timer.lap("gradient")
            return out

        def noise(n: int) -> Tensor:
            eps = addressed_noise(seed, n, read, device=self.device)
            timer.lap("noise")
            return eps

        def denoise(x: Tensor, sigma: float, n: int) -> Tensor:
            clean = denoise_plane(
                self.denoiser,
                x,
                sigma,
                plane=plane,
                box=read,
                own=own,
                rows=problem.geometry.rows,
                lattice=problem.lattice,
                lattice_rows=lattice_rows,
                batch=problem.slices_per_call(plane),
                seed=seed,
                iteration=n,
            )
            out = x.clone()  # the halo is read only
            out[:, mine] = clean
            return out

        x = ddgm_step(
            x, n, schedule=problem.schedule, descend=descend, noise=noise, denoise=denoise
        )
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        timer.lap("denoise")
        event = StepEvent(
            tile.name,
            n,
            problem.schedule.sigma[n],
            sums["residual"],
            sums["measured"],
            tile.write_box.size,
            timer.seconds,
            worker,
            started,
        )
        return x[:, mine], event

    def _block(
        self, box: Box, operator: SlabOperator, data: SlabData, x: Tensor, n: int, seed: int
    ) -> tuple[Tensor, float, dict[str, float]]:
        problem, timer, residual = self.problem, Timer(), 0.0

        def descend(x: Tensor, steps: float) -> Tensor:
            nonlocal residual
            x, error = operator.descend(x, data, steps, problem.step_size)
            residual = float(error)  # also waits for the device, so that phases are timed
            timer.lap("gradient")
            return x

        def noise(n: int) -> Tensor:
            eps = addressed_noise(seed, n, box, device=self.device)
            timer.lap("noise")
            return eps

        def denoise(x: Tensor, sigma: float, n: int) -> Tensor:
            return denoise_rows(
                self.denoiser, x, sigma, box=box, lattice=problem.lattice, seed=seed, iteration=n
            )

        x = ddgm_step(
            x, n, schedule=problem.schedule, descend=descend, noise=noise, denoise=denoise
        )
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        timer.lap("denoise")
        return x, residual, timer.seconds
