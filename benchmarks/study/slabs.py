"""A cell ready to be solved: operator, data, networks, and how a reconstruction is scored.

A restorer needs the rows beside each row. They are a series of their own, with noise of their own, so
that the series of a cell is the same with and without them. The restored start is made as in
`ddgm_dist.tile.start`, of each row as a block of one row.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from cells import Cell, beside, tissue
from numpy.typing import NDArray
from simulated import SEED_BESIDE, misfit_of, noise_by_tilt_and_row, simulate
from torch import Tensor

import ddgm_dist as dd
from ddgm_dist.algorithm.denoiser import Denoiser, denoise_rows
from ddgm_dist.algorithm.restorer import ERROR_VARIANCE, Acquisition, Restorer, restore_rows
from ddgm_dist.core.box import Box
from ddgm_dist.core.noise import addressed_noise
from ddgm_dist.evaluation.ring_correlation import ring_correlation
from ddgm_dist.operators.slab.inverse import regularized_inverse, sound_noise
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.problem import Problem
from ddgm_dist.prior.denoisers import load_denoiser
from ddgm_dist.prior.restorers import shared_restorer
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.tilts.rows import read_rows
from ddgm_dist.tilts.series import open_tilt_series


@dataclass
class Calls:
    """Calls of the networks in a run: of the denoiser, its vector-Jacobian products, the restorer."""

    forward: int = 0
    backward: int = 0
    restorer: int = 0


@dataclass(frozen=True)
class Slab:
    """A cell ready to be solved, in normalised units.

    Attributes
    ----------
    operator, data
        A, and b with its mask.
    problem
        As `ddgm_dist.runs.reconstruct` would pose it with a restored start.
    truth
        ``(z, row, x)`` over the field, grey levels.
    tilt_noise
        Standard deviation of each tilt's noise, as estimated from it alone.
    denoiser, restorer
        The shipped ones.
    near
        Data of the rows y - r to y + r of each row, one after the other; None if they are not known.
    calls
        Counted since the slab was made.
    starts
        Restored starts that were made, by their number of calls.
    """

    cell: Cell
    operator: SlabOperator
    data: SlabData
    problem: Problem
    truth: NDArray[np.float32]
    tilt_noise: NDArray[np.float64]
    denoiser: Denoiser
    restorer: Restorer
    near: SlabData | None = None
    calls: Calls = field(default_factory=Calls)
    starts: dict[int, Tensor] = field(default_factory=dict)

    @property
    def box(self) -> Box:
        start, stop = self.problem.geometry.domain
        return Box((0, 0, start), (self.cell.thickness, len(self.cell.rows), stop))

    @property
    def prior(self) -> str:
        """Start of the denoiser's digest, which distinguishes its results from another's."""
        return self.problem.denoiser_digest[:12]

    @property
    def restored_by(self) -> str:
        """The same of the restorer."""
        assert self.problem.restored is not None, "it is posed with a restored start"
        return self.problem.restored.restorer.digest[:12]

    @property
    def sigma_y(self) -> float:
        """Up to this the data are explained: the noise, or what no volume explains if that is more."""
        return self.problem.intensity.uncertainty / self.problem.intensity.std

    @property
    def inner(self) -> str:
        """The field's columns whose rays are all measured."""
        geometry = self.problem.geometry
        a, b = geometry.reach, geometry.field - geometry.reach
        return f"0:{geometry.thickness},0:{geometry.rows},{a}:{b}"

    def denoise(self, seed: int):
        """``(x, sigma, n) -> E[clean | x]``, counted."""

        def denoise(x: Tensor, sigma: float, n: int) -> Tensor:
            self.calls.forward += 1
            if x.requires_grad:
                self.calls.backward += 1
            return denoise_rows(
                self.denoiser,
                x,
                sigma,
                box=self.box,
                lattice=self.problem.lattice,
                seed=seed,
                iteration=n,
            )

        return denoise

    def noise(self, seed: int):
        """Standard normal noise by number; the package's own, addressed by global voxel."""
        return lambda n: addressed_noise(seed, n, self.box)

    def restored(self, calls: int = 1) -> Tensor:
        """What so many calls of the restorer make of the data, ``(z, rows, columns)``; counted."""
        self.calls.restorer += calls
        if calls not in self.starts:
            rows = range(len(self.cell.rows))
            self.starts[calls] = torch.cat([self._restored(row, calls) for row in rows], 1)
        return self.starts[calls].clone()

    def _restored(self, row: int, calls: int) -> Tensor:
        """One row's."""
        if self.near is None:
            raise SystemExit("the rows beside this slab's rows are not known")
        r = self.restorer.neighbours
        first = row * (2 * r + 1)
        noise = sound_noise(self.problem.geometry, self.sigma_y)
        x_w = regularized_inverse(self.operator, cut(self.near, first, first + 2 * r + 1), noise)
        own = cut(self.data, row, row + 1)
        coverage = self.operator.coverage(own.measured)
        (z0, _, x0), (z1, _, x1) = self.box.start, self.box.stop
        assert self.problem.restored is not None, "it is posed with a restored start"
        lattice = self.problem.restored.lattice

        def restore(estimates: tuple[Tensor, Tensor] | None = None) -> Tensor:
            return restore_rows(
                self.restorer,
                x_w,
                noise,
                Acquisition.of(self.problem.geometry),
                coverage=coverage,
                box=Box((z0, row, x0), (z1, row + 1, x1)),
                lattice=lattice,
                estimates=estimates,
            )

        x = restore()
        for _ in range(calls - 1):
            corrected = regularized_inverse(
                self.operator, own, noise, around=x, spread=ERROR_VARIANCE**0.5
            )
            x = restore((x, corrected))
        return x

    def restore(self, x: Tensor) -> NDArray[np.float32]:
        """To grey levels over the field."""
        first = -self.problem.geometry.domain[0]
        inner = x[..., first : first + self.cell.field].detach()
        return self.problem.intensity.restore(inner).numpy()

    def nmse(self, x: Tensor) -> float:
        """Mean squared error over the truth's variance, inner region: what the search minimises."""
        return dd.evaluate(self.restore(x), self.truth, inner=self.inner).nmse

    def score(self, x: Tensor) -> dict:
        """All figures of the table."""
        volume = self.restore(x)
        scores = dd.evaluate(volume, self.truth, inner=self.inner).to_dict()
        trim = self.problem.geometry.reach
        a, b = (v[..., trim : self.cell.field - trim] for v in (volume, self.truth))
        found = ring_correlation(a, b, max_tilt_deg=self.cell.max_tilt)
        rings = {
            "frequency": _json(found.frequency),
            "measured": _json(found.measured),
            "missing": _json(found.missing),
        }
        return scores | {"rings": rings}


