"""A start from a restored estimate: no cut, engine or interruption changes a bit."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import ERROR_VARIANCE
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.inverse import regularized_inverse
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.planning.problem import Problem
from ddgm_dist.prior.restoring_unet import RestoringUNet, RestoringUNetSpec
from ddgm_dist.prior.weights import save_weights
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import Receipt, Report, SaveEvent, StepEvent
from ddgm_dist.tile.job import Job
from ddgm_dist.tilts.rows import read_rows
from ddgm_dist.tilts.series import open_tilt_series
from tests.engine.test_local import COUPLED, SHIFTS, SPECIMENS, psnr
from tests.engine.test_resume import Interrupted, InterruptedError
from tests.ray_engine.inline import InlineEngine

Solve = Callable[..., tuple[np.ndarray, Result]]
MakeTilts = Callable[..., Path]

# Rows before and after count differently, and so do columns to the left and to the right.
SOURCE = """
import torch
import torch.nn.functional as F

WEIGHT = torch.tensor([0.05, 0.1, 0.5, 0.25, 0.1])
KERNEL = torch.tensor([0.1, 0.3, 0.4, 0.2])
shapes = []


def restore(images, noise, acquisition):
    shapes.append(tuple(images.shape))
    mixed = (images * WEIGHT.view(1, 5, 1, 1)).sum(1, keepdim=True)
    found = F.conv2d(F.pad(mixed, (1, 2, 0, 0)), KERNEL.view(1, 1, 1, 4))[:, 0]
    return found * (1 + 0.01 * noise)


restore.neighbours, restore.stride = 2, 4


def again(images, noise, acquisition, estimates):
    shapes.append(tuple(images.shape))
    first = (images * WEIGHT.view(1, 5, 1, 1)).sum(1)
    return first if estimates is None else estimates[:, 1] + 0.1 * first


again.neighbours, again.stride, again.repeats = 2, 4, True


def alone(images, noise, acquisition):
    return images[:, 0].clone()


def identity(x, sigma):
    return x


def wrong(images, noise, acquisition):
    raise ValueError("no such table")
