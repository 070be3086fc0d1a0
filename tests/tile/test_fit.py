"""The residual of a tile's final estimate, in units of what white noise leaves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from numpy.typing import NDArray

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.operators.slab.interpolated import InterpolatedOperator
from ddgm_dist.paths.locate import locate
from ddgm_dist.planning.config import parse_config
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.problem import Problem
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.runs.plan import plan_problem
from ddgm_dist.tile.events import Timer
from ddgm_dist.tile.fit import fit_of_tile
from ddgm_dist.tile.measured import MeasuredBlocks
from ddgm_dist.tilts.series import TiltSeries, TiltSeriesMeta, write_tilt_series

ANGLES = tuple(float(a) for a in range(-60, 61, 15))
DEPTH, ROWS, FIELD, NOISE = 12, 48, 200, 0.5
SHIFTED = tuple((0.5 * (t % 3), 0.37 * t - 1) for t in range(len(ANGLES)))


def truth(columns: tuple[int, int], boundary: str, seed: int = 0) -> NDArray[np.float32]:
    """A smooth slab that is the same in all rows, so that a shift along y leaves it as it is."""
    wide = np.random.default_rng(seed).standard_normal((DEPTH, 1, columns[1] - columns[0]))
    smooth = ndi.gaussian_filter(wide, (3, 0, 3), mode="wrap")
    smooth /= smooth.std()
    if boundary == "vacuum":
        across = np.minimum(1, np.abs(np.arange(FIELD) - (FIELD - 1) / 2) / (FIELD / 2))
        smooth *= np.cos(np.pi / 2 * across) ** 2 * np.hanning(DEPTH + 2)[1:-1, None, None]
    return np.repeat(smooth, ROWS, axis=1).astype(np.float32)


def recorded(
    path: Path, boundary: Any, shifts: Any, *, noise: float = NOISE, lost: float = 0.0
) -> TiltSeries:
    """Write the projections of the truth with white noise; a share of the pixels is lost."""
    geometry = Geometry(ANGLES, DEPTH, ROWS, FIELD, shifts or (), boundary)
    exact = InterpolatedOperator(geometry).A(torch.from_numpy(truth(geometry.domain, boundary)))
    rng = np.random.default_rng(1)
    data = exact.numpy() + noise * rng.standard_normal(exact.shape).astype(np.float32)
    data[rng.random(data.shape) < lost] = np.nan
    return write_tilt_series(path, data, TiltSeriesMeta(ANGLES, shifts, thickness_px=DEPTH))


def sums(path: Path, boundary: str, *, error: float = 0.0, **keys: Any) -> tuple[ViewSums, Plan]:
    """Sums of all tiles, for the truth times ``1 + error`` as their estimate."""
    keys = {"mean": 0.0, "std": 1.0, "sigma_y": NOISE, "rows_per_call": 5, **keys}
    config = parse_config({"impute_nonfinite": True, "boundary": boundary, "N": 2, "K": 1, **keys})
    built = build_problem(locate(path, "tilts"), config.problem())
    problem: Problem = built.problem
    plan = plan_problem(problem, built.series, config, None)
    blocks = MeasuredBlocks(problem, plan.length, built.series, torch.device("cpu"))
    volume = torch.from_numpy(truth(problem.geometry.domain, boundary)) * (1 + error)
    found = ViewSums.zero(len(ANGLES))
    first = problem.geometry.domain[0]
    for tile in plan.tiles:
        box = tile.read_box
        part = volume[:, box.y, box.start[2] - first : box.stop[2] - first]
        found += fit_of_tile(tile, part, box, blocks.load(tile, Timer()), problem.rows_per_call)
    return found, plan


@pytest.mark.parametrize("boundary", ["extended", "vacuum"])
@pytest.mark.parametrize("shifts", [None, SHIFTED], ids=["aligned", "shifted"])
@pytest.mark.parametrize("lost", [0.0, 0.02], ids=["all", "some lost"])
def test_the_truth_leaves_the_noise_in_every_view(
    tmp_path: Path, boundary: str, shifts: Any, lost: float
) -> None:
    recorded(tmp_path / "t.zarr", boundary, shifts, lost=lost)
    found, _ = sums(tmp_path / "t.zarr", boundary)
    ratios = np.sqrt(np.divide(found.squared, found.samples)) / NOISE
    # A view has at least 4,000 samples, so chance moves a ratio by 1.2 %.
    assert np.abs(ratios - 1).max() < 0.03, ratios
    assert np.sqrt(sum(found.squared) / sum(found.samples)) / NOISE == pytest.approx(1, abs=0.01)


def test_a_misfit_adds_to_the_noise(tmp_path: Path) -> None:
    """An estimate that is 30 % too large leaves 0.3 of the data, and that is shared by pixels."""
    recorded(tmp_path / "t.zarr", "extended", None)
    exact, _ = sums(tmp_path / "t.zarr", "extended")
    wrong, _ = sums(tmp_path / "t.zarr", "extended", error=0.3)
    added = (np.array(wrong.squared) - exact.squared) / exact.samples
    contrast = (np.array(exact.spread) - exact.squared) / exact.samples
    # The mean of a block counts as misfit, but not as contrast.
    assert np.all(added > 0.3**2 * contrast)
    assert np.abs(np.divide(exact.shared, exact.squared)).max() < 0.1
    assert sum(wrong.shared) / sum(wrong.squared) > 0.5 * (
        1 - sum(exact.squared) / sum(wrong.squared)
    )


def test_the_level_of_the_noise_does_not_matter(tmp_path: Path) -> None:
    recorded(tmp_path / "t.zarr", "extended", None, noise=3 * NOISE)
    found, _ = sums(tmp_path / "t.zarr", "extended")
    ratios = np.sqrt(np.divide(found.squared, found.samples)) / NOISE
    assert ratios == pytest.approx(3, rel=0.03)
    assert abs(sum(found.shared) / sum(found.squared)) < 0.02


def test_tiles_share_no_sample_and_leave_none_out(tmp_path: Path) -> None:
    recorded(tmp_path / "t.zarr", "extended", SHIFTED, lost=0.02)
    whole, plan = sums(tmp_path / "t.zarr", "extended", tile_rows=50)
    assert len(plan.tiles) == 1
    rows, plan = sums(tmp_path / "t.zarr", "extended", tile_rows=15)
    assert len(plan.tiles) == 4
    cut, plan = sums(tmp_path / "t.zarr", "extended", tile_rows=15, tile_columns=112, margin=48)
    assert len({tile.write_box.start[2] for tile in plan.tiles}) > 1
    for name in ("squared", "samples"):
        expected = getattr(whole, name)
        assert getattr(rows, name) == pytest.approx(expected, rel=1e-6)
        # Another period of the Fourier transform rounds otherwise, and at its edge differs a little.
        assert getattr(cut, name) == pytest.approx(expected, rel=1e-3)
    assert rows.shared == pytest.approx(whole.shared, rel=1e-5, abs=1e-3)
