"""Several samples are so many single runs, and their mean and deviation, whatever happens meanwhile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.inspection.status import status
from ddgm_dist.inspection.verify import verify
from ddgm_dist.records.result import open_result
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import Event, Receipt, Report, SaveEvent, StepEvent, Timer
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.writer import TileWriter

Solve = Callable[..., tuple[np.ndarray, Result]]
Begin = Callable[..., Job]
MakeTilts = Callable[..., Path]

COUPLED = {"tile_columns": 48, "margin": 24}
KEYS: dict[str, Any] = {
    "N": 2, "K": 5, "rows_per_call": 2, "denoiser": "smoother:smooth", "samples": 3, "seed": 5,
}  # fmt: skip
CUTS = {
    "free": {},
    "memory": COUPLED,
    "store": {**COUPLED, "state": "store"},
    "planes": {"planes": ["zx", "zy"], "window_rows": 16, "overlap_rows": 2},
}


class StoppedError(Exception):
    pass


class Stopped(LocalEngine):
    """Stops after so many events; keeps those it has seen."""

    def __init__(self, after: int = -1) -> None:
        self.after, self.seen = after, list[Event]()

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        def listen(event: Event) -> None:
            self.seen.append(event)
            report(event)
            if len(self.seen) == self.after:
                raise StoppedError

        super().run(job, done, listen)

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.seen)

    @property
    def voxels(self) -> int:
        """Solved for, iterations counted separately."""
        return sum(event.voxels for event in self.seen if isinstance(event, StepEvent))


@pytest.fixture
def tilts(make_tilts: MakeTilts) -> Path:
    return make_tilts(field=144, rows=6)


def both(out: str | Path) -> np.ndarray:
    return np.stack([open_result(out, what=w).to_dask().compute() for w in ("mean", "std")])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("cut", CUTS)
def test_mean_and_deviation_of_single_runs(tilts: Path, solve: Solve, cut: str) -> None:
    """Sample k is, to the bit, the only one of seed + k; and no cut along y changes a bit."""
    keys = {**KEYS, **CUTS[cut]}
    singles = [solve(tilts, **{**keys, "samples": 1, "seed": 5 + k})[0] for k in range(3)]
    mean, result = solve(tilts, **keys, keep_samples=True, tile_rows=6)
    for k, single in enumerate(singles):
        np.testing.assert_array_equal(result.to_dask(k).compute(), single)
    assert not np.array_equal(singles[0], singles[1])
    exact = np.stack(singles).astype(np.float64)
    np.testing.assert_array_equal(mean, exact.mean(0).astype(np.float32))
    np.testing.assert_allclose(result.to_dask("std").compute(), exact.std(0, ddof=1), rtol=1e-5)
    assert result.std().shape == mean.shape
    _, other = solve(tilts, **keys, tile_rows=2)
    np.testing.assert_array_equal(both(other.path), both(result.path))
    assert verify(other.path) == verify(result.path) == {}
    left = {path.name for path in (Path(other.path) / "ddgm_dist").iterdir()}
    assert not left & {"samples", "sample-receipts", "commits", "generations"}
    found = status(result.path)
    assert (found.tiles_done, found.samples) == (result.plan.units, 3)


@pytest.mark.usefixtures("denoisers")
@pytest.mark.parametrize("cut", ["free", "memory"])
def test_resumed_is_uninterrupted(tilts: Path, tmp_path: Path, cut: str) -> None:
    """At any event: of a sample's steps, or of what is made of them."""
    rows = 4 if cut == "free" else 6
    keys = {**KEYS, **CUTS[cut], "tile_rows": rows, "samples": 2, "checkpoint_every": 0}
    whole = Stopped()
    expected = both(reconstruct(tilts, tmp_path / "whole.zarr", keys, whole).path)
    last = len(whole.seen)
    for after in sorted({*range(3, last, 5 if cut == "free" else 9), last - 1, last}):
        out = tmp_path / f"{after}.zarr"
        first, second = Stopped(after), Stopped()
        with pytest.raises(StoppedError):
            reconstruct(tilts, out, keys, first)
        found = status(out)
        assert found.tiles_done == first.count(Receipt)
        if found.tiles_done < found.tiles:
            with pytest.raises(StorageError, match="not whole"):
                open_result(out, what="std")
        assert verify(out) == {}
        # The rest is cut otherwise: tiles of two rows.
        reconstruct(tilts, out, {**keys, "tile_rows": rows - 2}, second)
        np.testing.assert_array_equal(both(out), expected)
        again = first.voxels + second.voxels - whole.voxels
        assert (
            0 <= again <= 2 * expected[0].size
        )  # of what goes from checkpoint to checkpoint in step
        assert not (out / "ddgm_dist/samples").exists()