"""
WARM: dict[str, Any] = {"start": "restored", "restorer": "restoring:restore"}
PLANES = {"planes": ("zx", "zy", "yx"), "window_rows": 16, "overlap_rows": 4}
# Iterations that change nothing.
STILL: dict[str, Any] = {"N": 1, "K": 0, "added_noise": 0, "denoiser": "restoring:identity"}


@pytest.fixture(autouse=True)
def restoring(denoisers: Path) -> Iterator[Any]:
    """The module of the restorers, beside that of the denoisers."""
    (denoisers / "restoring.py").write_text(SOURCE)
    yield __import__("restoring")
    sys.modules.pop("restoring", None)


@pytest.mark.parametrize("boundary", SPECIMENS, ids=["extended", "vacuum"])
@pytest.mark.parametrize("shifts", [None, SHIFTS], ids=["aligned", "shifted"])
def test_cuts_along_y_do_not_change_a_bit(
    make_tilts: MakeTilts, solve: Solve, restoring: Any, boundary: dict[str, Any], shifts: Any
) -> None:
    tilts = make_tilts(rows=7, isolated=boundary["boundary"] == "vacuum", shifts=shifts)
    whole, result = solve(tilts, **WARM, **boundary, tile_rows=8)
    assert result.plan.restorer_calls == len(restoring.shapes) == 4
    for rows in (2, 4):
        split, result = solve(tilts, **WARM, **boundary, tile_rows=rows)
        assert result.plan.order == "tile-major"
        np.testing.assert_array_equal(split, whole)
    assert set(restoring.shapes) == {(2, 5, 12, restoring.shapes[0][-1])}
    assert not np.array_equal(solve(tilts, **boundary)[0], whole)


@pytest.mark.parametrize("boundary", SPECIMENS, ids=["extended", "vacuum"])
def test_nor_with_repeated_calls(
    make_tilts: MakeTilts, solve: Solve, restoring: Any, boundary: dict[str, Any]
) -> None:
    tilts = make_tilts(rows=7, isolated=boundary["boundary"] == "vacuum", shifts=SHIFTS)
    keys = {**WARM, **boundary, "restorer": "restoring:again", "restorer_calls": 3}
    whole, result = solve(tilts, **keys, tile_rows=8)
    assert result.plan.restorer_calls == len(restoring.shapes) == 12
    split, _ = solve(tilts, **keys, tile_rows=2)
    np.testing.assert_array_equal(split, whole)
    assert not np.array_equal(solve(tilts, **{**keys, "restorer_calls": 2})[0], whole)


def test_a_repeated_call_is_given_the_data_step(make_tilts: MakeTilts, solve: Solve) -> None:
    tilts = make_tilts(rows=4)
    keys = {**WARM, **STILL, "restorer": "restoring:again", "restorer_calls": 2, "rows_per_call": 4}
    volume, result = solve(tilts, **keys)
    problem = result.problem
    g = problem.geometry
    restoring = sys.modules["restoring"]
    operator, data, noise = measured(tilts, problem)
    x_w = regularized_inverse(operator, data, noise)
    rows = torch.arange(-2, g.rows + 2).clamp(0, g.rows - 1)
    images = torch.stack([x_w[:, rows[y : y + 5]] for y in range(g.rows)]).transpose(1, 2)
    first = (images * restoring.WEIGHT.view(1, 5, 1, 1)).sum(1).permute(1, 0, 2)
    step = regularized_inverse(operator, data, noise, around=first, spread=ERROR_VARIANCE**0.5)
    expected = problem.intensity.restore(step + 0.1 * first)
    start = -operator.columns[0]
    expected = expected[..., start : start + g.field].numpy()
    np.testing.assert_allclose(volume, expected, rtol=0, atol=1e-3 * expected.std())


@pytest.mark.parametrize("cut", [{}, COUPLED, PLANES], ids=["free", "coupled", "planes"])
def test_the_start_has_its_share_in_the_result(
    make_tilts: MakeTilts, solve: Solve, restoring: Any, cut: dict[str, Any]
) -> None:
    tilts = make_tilts(rows=7, field=144)
    keys = {**WARM, **cut}
    start, _ = solve(tilts, **keys, **STILL)
    none, first = solve(tilts, **keys)
    restoring.shapes.clear()
    third, result = solve(tilts, **keys, start_share=0.25)
    assert result.plan.restorer_calls == len(restoring.shapes) == 2 * first.plan.restorer_calls
    # Coupled tiles have starts of their own, which are blended at the beginning alone.
    near = psnr(third, 0.75 * none + 0.25 * start)
    assert near >= (45 if cut else 100)
    split, _ = solve(tilts, **keys, start_share=0.25, tile_rows=2)
    np.testing.assert_array_equal(split, third)


@pytest.mark.parametrize("boundary", SPECIMENS, ids=["extended", "vacuum"])
def test_the_exact_data_step_is_the_inverse_about_the_estimate(
    make_tilts: MakeTilts, solve: Solve, boundary: dict[str, Any]
) -> None:
    """And no cut along y changes a bit."""
    tilts = make_tilts(rows=7, isolated=boundary["boundary"] == "vacuum", shifts=SHIFTS)
    keys = {
        **boundary,
        "step_rule": "proximal",
        "data_weight_cap": 4,
        "denoiser": "restoring:identity",
    }
    once = {**keys, "N": 1, "sigma_1": 0.5, "added_noise": 0}
    volume, result = solve(tilts, **once, rows_per_call=7)
    problem = result.problem
    operator, data, noise = measured(tilts, problem)
    x = regularized_inverse(operator, data, noise, spread=2 * 0.5)
    start = -operator.columns[0]
    expected = problem.intensity.restore(x)[..., start : start + problem.geometry.field].numpy()
    np.testing.assert_allclose(volume, expected, rtol=0, atol=1e-3 * expected.std())
    whole, _ = solve(tilts, **keys, tile_rows=8)
    split, _ = solve(tilts, **keys, tile_rows=2)
    np.testing.assert_array_equal(split, whole)
    assert not np.array_equal(solve(tilts, **boundary, denoiser="restoring:identity")[0], whole)


def test_zeros_have_no_share(make_tilts: MakeTilts, solve: Solve) -> None:
    with pytest.raises(InputError, match=r"^start_share = 0.5: is the share of a restored start"):
        solve(make_tilts(), start_share=0.5)


def test_a_function_that_takes_no_estimates_is_called_once(
    make_tilts: MakeTilts, solve: Solve
) -> None:
    with pytest.raises(InputError, match=r"^restorer_calls = 2: must be 1: restoring:restore"):
        solve(make_tilts(), **WARM, restorer_calls=2)


@pytest.mark.parametrize(
    "cut",
    [COUPLED, PLANES, {"window": 64, "overlap": 16}],
    ids=["coupled", "planes", "windows"],
)
def test_other_cuts_do_not_either(make_tilts: MakeTilts, solve: Solve, cut: dict[str, Any]) -> None:
    tilts = make_tilts(rows=10, field=144)
    keys = {**WARM, **cut, "N": 2}
    whole, result = solve(tilts, **keys, tile_rows=10)
    split, other = solve(tilts, **keys, tile_rows=4)
    assert len(other.plan.tiles) == 3 * len(result.plan.tiles)
    np.testing.assert_array_equal(split, whole)
    if "margin" in cut:
        streamed, _ = solve(tilts, **keys, tile_rows=6, state="store")
        np.testing.assert_array_equal(streamed, whole)


@pytest.mark.parametrize("cut", [{}, COUPLED], ids=["free", "coupled"])
def test_the_loop_of_ray_gives_the_same_bits(
    make_tilts: MakeTilts, solve: Solve, monkeypatch: pytest.MonkeyPatch, cut: dict[str, Any]
) -> None:
    tilts = make_tilts(rows=7, field=144)
    whole, _ = solve(tilts, **WARM, **cut)
    split, _ = solve(tilts, InlineEngine(monkeypatch, 2), **WARM, **cut, tile_rows=2)
    np.testing.assert_array_equal(split, whole)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_ray_gives_the_same_bits(make_tilts: MakeTilts, solve: Solve) -> None:
    from ddgm_dist.ray_engine.engine import RayEngine

    tilts = make_tilts(rows=7, field=144)
    for cut in ({}, COUPLED):
        whole, _ = solve(tilts, **WARM, **cut)
        split, _ = solve(tilts, RayEngine(workers=2), **WARM, **cut, tile_rows=2)
        np.testing.assert_array_equal(split, whole)


def test_cuts_do_not_change_a_bit_of_a_network_either(
    make_tilts: MakeTilts, solve: Solve, tmp_path: Path
) -> None:
    """In bfloat16, with windows along x, and with one thread or two."""
    torch.manual_seed(0)
    spec = RestoringUNetSpec(
        channels=(8, 16), encoder_blocks=(1,), decoder_blocks=(1,), embedding=16, neighbours=1
    )
    net = RestoringUNet(spec)
    for parameter in net.parameters():  # many begin at zero
        torch.nn.init.normal_(parameter, std=0.1)
    save_weights(tmp_path / "r.safetensors", net, {})
    tilts = make_tilts(rows=5)
    keys = {**WARM, "restorer": str(tmp_path / "r.safetensors"), "window": 64, "overlap": 16}
    whole, _ = solve(tilts, **keys, tile_rows=6)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(2, threads))
        split, _ = solve(tilts, **keys, tile_rows=2)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(split, whole)
    assert not np.array_equal(solve(tilts, **{**keys, "start": "zero"})[0], whole)


def isolated(geometry: Geometry) -> bool:
    return geometry.boundary == "vacuum"


def measured(tilts: Path, problem: Problem) -> tuple[SlabOperator, SlabData, float]:
    """Operator and data of all rows, and the noise."""
    g = problem.geometry
    series = open_tilt_series(tilts)
    projections, valid = read_rows(series, g, problem.intensity, 0, g.rows)
    operator = SlabOperator(g, background=problem.intensity.vacuum if isolated(g) else 0.0)
    noise = problem.intensity.uncertainty / problem.intensity.std
    return operator, operator.prepare(projections, valid), noise


def explicit(tilts: Path, problem: Problem) -> np.ndarray:
    """What `restore` makes of all rows at once, in the data's unit."""
    from ddgm_dist.algorithm.restorer import Acquisition

    restoring, g = sys.modules["restoring"], problem.geometry
    operator, data, noise = measured(tilts, problem)
    x_w = regularized_inverse(operator, data, noise)
    rows = torch.arange(-2, g.rows + 2).clamp(0, g.rows - 1)
    images: Tensor = torch.stack([x_w[:, rows[y : y + 5]] for y in range(g.rows)]).transpose(1, 2)
    restored = restoring.restore(images, noise, Acquisition.of(g)).permute(1, 0, 2)
    first = -operator.columns[0]
    return problem.intensity.restore(restored[..., first : first + g.field]).numpy()


