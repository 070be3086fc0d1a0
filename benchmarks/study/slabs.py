"""The cells of the study: held-back FIB-SEM tissue, its simulated tilt series, and how one is scored.

The prior saw z < 345 of the training volume. ``medulla`` begins at its z = 352, thickness along z.
``thick`` has its thickness along y, in planes of z that the prior has not seen; the tissue is
isotropic. ``cube`` is the validation volume, another piece of tissue. Rows of a cell lie far apart,
so that few rows show much tissue. Each is a slice of its own for the operator and for the denoiser
(plane zx). Data come from the explicit, oversampled projector, which shares nothing with the operator.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import ddgm_dist as dd
from ddgm_dist.algorithm.denoiser import Denoiser, denoise_rows
from ddgm_dist.core.box import Box
from ddgm_dist.core.noise import addressed_noise
from ddgm_dist.evaluation.ring_correlation import ring_correlation
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.pixels.noise_estimate import estimate_noise
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.problem import Problem
from ddgm_dist.prior.denoisers import load_denoiser
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.tilts.rows import read_rows
from ddgm_dist.tilts.series import open_tilt_series

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATA = Path(os.environ.get("DDGM_DIST_DATA", ROOT.parent / "shared" / "data"))
RESULTS = HERE.parent / "results" / "study"
NOISES = (0.05, 0.3, 1.0)
THICK: dict = {"specimen": "thick", "thickness": 128}
# Thickness, number of tilts, and within how many degrees: what the study varies.
GEOMETRIES: dict[str, dict] = {
    "64": {},
    "64, 41 tilts": {"tilts": 41},
    "64, within 45": {"max_tilt": 45.0},
    "64, within 70": {"max_tilt": 70.0},
    "128": THICK,
    "128, 41 tilts": {**THICK, "tilts": 41},
    "128, within 45": {**THICK, "max_tilt": 45.0},
    "128, within 70": {**THICK, "max_tilt": 70.0},
    "64, Poisson": {"poisson": True},
}

# Rows (of y) that settings are searched on, and that are scored: none nearer than 40 voxels to
# another set's of the same specimen. DDGM's defaults were chosen on the slices of choice.py, among them
# the searched y = 110 and none that is scored.
SEARCH_ROWS = {"medulla": (110,), "thick": (196_360,)}
SCORE_ROWS = {"medulla": (20, 165, 330, 490), "thick": (412, 130_412, 260_412, 390_412)}


@dataclass(frozen=True)
class Cell:
    """One tilt series of the study.

    Attributes
    ----------
    noise
        Of the projections' standard deviation.
    rows
        Slices of the specimen.
    specimen, thickness, tilts, max_tilt, field
        Which tissue; voxels; number of tilts, within so many degrees; recorded columns.
    poisson
        Counts in place of white noise, as many that their noise has the same mean square.
    vacuum
        Nothing lies beyond the tissue, which the operator does not expect; mirrored tissue else.
    """

    noise: float
    rows: tuple[int, ...]
    specimen: str = "medulla"
    thickness: int = 64
    tilts: int = 61
    max_tilt: float = 60.0
    field: int = 400
    poisson: bool = False
    vacuum: bool = False

    @property
    def key(self) -> str:
        """Name of the files of this cell."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.label}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def label(self) -> str:
        return (
            f"{self.specimen}_{self.thickness}thick_{self.tilts}x{self.max_tilt:g}"
            f"_{'poisson' if self.poisson else 'noise'}{round(100 * self.noise)}"
        )


def fraction(text: str) -> float:
    """A level of noise, for argparse."""
    value = float(text)
    if not 0 <= value <= 3:
        raise argparse.ArgumentTypeError(f"{text} is not a fraction: 0.05 is 5 %")
    return value


def cells(
    geometries: Iterable[str],
    noises: Iterable[float],
    rows: Mapping[str, tuple[int, ...]],
    slices: int | None = None,
) -> list[Cell]:
    """Every geometry at every level of noise; of some slices only."""
    found = [Cell(noise, (), **GEOMETRIES[name]) for name in geometries for noise in noises]
    return [replace(cell, rows=rows[cell.specimen][:slices]) for cell in found]


def tissue(cell: Cell) -> NDArray[np.float32]:
    """The slab's slices, float32 ``(z, row, x)``, grey levels, wider than the field."""
    return surround(unfolded(cell), cell)


def unfolded(cell: Cell) -> NDArray[np.float32]:
    """The same, as wide as the data have it."""
    if not (DATA / "fibsem_medulla").is_dir():
        raise SystemExit(f"no folder fibsem_medulla in {DATA}: set DDGM_DIST_DATA to where it is")
    if cell.specimen == "medulla":
        source = open_volume(DATA / "fibsem_medulla" / "train")
        block = source.read(Box((352, 0, 0), (352 + cell.thickness, 520, 520)))
        slices = block[:, list(cell.rows)]
    elif cell.specimen == "thick":
        source = open_volume(DATA / "fibsem_medulla" / "train")
        planes = [divmod(row, 1000) for row in cell.rows]  # row = 1000 y + z
        slices = np.stack(
            [source.read(Box((z, y, 0), (z + 1, y + cell.thickness, 520)))[0] for y, z in planes],
            axis=1,
        )
    elif cell.specimen == "cube":
        source = open_volume(DATA / "fibsem_medulla" / "val")
        cube = source.read(Box((0, 0, 0), (250, 250, 250)))
        starts = [divmod(row, 250) for row in cell.rows]  # row = 250 z + y
        slices = np.stack([cube[z : z + cell.thickness, y] for z, y in starts], axis=1)
    else:
        raise ValueError(f"no specimen {cell.specimen!r}")
    return np.ascontiguousarray(slices)