@pytest.mark.usefixtures("denoisers")
def test_checkpoints_of_samples_do_not_mix(tilts: Path, tmp_path: Path) -> None:
    """A generation holds all samples, each in columns of its own."""
    keys = {**KEYS, **COUPLED, "tile_rows": 6, "N": 4, "checkpoint_every": 0}
    expected = both(reconstruct(tilts, tmp_path / "whole.zarr", keys, "local").path)
    first, second = Stopped(), Stopped()
    first.after = 2 * (4 * 3 + 3 * 3 + 3) + 2 * 2 * 3  # two samples, and half of the third
    with pytest.raises(StoppedError):
        reconstruct(tilts, tmp_path / "out.zarr", keys, first)
    assert first.count(SaveEvent) > 6
    reconstruct(tilts, tmp_path / "out.zarr", keys, second)
    assert {e.tile[:5] for e in second.seen if isinstance(e, StepEvent)} == {"s0002"}
    assert min(e.iteration for e in second.seen if isinstance(e, StepEvent)) >= 1
    np.testing.assert_array_equal(both(tmp_path / "out.zarr"), expected)


@pytest.mark.usefixtures("denoisers")
@pytest.mark.parametrize("lost", ["0/c/0/1/0", "std/0/c/0/1/0"])
def test_what_is_lost_is_made_again(tilts: Path, tmp_path: Path, lost: str) -> None:
    """By all samples, for they have been deleted; and only there."""
    out = tmp_path / "out.zarr"
    reconstruct(tilts, out, KEYS, "local")
    expected = both(out)
    (out / lost).unlink()
    assert set(verify(out)) == {"y000002-x000000"}
    engine = Stopped()
    reconstruct(tilts, out, KEYS, engine)
    np.testing.assert_array_equal(both(out), expected)
    tiles = {e.tile for e in engine.seen if isinstance(e, Receipt)}
    assert tiles == {"y000002-x000000", *(f"s{k:04d}-y000002-x000000" for k in range(3))}
    assert engine.count(StepEvent) == 2 * 3


