"""The tilt series of a cell: simulated, and what is estimated of its noise.

Data come from the explicit, oversampled projector, which shares nothing with the operator. Noise and
shifts are functions of a seed, so that any run finds the same series.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from cells import Cell
from numpy.typing import NDArray

import ddgm_dist as dd
from ddgm_dist.paths.locate import locate
from ddgm_dist.pixels.noise_estimate import estimate_noise
from ddgm_dist.planning.problem import Problem
from ddgm_dist.tilts.sampled_fit import fit_sampled_rows
from ddgm_dist.tilts.series import TiltSeries, create_tilt_series, open_tilt_series

# Of the noise: of the series that is reconstructed, and of the rows beside its rows.
SEED, SEED_BESIDE = 0, 1
_SHIFT_SEED = 3


def simulate(volume: NDArray[np.float32], cell: Cell, tilts: Path, seed: int = SEED) -> None:
    """Simulate the series of a volume ``(z, row, x)`` wider than the field, unless it is there."""
    if tilts.exists():
        return
    angles = list(np.linspace(-cell.max_tilt, cell.max_tilt, cell.tilts))
    noise = f"gaussian:{cell.noise}"
    if cell.poisson:
        clean = tilts.with_name(f"clean{seed}.zarr")
        dd.simulate(volume, clean, field=cell.field, angles=angles, overwrite=True)
        projections = open_tilt_series(clean).read(slice(0, volume.shape[1]))
        untilted = float(projections[int(np.argmin(np.abs(angles)))].mean())
        variance = cell.noise**2 * float(projections.var(axis=(1, 2)).mean())
        noise = f"poisson:{untilted * float(projections.mean()) / variance}"
    made = tilts.with_name(f"aligned{seed}.zarr") if cell.shifts else tilts
    dd.simulate(
        volume,
        made,
        noise=noise,
        field=cell.field,
        angles=angles,
        shifts=[(0.0, dx) for dx in misalignment(cell)] if cell.shifts else 0.0,
        seed=seed,
        overwrite=True,
    )
    if cell.shifts:
        _forget_shifts(made, tilts)


def misalignment(cell: Cell) -> NDArray[np.float64]:
    """Shifts of the views along u, pixels, with no part that a shift of the whole volume explains."""
    angles = np.deg2rad(np.linspace(-cell.max_tilt, cell.max_tilt, cell.tilts))
    moves = np.random.default_rng(_SHIFT_SEED).standard_normal(cell.tilts)
    whole = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    moves -= whole @ np.linalg.lstsq(whole, moves, rcond=None)[0]
    scale: float = cell.shifts / np.sqrt(np.mean(np.square(moves)))
    return scale * moves


def _forget_shifts(made: Path, tilts: Path) -> None:
    """Copy a series without the shifts that it was made with."""
    source = open_tilt_series(made)
    meta = replace(source.meta, shifts_px=None)
    rows = slice(0, source.shape[1])
    with create_tilt_series(locate(tilts, "tilts"), source.shape, meta, overwrite=True) as writer:
        writer.write(rows, source.read(rows))


def noise_by_tilt_and_row(tilts: Path, cell: Cell) -> NDArray[np.float64]:
    """Standard deviation of the noise, estimated of each tilt and row, ``(tilt, row)``.

    The package estimates it from blocks of rows, which it takes for neighbours in the tissue. These
    are none.
    """
    rows = len(cell.rows)
    recorded = torch.from_numpy(open_tilt_series(tilts).read(slice(0, rows)))
    return np.array(
        [
            [estimate_noise(recorded[t : t + 1, r : r + 1]) for r in range(rows)]
            for t in range(cell.tilts)
        ]
    )


def misfit_of(series: TiltSeries, problem: Problem) -> float:
    """What no volume explains beyond the noise, as the package estimates it."""
    intensity = problem.intensity
    found = fit_sampled_rows(series, problem.geometry, intensity, problem.screen).unexplained
    if found is None:
        return 0.0
    return float(f"{max(0.0, found.total**2 - intensity.sigma_y**2) ** 0.5:.3g}")