def surround(slices: NDArray[np.float32], cell: Cell) -> NDArray[np.float32]:
    """Mirror at the ends until no recorded ray leaves the tissue sideways: tissue goes on.

    Or pad with vacuum as far.
    """
    steepest = np.deg2rad(cell.max_tilt)
    needed = cell.field / np.cos(steepest) + cell.thickness * np.tan(steepest)
    pad = max(0, (int(np.ceil(needed)) + 5 - slices.shape[2]) // 2)
    mode = "constant" if cell.vacuum else "symmetric"
    return np.pad(slices, ((0, 0), (0, 0), (pad, pad)), mode=mode)  # type: ignore[call-overload]


@dataclass
class Calls:
    """Calls of the network in a run: evaluations, and vector-Jacobian products."""

    forward: int = 0
    backward: int = 0


@dataclass(frozen=True)
class Slab:
    """A cell ready to be solved, in normalised units.

    Attributes
    ----------
    operator, data
        A, and b with its mask.
    problem
        As `ddgm_dist.runs.reconstruct` would pose it.
    truth
        ``(z, row, x)`` over the field, grey levels.
    tilt_noise
        Standard deviation of each tilt's noise, as estimated from it alone.
    denoiser
        The shipped one.
    calls
        Counted since the slab was made.
    """

    cell: Cell
    operator: SlabOperator
    data: SlabData
    problem: Problem
    truth: NDArray[np.float32]
    tilt_noise: NDArray[np.float64]
    denoiser: Denoiser
    calls: Calls = field(default_factory=Calls)

    @property
    def box(self) -> Box:
        start, stop = self.problem.geometry.domain
        return Box((0, 0, start), (self.cell.thickness, len(self.cell.rows), stop))

    @property
    def prior(self) -> str:
        """Start of the denoiser's digest, which distinguishes its results from another's."""
        return self.problem.denoiser_digest[:12]

    @property
    def sigma_y(self) -> float:
        return self.problem.intensity.relative_noise

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


def make_slab(cell: Cell, work: Path) -> Slab:
    """A cell's tissue with its tilt series, which is simulated unless the work folder has it."""
    return pose(cell, tissue(cell), work / cell.key / "tilts.zarr")


def pose(cell: Cell, volume: NDArray[np.float32], tilts: Path) -> Slab:
    """Simulate (or open) the tilt series of a volume ``(z, row, x)`` wider than the field.

    The data's noise is estimated as in the package, but row by row. The package assumes that rows of
    a block are neighbours in the tissue, which these are not.
    """
    if not tilts.exists():
        angles = list(np.linspace(-cell.max_tilt, cell.max_tilt, cell.tilts))
        noise = f"gaussian:{cell.noise}"
        if cell.poisson:
            clean = tilts.with_name("clean.zarr")
            dd.simulate(volume, clean, field=cell.field, angles=angles, overwrite=True)
            projections = open_tilt_series(clean).read(slice(0, volume.shape[1]))
            untilted = float(projections[int(np.argmin(np.abs(angles)))].mean())
            variance = cell.noise**2 * float(projections.var(axis=(1, 2)).mean())
            noise = f"poisson:{untilted * float(projections.mean()) / variance}"
        dd.simulate(volume, tilts, noise=noise, field=cell.field, angles=angles, overwrite=True)
    rows = len(cell.rows)
    recorded = torch.from_numpy(open_tilt_series(tilts).read(slice(0, rows)))
    estimates = np.array(
        [
            [estimate_noise(recorded[t : t + 1, r : r + 1]) for r in range(rows)]
            for t in range(cell.tilts)
        ]
    )
    sigma_y = float(np.sqrt(np.mean(np.square(estimates))))
    config = ProblemConfig(rows_per_call=rows, sigma_y=sigma_y)
    built = build_problem(tilts, config)
    problem, series = built.problem, built.series
    operator = SlabOperator(problem.geometry)
    projections, valid = read_rows(
        series, problem.geometry, problem.intensity, 0, rows, screen=problem.screen
    )
    spare = (volume.shape[2] - cell.field) // 2
    return Slab(
        cell=cell,
        operator=operator,
        data=operator.prepare(projections, valid),
        problem=problem,
        truth=np.ascontiguousarray(volume[..., spare : spare + cell.field]),
        tilt_noise=np.sqrt(np.square(estimates).mean(axis=1)),
        denoiser=load_denoiser(config.denoiser, precision=config.precision).denoiser,
    )
