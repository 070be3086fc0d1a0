"""One iteration of a tile: the paper's step, in the plane whose turn it is.

In the plane zx no row needs another one, so a step takes a block of rows at a time. In the planes zy
and yx it takes all rows that the tile reads. Everything else is the same in all planes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ddgm_dist.algorithm.ddgm import ddgm_step
from ddgm_dist.algorithm.denoiser import Denoiser, denoise_rows
from ddgm_dist.algorithm.planes import Plane, denoise_plane
from ddgm_dist.core.box import Box
from ddgm_dist.core.noise import addressed_noise
from ddgm_dist.operators.slab.inverse import regularized_inverse
from ddgm_dist.operators.slab.operator import SlabData
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.tile.events import Timer
from ddgm_dist.tile.measured import TileData, blocks, joined

__all__ = ["Iteration", "StepStats"]


@dataclass
class StepStats:
    """Figures of one iteration of a tile, over the rows that it owns.

    Attributes
    ----------
    residual
        Squared residual over the measured samples before the gradient phase, normalised units.
    measured
        Number of measured samples.
    seconds
        Wall time by phase: gradient, noise, denoise.
    """

    residual: float = 0.0
    measured: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)


class Iteration:
    """Iterations of any tile of one problem.

    Parameters
    ----------
    problem
        Problem to solve.
    denoiser
        Denoiser on the device.
    device
        Device of the computation.
    """

    def __init__(self, problem: Problem, denoiser: Denoiser, device: torch.device) -> None:
        self.problem, self.denoiser, self.device = problem, denoiser, device

    def __call__(self, tile: Tile, x: Tensor, n: int, data: TileData) -> tuple[Tensor, StepStats]:
        """Iteration n (from 0).

        Parameters
        ----------
        tile
            Any tile of the problem.
        x
            Blended estimate over the tile's read box, float32 ``(z, rows, columns)``.
        n, data
            Iteration; the tile's operator and data.

        Returns
        -------
        Tensor
            New estimate over the rows that the tile owns and all columns that it reads.
        StepStats
            Sums over the tile's blocks.
        """
        planes = self.problem.config.planes
        step = _Step(self, tile, x, n, planes[n % len(planes)], data)
        return joined((step(box) for box in step.boxes()), step.own), step.stats


class _Step:
    """The paper's step over boxes of rows of one tile, for one iteration.

    Attributes
    ----------
    own
        The rows that the tile owns, over all columns that it reads.
    stats
        Figures so far.
    """

    def __init__(
        self, iteration: Iteration, tile: Tile, x: Tensor, n: int, plane: Plane, data: TileData
    ) -> None:
        self.problem, self.denoiser = iteration.problem, iteration.denoiser
        self.device, self.x, self.n = iteration.device, x, n
        self.plane, self.data, self.read = plane, data, tile.read_box
        self.seed = self.problem.seed(tile.sample)
        (z0, _, x0), (z1, _, x1) = self.read.start, self.read.stop
        self.own = Box((z0, tile.write_box.start[1], x0), (z1, tile.write_box.stop[1], x1))
        self.timer = Timer()
        self.stats = StepStats(seconds=self.timer.seconds)

    def __call__(self, box: Box) -> tuple[int, Tensor]:
        """The step over a box: of the tile's own rows the first in the box, and the estimate."""
        (_, y0, _), (_, y1, _) = box.start, box.stop
        new = ddgm_step(
            self.x[:, y0 - self.read.start[1] : y1 - self.read.start[1]],
            self.n,
            schedule=self.problem.schedule,
            descend=partial(self.descend, box),
            noise=partial(self.noise, box),
            denoise=partial(self.denoise, box),
        )
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.timer.lap("denoise")
        first, last = max(y0, self.own.start[1]), min(y1, self.own.stop[1])
        return first - self.own.start[1], new[:, first - y0 : last - y0]

    def boxes(self) -> list[Box]:
        """Boxes that a step computes one after the other."""
        if self.plane == "zx":
            return blocks(self.own, self.problem.rows_per_call)
        return [self.read]

    def descend(self, box: Box, x: Tensor, steps: float) -> Tensor:
        """The data step, block by block. Rows that ``x`` lacks at the end of the box are empty."""
        out = joined(self._descended(box, x, steps), box)
        self.timer.lap("gradient")
        return out

    def _descended(self, box: Box, x: Tensor, steps: float) -> Iterator[tuple[int, Tensor]]:
        problem, operator = self.problem, self.data.operator
        for block in blocks(box, problem.rows_per_call):
            y, data = block.start[1], self.data.blocks[block.start[1]]
            first = y - box.start[1]
            rows = x[:, first : first + block.shape[1]]
            part = torch.zeros(block.shape, device=self.device)
            part[:, : rows.shape[1]] = rows
            if problem.config.step_rule == "proximal":
                error = operator.residual(part, data).square().sum()
                part = self._nearest(part, data)
            else:
                part, error = operator.descend(part, data, steps, problem.step_size)
            squared = float(error)  # also waits for the device, so that phases are timed
            if self.own.start[1] <= y < self.own.stop[1]:
                self.stats.residual += squared
                self.stats.measured += float(data.measured.expand(data.stretched.shape).sum())
            yield first, part[:, : box.stop[1] - y]

    def _nearest(self, x: Tensor, data: SlabData) -> Tensor:
        """The exact data step: the proximal map of the data's likelihood.

        The error of the estimate is taken for ``sqrt(c) sigma_n``, as the noise-aware flow is as long
        as ``c sigma_n^2 / sigma_y^2`` (Zhang et al. 2021, arXiv 2008.13751, with lambda = 1 / c).
        """
        problem = self.problem
        intensity, c = problem.intensity, problem.config.data_weight_cap
        return regularized_inverse(
            self.data.operator,
            data,
            intensity.uncertainty / intensity.std,
            around=x,
            spread=math.sqrt(c) * problem.schedule.sigma[self.n],
        )

    def noise(self, box: Box, n: int) -> Tensor:
        """Standard normal noise over the box."""
        eps = addressed_noise(self.seed, n, box, device=self.device)
        self.timer.lap("noise")
        return eps

    def denoise(self, box: Box, x: Tensor, sigma: float, n: int) -> Tensor:
        """The denoised estimate over the box; beyond the tile's own rows x as it is."""
        problem = self.problem
        if self.plane == "zx":
            return denoise_rows(
                self.denoiser,
                x,
                sigma,
                box=box,
                lattice=problem.lattice,
                seed=self.seed,
                iteration=n,
            )
        assert problem.lattice_rows is not None
        first, last = self.own.start[1], self.own.stop[1]
        clean = denoise_plane(
            self.denoiser,
            x,
            sigma,
            plane=self.plane,
            box=box,
            own=(first, last),
            rows=problem.geometry.rows,
            lattice=problem.lattice,
            lattice_rows=problem.lattice_rows,
            batch=problem.slices_per_call(self.plane),
            seed=self.seed,
            iteration=n,
        )
        out = x.clone()
        out[:, first - box.start[1] : last - box.start[1]] = clean
        return out
