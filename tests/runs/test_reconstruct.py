"""The main job: what it writes, how it goes on after an interruption, what it refuses."""

import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
import yaozarrs
from scipy.ndimage import gaussian_filter

from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.engine.protocol import Engine
from ddgm_dist.errors import InputError, PlanError, StorageError
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.records.lease import Lease
from ddgm_dist.records.result import open_result
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.runs.plan import plan
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import Event, Receipt, Report, StepEvent
from ddgm_dist.tile.job import Job
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series

ANGLES = tuple(range(-50, 51, 20))
THICKNESS, ROWS, FIELD = 12, 8, 60
KEYS: dict[str, Any] = {
    "N": 2,
    "K": 4,
    "rows_per_call": 2,
    "tile_rows": 2,
    "denoiser": "halving:halve",
}
COUPLED = {"tile_columns": 32, "margin": 16}


def projections() -> np.ndarray:
    """Line integrals of a slab that is wider than the field."""
    noise = np.random.default_rng(0).standard_normal((THICKNESS, ROWS, FIELD + 60))
    smooth = gaussian_filter(noise, 1.2, mode="wrap")
    volume = 100 + 20 * smooth / smooth.std()
    u = np.arange(FIELD) - (FIELD - 1) / 2
    x = np.arange(FIELD + 60) - (FIELD + 59) / 2
    out = np.zeros((len(ANGLES), ROWS, FIELD))
    for t, angle in enumerate(np.deg2rad(ANGLES)):
        for z in range(THICKNESS):
            along = (u - (z - (THICKNESS - 1) / 2) * np.sin(angle)) / np.cos(angle)
            for y in range(ROWS):
                out[t, y] += np.interp(along, x, volume[z, y]) / np.cos(angle)
    out += 2 * np.random.default_rng(1).standard_normal(out.shape)
    return out.astype(np.float32)


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return projections()


@pytest.fixture(scope="module")
def tilts(data: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("tilts"), data)


def write(folder: Path, data: np.ndarray) -> Path:
    path = folder / "tilts.zarr"
    meta = TiltSeriesMeta(ANGLES, pixel_size_nm=4.0, thickness_px=THICKNESS)
    write_tilt_series(path, data, meta, overwrite=True)
    return path