@pytest.mark.parametrize("rows_per_call", [1, 2, 5])
def test_iterations_that_do_nothing_leave_the_restored_estimate(
    make_tilts: MakeTilts, solve: Solve, rows_per_call: int
) -> None:
    """At the volume's ends the nearest row stands for those beyond."""
    tilts = make_tilts(rows=7)
    volume, result = solve(tilts, **WARM, **STILL, rows_per_call=rows_per_call)
    expected = explicit(tilts, result.problem)
    np.testing.assert_allclose(volume, expected, rtol=0, atol=1e-3 * expected.std())
    for planes in ("zy", "yx"):
        other, _ = solve(
            tilts, **WARM, **STILL, **{**PLANES, "planes": (planes,)}, rows_per_call=rows_per_call
        )
        np.testing.assert_allclose(other, expected, rtol=0, atol=1e-3 * expected.std())


def test_without_a_restorer_they_leave_zeros(make_tilts: MakeTilts, solve: Solve) -> None:
    volume, result = solve(make_tilts(), **STILL)
    np.testing.assert_array_equal(volume, np.float32(result.problem.intensity.mean))


def test_samples_share_the_start_and_each_is_the_run_of_its_seed(
    make_tilts: MakeTilts, solve: Solve
) -> None:
    """Windows do not move with the seed: so what a seed changes is the noise alone."""
    tilts, windows = make_tilts(rows=6), {"window": 64, "overlap": 16}
    _, still = solve(tilts, **WARM, **STILL, **windows, samples=2, keep_samples=True)
    first, second = (still.to_dask(k).compute() for k in range(2))
    np.testing.assert_allclose(first, second, rtol=1e-5)
    _, result = solve(tilts, **WARM, **windows, samples=2, keep_samples=True, seed=5)
    for k in range(2):
        single, _ = solve(tilts, **WARM, **windows, seed=5 + k)
        np.testing.assert_array_equal(result.to_dask(k).compute(), single)


