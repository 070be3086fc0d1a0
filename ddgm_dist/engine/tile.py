"""The step: what a worker does with a tile, whoever schedules it.

The unit of computation is a *block*: ``rows_per_call`` rows over a read box's columns, starting at a
multiple of ``rows_per_call``; a block cut off by the volume's end is filled up with empty rows. So
each kernel sees the same shapes however rows are dealt out to tiles, and rounds the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.core.ddgm import ddgm_step
from ddgm_dist.core.denoiser import denoise_rows
from ddgm_dist.core.noise import addressed_noise
from ddgm_dist.engine.base import Job, Receipt, StepEvent, Timer
from ddgm_dist.engine.blending import Piece, blend, cut_pieces
from ddgm_dist.engine.measurements import read_block
from ddgm_dist.operators.slab import SlabData, SlabOperator
from ddgm_dist.operators.slab_basis import SlabBasis
from ddgm_dist.plan.tiling import Tile
from ddgm_dist.prior.denoisers import load_denoiser
from ddgm_dist.storage.tilt_series import open_tilt_series
from ddgm_dist.storage.volume import open_volume_store

__all__ = ["TileSolver"]


class TileSolver:
    """Solves tiles of one job; holds the denoiser and the operator between them.

    Parameters
    ----------
    job
        What to compute.
    worker
        Name that goes into receipts.
    """

    def __init__(self, job: Job, worker: str = "local") -> None:
        self.job, self.worker = job, worker
        self.problem = job.problem
        device = job.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        config = job.problem.config
        self.denoiser = load_denoiser(
            config.denoiser, device=self.device, precision=config.precision
        ).denoiser
        self.tilts = open_tilt_series(job.tilts)
        self.out = open_volume_store(job.out, mode="r+")
        self._basis: SlabBasis | None = None
        self._operators: dict[tuple[int, int], SlabOperator] = {}
        self._coupled: dict[str, CoupledTile] = {}

    # -- uncoupled tiles ------------------------------------------------------------------------

    def run(self, tile: Tile) -> Iterator[StepEvent | Receipt]:
        """All iterations of an uncoupled tile, block by block, and its write."""
        timer = Timer()
        result = torch.empty(tile.write_box.shape)
        for box in self._blocks(tile):
            operator, data = self._read(tile, box, timer)
            x = torch.zeros(box.shape, device=self.device)
            for n in range(len(self.problem.schedule)):
                x, event = self._step(tile, box, operator, data, x, n)
                _add(timer, event)
                yield event
            self._keep(tile, box, x, result)
        yield self._write(tile, result, timer)

    # -- coupled tiles --------------------------------------------------------------------------

    def start(self, tile: Tile) -> None:
        """Read a coupled tile and set its estimate to zero."""
        timer = Timer()
        blocks = []
        for box in self._blocks(tile):
            _, data = self._read(tile, box, timer)
            blocks.append((box, data, torch.zeros(box.shape, device=self.device)))
        self._coupled[tile.name] = CoupledTile(tile, blocks, timer)

    def step(self, tile: Tile, n: int) -> tuple[list[StepEvent], dict[str, Piece]]:
        """Iteration n of a coupled tile; returns the pieces its neighbours (and itself) blend."""
        state = self._coupled[tile.name]
        operator = self._operator(tile)
        events = []
        for index, (box, data, x) in enumerate(state.blocks):
            new, event = self._step(tile, box, operator, data, x, n)
            _add(state.timer, event)
            events.append(event)
            state.blocks[index] = (box, data, new)
        group = [t for t in self.job.plan.tiles if t.group == tile.group]
        return events, cut_pieces(tile, state.estimate(), group, self.job.plan.margin)

    def exchange(self, tile: Tile, pieces: Mapping[str, Piece]) -> None:
        """Replace a coupled tile's estimate by the blend of the pieces that reach it."""
        state = self._coupled[tile.name]
        state.timer.lap("wait")
        blended = blend(tile.read_box, pieces).to(self.device)
        for index, (box, data, _) in enumerate(state.blocks):
            first = box.start[1] - tile.read_box.start[1]
            x = torch.zeros(box.shape, device=self.device)
            part = blended[:, first : first + box.shape[1]]
            x[:, : part.shape[1]] = part
            state.blocks[index] = (box, data, x)
        state.timer.lap("exchange")

    def finish(self, tile: Tile) -> Receipt:
        """Write a coupled tile and forget it."""
        state = self._coupled.pop(tile.name)
        result = torch.empty(tile.write_box.shape)
        for box, _, x in state.blocks:
            self._keep(tile, box, x, result)
        return self._write(tile, result, state.timer)

    # -- one block ------------------------------------------------------------------------------

    def _blocks(self, tile: Tile) -> list[Box]:
        """Blocks of a tile: whole multiples of ``rows_per_call`` rows over its read box."""
        rows = self.problem.rows_per_call
        (z0, y0, x0), (z1, y1, x1) = tile.read_box.start, tile.read_box.stop
        return [Box((z0, y, x0), (z1, y + rows, x1)) for y in range(y0, y1, rows)]

    def _operator(self, tile: Tile) -> SlabOperator:
        columns = (tile.read_box.start[2], tile.read_box.stop[2])
        if columns not in self._operators:
            geometry = self.problem.geometry
            if self._basis is None:
                self._basis = SlabBasis(geometry, self.job.plan.length, self.device)
            isolated = geometry.specimen == "isolated"
            self._operators[columns] = SlabOperator(
                geometry,
                columns,
                background=self.problem.intensity.vacuum if isolated else 0.0,
                basis=self._basis,
            )
        return self._operators[columns]

    def _read(self, tile: Tile, box: Box, timer: Timer) -> tuple[SlabOperator, SlabData]:
        timer.lap("other")
        operator = self._operator(tile)
        part = operator.detector_part
        timer.lap("setup")
        projections, valid = read_block(self.tilts, self.problem, box, part)
        timer.lap("read")
        data = operator.prepare(
            projections.to(self.device), None if valid is None else valid.to(self.device), part
        )
        timer.lap("setup")
        return operator, data

    def _step(
        self, tile: Tile, box: Box, operator: SlabOperator, data: SlabData, x: Tensor, n: int
    ) -> tuple[Tensor, StepEvent]:
        problem, timer, residual = self.problem, Timer(), 0.0
        seed = problem.config.seed

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
        measured = float(data.measured.expand(data.stretched.shape).sum())
        sigma = problem.schedule.sigma[n]
        return x, StepEvent(tile.name, n, sigma, residual, measured, box.size, timer.seconds)

    def _keep(self, tile: Tile, box: Box, x: Tensor, result: Tensor) -> None:
        """Copy the voxels of a block that the tile owns, in the data's unit."""
        own = tile.write_box
        first = own.start[2] - box.start[2]
        rows = slice(box.start[1] - own.start[1], min(box.stop[1], own.stop[1]) - own.start[1])
        part = x[:, : rows.stop - rows.start, first : first + own.shape[2]]
        result[:, rows] = self.problem.intensity.restore(part).cpu()

    def _write(self, tile: Tile, result: Tensor, timer: Timer) -> Receipt:
        timer.lap("other")
        digest = self.out.write(tile.write_box, result.numpy())
        timer.lap("write")
        return Receipt(tile.name, digest, timer.seconds, self.worker)


class CoupledTile:
    """State of a coupled tile between iterations."""

    def __init__(
        self, tile: Tile, blocks: list[tuple[Box, SlabData, Tensor]], timer: Timer
    ) -> None:
        self.tile, self.blocks, self.timer = tile, blocks, timer

    def estimate(self) -> Tensor:
        """The estimate over the read box, without the rows that fill up the last block."""
        rows = self.tile.read_box.shape[1]
        return torch.cat([x for _, _, x in self.blocks], dim=1)[:, :rows]


def _add(timer: Timer, event: StepEvent) -> None:
    for phase, seconds in event.seconds.items():
        timer.seconds[phase] = timer.seconds.get(phase, 0.0) + seconds
    timer.lap("overlap")
    timer.seconds.pop("overlap")
