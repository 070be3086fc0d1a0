"""Held-out tilts: which they are, and that a block is solved as the engine would."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ddgm_dist.errors import InputError
from ddgm_dist.planning.config import parse_config
from ddgm_dist.prior.denoisers import load_denoiser
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.simulation.simulate import simulate
from ddgm_dist.tilts.crop import Place, read_crop
from ddgm_dist.tuning.crossval import BlockSolver, HeldOut
from ddgm_dist.tuning.folds import make_fold, measured_share

ANGLES = (0.0, -40.0, 40.0, -20.0, 20.0, -50.0, 50.0, -10.0, 10.0, -30.0, 30.0)
CONFIG = {"N": 3, "K": 10, "denoiser": "crossval_halving:halve", "seed": 7}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _halving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("denoiser")
    (folder / "crossval_halving.py").write_text(
        "def halve(x, sigma):\n    return x / (1 + sigma)\n\n"
        "def third(images, noise, acquisition):\n    return images.sum(1) / 3 + noise\n\n"
        "third.neighbours = 1\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.import_module("crossval_halving")
        yield
    del sys.modules["crossval_halving"]


@pytest.fixture(scope="module")
def tilts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = np.random.default_rng(0).standard_normal((12, 3, 160))
    volume = 100 + 20 * gaussian_filter(draw, 1.2, mode="wrap") / 0.2
    path = tmp_path_factory.mktemp("crossval") / "tilts.zarr"
    simulate(volume.astype(np.float32), path, angles=ANGLES, noise="gaussian:0.1", field=80)
    return path


@pytest.mark.parametrize("tilts", [8, 11, 61])
@pytest.mark.parametrize("folds", [2, 4])
def test_a_fold_holds_out_tilts_between_and_beyond_the_kept(tilts: int, folds: int) -> None:
    angles = list(np.random.default_rng(tilts).permutation(np.linspace(-60, 60, tilts)))
    covered: list[int] = []
    for which in range(folds):
        fold = make_fold(angles, folds, which)
        assert sorted(fold.kept + fold.between + fold.beyond) == list(range(tilts))
        low, high = (pick(angles[t] for t in fold.kept) for pick in (min, max))
        assert fold.between
        assert all(low < angles[t] < high for t in fold.between)
        assert {angles[t] < low for t in fold.beyond} == {True, False}
        assert not any(low <= angles[t] <= high for t in fold.beyond)
        assert len(fold.kept) >= len(fold.between)
        covered += fold.between
    assert len(set(covered)) == len(covered)
    assert len(covered) == tilts - len(fold.beyond) - 2


def test_other_numbers_of_tilts_and_folds_are_refused() -> None:
    with pytest.raises(InputError, match=r"7 projections.*at least 8"):
        make_fold(range(7), 2, 0)
    for folds in (1, 5):
        with pytest.raises(InputError, match=r"folds = .*2 to 4"):
            make_fold(range(8), folds, 0)


def test_the_measured_share_of_directions() -> None:
    assert measured_share(range(-60, 61, 2)) == pytest.approx(122 / 180)
    assert measured_share(range(-90, 91, 2)) == 1


@pytest.mark.parametrize(
    "start", [{}, {"start": "restored", "restorer": "crossval_halving:third"}], ids=["zero", "warm"]
)
def test_a_block_of_all_tilts_and_columns_is_solved_as_the_engine_does(
    tilts: Path, tmp_path: Path, start: dict[str, str]
) -> None:
    config = parse_config({**CONFIG, **start, "rows_per_call": 3})
    result = reconstruct(tilts, tmp_path / "out.zarr", config, "local")
    built = build_problem(tilts, config.problem())
    problem, series = built.problem, built.series
    block = read_crop(series, problem.geometry, problem.intensity, Place(0, 3, 79 / 2, 80))
    first = -problem.geometry.domain[0]
    solver = BlockSolver(
        block, problem.geometry.domain, problem, load_denoiser(config.denoiser).denoiser, CPU
    )
    steps: list[None] = []
    x = solver(config.problem(), 7, lambda: steps.append(None))
    found = problem.intensity.restore(x[..., first : first + 80]).numpy()
    np.testing.assert_array_equal(found, result.to_dask().compute())
    assert len(steps) == 3


def test_the_truth_predicts_what_was_held_out_best(tilts: Path) -> None:
    """Held-out tilts of a solution's own projections: it, and not a blurred one, leaves no error."""
    built = build_problem(tilts, parse_config(CONFIG).problem())
    problem, series = built.problem, built.series
    block = read_crop(series, problem.geometry, problem.intensity, Place(0, 2, 79 / 2, 80))
    domain = block.geometry.domain
    fold = make_fold(block.geometry.angles_deg, 3, 0)
    judge = HeldOut(block, fold, domain, problem, CPU)
    draw = np.random.default_rng(2).standard_normal((12, 2, domain[1] - domain[0]))
    x = torch.from_numpy(gaussian_filter(draw, (1, 0, 1), mode="wrap")).float()
    clean = judge.operator.A(x)
    judge.data = type(judge.data)(clean * judge.data.measured, judge.data.measured)
    judge.sigma_y = 0.0
    best, worse = judge(x), judge(torch.from_numpy(gaussian_filter(x.numpy(), (1, 0, 1))))
    assert best.error(0.7).mean == pytest.approx(0, abs=1e-6)
    assert worse.error(0.7).mean > 0.01
    assert (len(best.between), len(best.beyond)) == (len(fold.between), len(fold.beyond))
    lost = judge(x * float("nan"))
    assert lost.error(0.7).mean == float("inf")