def _json(curve: NDArray[np.float64]) -> list[float | None]:
    return [round(float(v), 4) if np.isfinite(v) else None for v in curve]


def cut(data: SlabData, start: int, stop: int) -> SlabData:
    """Data of some rows."""
    return SlabData(data.stretched[:, start:stop], full_mask(data)[:, start:stop])


def full_mask(data: SlabData) -> Tensor:
    """The mask of every row; S may be stored of one that stands for all."""
    rows = data.stretched.shape[1]
    return data.measured.expand(-1, rows, -1)


def in_order(own: SlabData, others: SlabData, neighbours: int) -> SlabData:
    """Rows y - r to y + r of each row, from the data of the rows y and of those beside them."""
    r = neighbours
    rows = own.stretched.shape[1]
    parts = []
    for row in range(rows):
        before, after = 2 * r * row, 2 * r * row + r
        parts.append(cut(others, before, after))
        parts.append(cut(own, row, row + 1))
        parts.append(cut(others, after, after + r))
    return SlabData(
        torch.cat([part.stretched for part in parts], 1),
        torch.cat([part.measured for part in parts], 1),
    )


def make_slab(cell: Cell, work: Path) -> Slab:
    """A cell's tissue with its tilt series, which is simulated unless the work folder has it."""
    neighbours = shared_restorer(ProblemConfig().restorer).restorer.neighbours
    around = tissue(beside(cell, neighbours))
    return pose(cell, tissue(cell), work / cell.key / "tilts.zarr", around)


def pose(
    cell: Cell,
    volume: NDArray[np.float32],
    tilts: Path,
    around: NDArray[np.float32] | None = None,
) -> Slab:
    """Simulate (or open) the tilt series of a volume ``(z, row, x)`` wider than the field.

    Parameters
    ----------
    cell, volume
        The cell, and its rows.
    tilts
        Store of the series. That of the rows beside them is put next to it.
    around
        The rows beside each row, in order, `neighbours` of the restorer on each side. Without them
        there is no restored start.
    """
    simulate(volume, cell, tilts)
    estimates = noise_by_tilt_and_row(tilts, cell)
    rows = len(cell.rows)
    sigma_y = float(np.sqrt(np.mean(np.square(estimates))))
    config = ProblemConfig(rows_per_call=rows, sigma_y=sigma_y, start="restored")
    built = build_problem(tilts, config)
    if cell.discrepancy:
        misfit = misfit_of(built.series, built.problem)
        built = build_problem(tilts, config.model_copy(update={"discrepancy": misfit}))
    problem = built.problem
    operator = SlabOperator(problem.geometry)

    def read(store: Path, count: int) -> SlabData:
        geometry = replace(problem.geometry, rows=count)
        series = open_tilt_series(store)
        return operator.prepare(
            *read_rows(series, geometry, problem.intensity, 0, count, screen=problem.screen)
        )

    data = read(tilts, rows)
    restorer = shared_restorer(config.restorer, precision=config.precision).restorer
    near = None
    if around is not None:
        others = tilts.with_name(f"beside{restorer.neighbours}.zarr")
        simulate(around, cell, others, SEED_BESIDE)
        near = in_order(data, read(others, around.shape[1]), restorer.neighbours)
    spare = (volume.shape[2] - cell.field) // 2
    return Slab(
        cell=cell,
        operator=operator,
        data=data,
        problem=problem,
        truth=np.ascontiguousarray(volume[..., spare : spare + cell.field]),
        tilt_noise=np.sqrt(np.square(estimates).mean(axis=1)),
        denoiser=load_denoiser(config.denoiser, precision=config.precision).denoiser,
        restorer=restorer,
        near=near,
    )


def made_fresh(slab: Slab) -> Slab:
    """The slab without its restored starts, for measuring what they cost."""
    return replace(slab, starts={})