@pytest.fixture(autouse=True, scope="module")
def _halving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A denoiser that takes no time: half of the way to the prior's mean."""
    folder = tmp_path_factory.mktemp("denoiser")
    (folder / "halving.py").write_text("def halve(x, sigma):\n    return x / (1 + sigma)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.import_module("halving")
        yield
    del sys.modules["halving"]


class Watching(LocalEngine):
    """Counts what is done, and stops the run by Ctrl-C after so many tiles."""

    def __init__(self, tiles: int | None = None) -> None:
        self.left, self.steps, self.written = tiles, list[str](), list[str]()

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        def watched(event: Event) -> None:
            report(event)
            if isinstance(event, StepEvent):
                self.steps.append(event.tile)
            if not isinstance(event, Receipt):
                return
            self.written.append(event.tile)
            if len(self.written) == self.left:
                raise KeyboardInterrupt

        super().run(job, done, watched)


def run(tilts: Path, out: Path, engine: str | Engine = "local", **keys: Any) -> Result:
    return reconstruct(tilts, out, {**KEYS, **keys}, engine)


def refused(*arguments: Any, **keys: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        run(*arguments, **keys)
    assert "\n" not in str(caught.value)
    return caught.value


def interrupted(tilts: Path, out: Path, tiles: int, **keys: Any) -> list[str]:
    engine = Watching(tiles)
    with pytest.raises(KeyboardInterrupt):
        run(tilts, out, engine, **keys)
    return engine.written


# -- what is written --------------------------------------------------------------------------


def test_the_output_is_ome_zarr_that_others_can_open(tilts: Path, tmp_path: Path) -> None:
    out = tmp_path / "volume.zarr"
    result = run(tilts, out)
    yaozarrs.validate_zarr_store(str(out))
    array = da.from_zarr(str(out), component="0")
    assert (array.shape, array.dtype) == ((THICKNESS, ROWS, FIELD), np.float32)
    volume = array.compute()
    assert np.isfinite(volume).all()
    np.testing.assert_array_equal(result.to_dask().compute(), volume)
    ome = json.loads((out / "zarr.json").read_text())["attributes"]["ome"]
    scale = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [4.0, 4.0, 4.0]
    assert volume.mean() == pytest.approx(100, rel=0.1)  # in the data's unit


def test_the_record_tells_all(tilts: Path, tmp_path: Path) -> None:
    out = tmp_path / "volume.zarr"
    result = run(tilts, out, seed=7)
    record = RunRecord(out)
    told = json.loads((out / "ddgm_dist" / "provenance.json").read_text())
    assert told["config"].items() >= {**KEYS, "seed": 7}.items()
    assert told["config"].keys() >= ProblemConfig.model_fields.keys()
    assert told["versions"].keys() >= {"python", "ddgm-dist", "torch", "zarr", "tensorstore"}
    assert "unknown" not in told["versions"].values()
    assert told["denoiser"] == {"name": "halving:halve", "sha256": result.problem.denoiser_digest}
    assert told["tilts"] == {"path": str(tilts), "sha256": result.problem.data_digest}
    assert told["engine"] == {"name": "local", "workers": 1}
    assert told["problem"] == result.problem.digest()
    assert told["wall_seconds"] > 0
    assert told["worker_seconds"].keys() >= {"read", "gradient", "noise", "denoise", "write"}
    assert 0 < told["gradient_share"] < 1
    assert [i["n"] for i in told["iterations"]] == [0, 1]
    assert [i["sigma"] for i in told["iterations"]] == pytest.approx([5.0, 0.2])
    # The estimate starts at zero: the first residual is the data's own spread.
    first, second = (i["residual"] for i in told["iterations"])
    assert first > 2
    assert second < first
    assert record.read_state() == {"state": "complete", "problem": result.problem.digest()}
    receipts = record.receipts(result.problem.digest())
    assert [receipt["tile"] for receipt in receipts] == [tile.name for tile in result.plan.tiles]
    assert str(out) in result.describe()
    assert "gradient phase" in result.describe()


def test_the_shipped_network_reconstructs_and_scale_does_not_matter(
    data: np.ndarray, tmp_path: Path
) -> None:
    """A volume v that is 1000 v + c has the same reconstruction, after the same map."""
    keys = {"denoiser": "fibsem", "N": 3, "K": 25, "rows_per_call": 8, "tile_rows": 8}
    few = data[..., :40]
    volume = run(write(tmp_path, few), tmp_path / "a.zarr", **keys).to_dask().compute()
    assert 5 < volume.std() < 40
    constant = -3e4
    path = THICKNESS / np.cos(np.deg2rad(ANGLES))
    other = (1000 * few.astype(float) + constant * path[:, None, None]).astype(np.float32)
    mapped = run(write(tmp_path, other), tmp_path / "b.zarr", **keys).to_dask().compute()
    back = (mapped - constant) / 1000
    assert np.sqrt(np.mean((back - volume) ** 2)) < 0.01 * volume.std()


def test_a_given_scale_is_used(tilts: Path, tmp_path: Path) -> None:
    given = {"mean": 90.0, "std": 30.0, "sigma_y": 1.0}
    result = run(tilts, tmp_path / "a.zarr", **given)
    intensity = result.problem.intensity
    assert {k: getattr(intensity, k) for k in given} == given
    other = run(tilts, tmp_path / "b.zarr")
    assert not np.array_equal(result.to_dask().compute(), other.to_dask().compute())


def test_bad_pixels_are_imputed_when_asked(data: np.ndarray, tmp_path: Path) -> None:
    whole = run(write(tmp_path, data), tmp_path / "whole.zarr").to_dask().compute()
    holed = data.copy()
    holed[2, 3, 20:23] = np.nan
    path = write(tmp_path, holed)
    assert "3 NaN or infinite pixels" in str(refused(path, tmp_path / "no.zarr"))
    assert not (tmp_path / "no.zarr").exists()
    mended = run(path, tmp_path / "mended.zarr", impute_nonfinite=True).to_dask().compute()
    assert np.isfinite(mended).all()
    assert np.sqrt(np.mean((mended - whole) ** 2)) < 0.2 * whole.std()
    assert np.abs(mended - whole).max() > 0


def rows_alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of two volumes, row by row."""
    return np.array([np.corrcoef(a[:, y].ravel(), b[:, y].ravel())[0, 1] for y in range(ROWS)])


@pytest.mark.parametrize("fault", ["hot", "view", "row", "columns"])
def test_pixels_that_are_no_measurement_ruin_nothing(
    fault: str, data: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One hot pixel ruined its row, and all others by the estimates. The tiling still is free."""
    whole = run(write(tmp_path, data), tmp_path / "whole.zarr").to_dask().compute()
    faulty = data.copy()
    if fault == "hot":
        faulty[2, 3, 20] = 33 * data.max()
    elif fault == "view":
        faulty[2] = 0
    elif fault == "row":
        faulty[2, 3] = 0
    else:
        faulty[:, :, :3] = 0
    path = write(tmp_path, faulty)
    result = run(path, tmp_path / "mended.zarr")
    mended = result.to_dask().compute()
    assert result.problem.screen is not None
    assert any("masked (--no-despike keeps them)" in r.getMessage() for r in caplog.records)
    # Of six views and 60 columns a whole view and three columns are missed.
    loss = {"hot": 0.01, "row": 0.03, "columns": 0.05, "view": 0.03}[fault]
    assert rows_alike(mended, whole).min() > 1 - loss
    if fault in ("hot", "row"):
        assert np.delete(rows_alike(mended, whole), 3).min() > 0.999
    taken = run(path, tmp_path / "taken.zarr", despike=False).to_dask().compute()
    assert rows_alike(taken, whole).min() < rows_alike(mended, whole).min() - 0.02
    other = run(path, tmp_path / "other.zarr", tile_rows=8).to_dask().compute()
    np.testing.assert_array_equal(other, mended)


def test_a_plan_tells_what_was_noticed(data: np.ndarray, tmp_path: Path) -> None:
    faulty = data.copy()
    faulty[2, 3, 20] = 33 * data.max()
    found = plan(write(tmp_path, faulty), KEYS)
    (finding,) = found.to_dict()["findings"]
    assert finding["kind"] == "hot-pixels"
    assert (finding["count"], finding["array_indices"]) == (1, ((2, 3, 20),))
    assert finding["views"] == (3,)
    assert "\nnoticed         1 pixel stands out" in found.describe()
    clean = plan(write(tmp_path, data), KEYS)
    assert clean.to_dict()["findings"] == []
    assert "noticed" not in clean.describe()


# -- again, and on from where it stopped -------------------------------------------------------


def test_the_same_problem_again_does_nothing(tilts: Path, tmp_path: Path) -> None:
    out = tmp_path / "volume.zarr"
    first = run(tilts, out)
    before = {p: p.stat().st_mtime_ns for p in (out / "0").rglob("*")}
    told = (out / "ddgm_dist" / "provenance.json").read_text()
    for keys in ({}, {"tile_rows": 8}, {"tile_rows": None}):  # nor when cut otherwise
        engine = Watching()
        again = run(tilts, out, engine, **keys)
        assert (engine.steps, engine.written) == ([], [])
        assert again.problem == first.problem
        assert "nothing was left to do" in again.describe()
    assert {p: p.stat().st_mtime_ns for p in (out / "0").rglob("*")} == before
    assert (out / "ddgm_dist" / "provenance.json").read_text() == told
    assert open_result(out).shape == (THICKNESS, ROWS, FIELD)


def test_another_problem_is_refused_and_told_apart(tilts: Path, tmp_path: Path) -> None:
    out = tmp_path / "volume.zarr"
    run(tilts, out)
    error = refused(tilts, out, seed=1, K=5)
    assert error.argument == "out"
    told = "changed: K: 4 -> 5; seed: 0 -> 1; resume it with --set K=4 --set seed=0, or "
    assert told in str(error)  # and no level or step that follows from these
    assert "--overwrite" in str(error)
    # Of many the first are told, and none of what was typed is advised to be taken back in part.
    many = str(refused(tilts, out, seed=1, K=5, N=9, data_weight_cap=2.0, added_noise=0.5))
    assert "; N: " in many
    assert "and 1 more; choose another name" in many
    first = open_result(out).to_dask().compute()
    again = reconstruct(tilts, out, {**KEYS, "seed": 1}, "local", overwrite=True)
    assert not np.array_equal(again.to_dask().compute(), first)
    assert again.problem.config.seed == 1


def test_other_data_are_another_problem(data: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "volume.zarr"
    given = {"mean": 90.0, "std": 30.0, "sigma_y": 1.0}
    run(write(tmp_path, data), out, **given)
    changed = data.copy()
    changed[0, 0, 0] += 1
    assert "changed: the pixels of the tilt series;" in str(
        refused(write(tmp_path, changed), out, **given)
    )


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file"])
def test_what_is_not_ours_is_left_alone(tilts: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "precious"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
    if kind == "folder":
        (out / "thesis.tex").write_text("mine")
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises((InputError, StorageError), match="precious") as caught:
        run(tilts, out)
    assert "\n" not in str(caught.value)
    assert sorted(p for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("cut", [{}, COUPLED], ids=["free", "coupled"])
def test_an_interrupted_run_goes_on_where_it_stopped(
    tilts: Path, tmp_path: Path, cut: dict[str, Any]
) -> None:
    whole = run(tilts, tmp_path / "whole.zarr", **cut).to_dask().compute()
    out = tmp_path / "volume.zarr"
    finished = interrupted(tilts, out, len(cut) + 1, **cut)  # the second group: half of it
    state = RunRecord(out).read_state()
    assert state is not None
    assert state["state"] == "running"
    with pytest.raises(StorageError, match="is not whole"):
        open_result(out)
    engine = Watching()
    result = run(tilts, out, engine, **cut)
    # A group whose tiles are not all finished is iterated again as a whole.
    kept = set(finished[: len(finished) // 2 * 2] if cut else finished)
    assert kept
    assert not kept & set(engine.written)
    assert not kept & set(engine.steps)
    assert kept | set(engine.written) == {tile.name for tile in result.plan.tiles}
    np.testing.assert_array_equal(open_result(out).to_dask().compute(), whole)


def test_a_run_cut_otherwise_goes_on_too(tilts: Path, tmp_path: Path) -> None:
    """Tiles are the plan's: another tile_rows, or number of workers, is the same problem."""
    whole = run(tilts, tmp_path / "whole.zarr").to_dask().compute()
    out = tmp_path / "volume.zarr"
    interrupted(tilts, out, 3)  # rows 0 to 5
    engine = Watching()
    run(tilts, out, engine, tile_rows=4)
    assert engine.written == ["y000004-x000000"]
    np.testing.assert_array_equal(open_result(out).to_dask().compute(), whole)
    other = tmp_path / "other.zarr"
    interrupted(tilts, other, 1, tile_rows=4)
    engine = Watching()
    run(tilts, other, engine)
    assert engine.written == ["y000004-x000000", "y000006-x000000"]
    np.testing.assert_array_equal(open_result(other).to_dask().compute(), whole)


def test_an_interruption_before_the_first_tile_costs_nothing(tilts: Path, tmp_path: Path) -> None:
    class Stopping(LocalEngine):
        def run(self, job: Job, done: frozenset[str], report: Report) -> None:
            raise KeyboardInterrupt

    out = tmp_path / "volume.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(tilts, out, Stopping())
    with pytest.raises(StorageError, match="finished 0 tiles"):
        open_result(out)
    assert np.isnan(open_result(out, allow_partial=True).to_dask().compute()).all()
    assert np.isfinite(run(tilts, out).to_dask().compute()).all()


# -- planning, refusals, side effects ----------------------------------------------------------


def test_a_plan_computes_nothing(tilts: Path, tmp_path: Path) -> None:
    planned = plan(tilts, {**KEYS, "tile_rows": None}, workers=1)
    assert planned.shape == (THICKNESS, ROWS, FIELD)
    assert [tile.write_box.shape[1] for tile in planned.tiles] == [2, 2, 2, 2]
    assert len(plan(tilts, {**KEYS, "rows_per_call": 1, "tile_rows": None}, workers=8).tiles) == 8
    with pytest.raises(PlanError, match="memory") as caught:
        plan(tilts, KEYS, memory=2**20)
    assert "no tile of 12 slices" in str(caught.value)
    with pytest.raises(PlanError, match="memory"):
        reconstruct(tilts, tmp_path / "volume.zarr", KEYS, "local", memory=2**20)
    assert not (tmp_path / "volume.zarr").exists()


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"tile_rows": 3}, "tile_rows"),
        ({"step_size": 1e3}, "step_size"),
        ({"denoiser": "fibsem", "sigma_1": 1e5}, "sigma_1"),
        ({"denoiser": "nowhere.safetensors"}, "denoiser"),
        ({"tile_columns": 16, "margin": 40}, "tile_columns"),
        ({"sigma1": 3}, "sigma1"),
        ({"N": 0}, "N"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tilts: Path, tmp_path: Path, keys: dict[str, Any], named: str
) -> None:
    assert refused(tilts, tmp_path / "volume.zarr", **keys).argument == named
    assert list(tmp_path.iterdir()) == []


def test_an_output_lost_while_the_input_was_read_is_left_alone(
    tilts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(lease: Lease) -> None:
        raise StorageError("another has taken over")

    monkeypatch.setattr(Lease, "check", check)
    with pytest.raises(StorageError, match="taken over"):
        run(tilts, tmp_path / "v.zarr")
    assert list(tmp_path.iterdir()) == []


def test_engines_that_are_none_are_refused(tilts: Path, tmp_path: Path) -> None:
    assert refused(tilts, tmp_path / "v.zarr", "dask").argument == "engine"
    for options in ({"workers": 2}, {"address": "auto"}):
        with pytest.raises(InputError, match="engine = local: takes neither"):
            reconstruct(tilts, tmp_path / "v.zarr", KEYS, "local", **options)  # type: ignore[arg-type]


def test_the_process_is_left_as_it_was(
    tilts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def state() -> tuple[Any, ...]:
        root = logging.getLogger()
        handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)}
        generator = torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002
        return (
            handlers,
            list(root.handlers),
            root.level,
            dict(os.environ),
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            generator,
        )

    before = state()
    run(tilts, tmp_path / "v.zarr")
    assert state() == before
    assert capfd.readouterr() == ("", "")


def test_progress_is_drawn_on_standard_error_when_asked(
    tilts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reconstruct(tilts, tmp_path / "v.zarr", KEYS, "local", progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "sigma" in shown.err