@pytest.mark.parametrize(
    "cut",
    [{}, {"start_share": 0.5}, COUPLED, {**COUPLED, "state": "store", "start_share": 0.5}],
    ids=["free", "shared", "memory", "store and shared"],
)
def test_resumed_is_uninterrupted_and_begins_from_no_second_start(
    make_tilts: MakeTilts, solve: Solve, restoring: Any, tmp_path: Path, cut: dict[str, Any]
) -> None:
    tilts = make_tilts(rows=4, field=144)
    keys = {
        "N": 3, "K": 5, "rows_per_call": 2, "denoiser": "smoother:smooth", "tile_rows": 4,
        "checkpoint_every": 0, **WARM, **cut,
    }  # fmt: skip
    expected, _ = solve(tilts, **{**keys, "state": "auto"})
    per_group = 3 if "margin" in cut else 1
    # In the first iteration, before anything is saved; and in the second.
    for after, saved in ((1, 0), (3 * per_group, 1)):
        first, second = Interrupted(after), Interrupted(-1)
        out = tmp_path / f"{after}.zarr"
        with pytest.raises(InterruptedError):
            reconstruct(tilts, out, keys, first)
        assert (first.count(SaveEvent) > 0) == (saved > 0)
        restoring.shapes.clear()
        result = reconstruct(tilts, out, keys, second)
        np.testing.assert_array_equal(result.to_dask().compute(), expected)
        calls, share = result.plan.restorer_calls, "start_share" in cut
        assert len(restoring.shapes) == ((calls // 2 if share else 0) if saved else calls)


def test_cuts_along_x_change_next_to_nothing(make_tilts: MakeTilts, solve: Solve) -> None:
    tilts = make_tilts(field=144, rows=4)
    # With less noise the inverse is farther from its limit, and the starts of tiles differ more.
    still, few = {**STILL, "sigma_y": 30.0}, {"N": 4, "K": 20}
    for keys in (still, few):
        whole, _ = solve(tilts, **WARM, **keys)
        split, result = solve(tilts, **WARM, **keys, tile_columns=48, margin=24)
        assert len(result.plan.groups[0]) == 3
        assert psnr(split, whole) >= 45


@pytest.mark.parametrize("cut", [{}, COUPLED], ids=["free", "coupled"])
def test_the_time_it_takes_is_reported_once(
    make_tilts: MakeTilts, solve: Solve, cut: dict[str, Any]
) -> None:
    seen: list[Any] = []

    class Listening(LocalEngine):
        def run(self, job: Job, done: frozenset[str], report: Report) -> None:
            def both(event: Any) -> None:
                seen.append(event)
                report(event)

            super().run(job, done, both)

    _, result = solve(make_tilts(field=96), Listening(), **WARM, **cut)
    steps = [event for event in seen if isinstance(event, StepEvent)]
    for event in steps:
        assert ("restore" in event.seconds) == (event.iteration == 0)
    spent = sum(event.seconds.get("restore", 0.0) for event in steps)
    assert result.seconds["restore"] == pytest.approx(spent)
    receipts = [event for event in seen if isinstance(event, Receipt)]
    assert all("restore" not in event.seconds_besides_steps for event in receipts)


def test_a_function_of_one_row_reads_no_other(
    make_tilts: MakeTilts, solve: Solve, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddgm_dist.tile import measured

    spans: list[tuple[int, int]] = []
    read = measured.read_rows

    def noting(*args: Any, **options: Any) -> Any:
        spans.append(args[3:5])
        return read(*args, **options)

    monkeypatch.setattr(measured, "read_rows", noting)
    tilts = make_tilts(rows=8)
    solve(tilts, start="restored", restorer="restoring:alone", tile_rows=2)
    assert spans == [(0, 2), (2, 4), (4, 6), (6, 8)]
    spans.clear()
    solve(tilts, **WARM, tile_rows=4)
    # Both sides of each block, but nothing where the volume has ended.
    assert sorted(spans) == sorted(
        [(0, 2), (2, 4), (2, 4), (0, 2), (4, 6), (4, 6), (6, 8), (2, 4), (6, 8), (4, 6)]
    )


def test_what_the_restorer_raises_is_the_users_error(make_tilts: MakeTilts, solve: Solve) -> None:
    words = (
        r"^restorer = restoring:wrong: raised at noise = .*: ValueError: no such table \(.*wrong"
    )
    with pytest.raises(InputError, match=words):
        solve(make_tilts(), start="restored", restorer="restoring:wrong")
    with pytest.raises(InputError, match=r"^restorer = absent:f: cannot be imported"):
        solve(make_tilts(), start="restored", restorer="absent:f")