@pytest.mark.usefixtures("denoisers")
@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_a_sample_that_is_damaged_goes_into_no_mean(
    tilts: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """The run ends, and goes on with that part solved for again."""
    out, engine = tmp_path / "out.zarr", Stopped()
    reconstruct(tilts, tmp_path / "whole.zarr", KEYS, engine)

    class Harmful(Stopped):
        def run(self, job: Job, done: frozenset[str], report: Report) -> None:
            def listen(event: Event) -> None:
                report(event)
                if isinstance(event, Receipt) and event.tile.startswith("s0002-y000004"):
                    (shard,) = out.glob("ddgm_dist/samples/*/1/0/c/0/0/0")
                    harm(shard)

            LocalEngine.run(self, job, done, listen)

    with pytest.raises(StorageError, match="sample 1 cannot be combined"):
        reconstruct(tilts, out, KEYS, Harmful())
    with pytest.raises(StorageError, match="not whole"):
        open_result(out)
    again = Stopped()
    reconstruct(tilts, out, KEYS, again)
    np.testing.assert_array_equal(both(out), both(tmp_path / "whole.zarr"))
    assert {e.tile for e in again.seen if isinstance(e, StepEvent)} == {"s0001-y000000-x000000"}


@pytest.mark.usefixtures("denoisers")
def test_who_combines_too_late_writes_nothing(tilts: Path, tmp_path: Path) -> None:
    """Samples that are gone do not read as NaN: the volume stays what it is."""
    out, jobs = tmp_path / "out.zarr", list[Job]()

    class Kept(LocalEngine):
        def run(self, job: Job, done: frozenset[str], report: Report) -> None:
            jobs.append(job)
            super().run(job, done, report)

    reconstruct(tilts, out, KEYS, Kept())
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(StorageError, match="cannot be combined"):
        TileWriter(jobs[0], "late").combine(jobs[0].plan.combined[0])
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("denoisers")
def test_who_solves_too_late_does_no_harm(tilts: Path, tmp_path: Path) -> None:
    """A tile of a sample that is written when the samples are combined and deleted."""
    out, late = tmp_path / "out.zarr", list[TileWriter]()

    class Kept(LocalEngine):
        def run(self, job: Job, done: frozenset[str], report: Report) -> None:
            super().run(job, done, report)
            late.append(TileWriter(job, "late"))
            late[0].write(job.plan.tiles[0], tile, Timer(), 0.0)  # so its volume is open

    tile = np.zeros((12, 2, 144), np.float32)
    reconstruct(tilts, out, KEYS, Kept())
    expected = both(out)
    late[0].write(late[0].job.plan.tiles[0], tile, Timer(), 0.0)
    assert len(list(out.glob("ddgm_dist/sample-receipts/*/*"))) == 1
    assert verify(out) == {}
    (out / "0/c/0/0/0").unlink()
    engine = Stopped()
    reconstruct(tilts, out, KEYS, engine)
    np.testing.assert_array_equal(both(out), expected)
    assert engine.count(Receipt) == 4  # of all three samples, and the mean


@pytest.mark.usefixtures("denoisers")
def test_one_sample_is_as_ever(tilts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    result = reconstruct(tilts, out, {**KEYS, "samples": 1}, "local")
    assert {path.name for path in out.iterdir()} == {"0", "ddgm_dist", "zarr.json"}
    inside = {path.name for path in (out / "ddgm_dist").iterdir()}
    assert not inside & {"samples", "sample-receipts"}
    assert [tile.name for tile in result.plan.tiles] == [f"y{y:06d}-x000000" for y in (0, 2, 4)]
    with pytest.raises(InputError, match="one sample"):
        result.std()
    np.testing.assert_array_equal(result.to_dask(0).compute(), result.to_dask().compute())
    keys = {k: v for k, v in KEYS.items() if k != "samples"}
    assert reconstruct(tilts, out, keys, "local").residuals == []
    with pytest.raises(InputError, match=r"changed: samples: 1 -> 3"):
        reconstruct(tilts, out, KEYS, "local")


@pytest.mark.usefixtures("denoisers")
def test_samples_stay_if_asked_for(tilts: Path, tmp_path: Path) -> None:
    """Also when the same run is asked for again, without a word of them; and they are verified."""
    out = tmp_path / "out.zarr"
    result = reconstruct(tilts, out, {**KEYS, "keep_samples": True}, "local")
    reconstruct(tilts, out, KEYS, "local")
    assert result.to_dask(2).compute().shape == (12, 6, 144)
    with pytest.raises(InputError, match="below 3"):
        result.to_dask(3)
    (shard,) = out.glob("ddgm_dist/samples/*/1/0/c/0/2/0")
    flip(shard)
    flip(out / "std/0/c/0/0/0")
    assert verify(out) == {
        "y000000-x000000": "deviation damaged",
        "s0001-y000004-x000000": "missing or damaged",
    }
    other = reconstruct(tilts, tmp_path / "other.zarr", KEYS, "local")
    with pytest.raises(InputError, match="keep_samples"):
        other.to_dask(0)
