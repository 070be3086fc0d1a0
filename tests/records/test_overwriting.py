"""What is overwritten stays whole until what replaces it is whole: never is there neither."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.core.box import Box
from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.evaluation.pyramid import build_pyramid
from ddgm_dist.inspection.status import status
from ddgm_dist.paths.array_io import InputReplacedError
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.paths.locate import locate
from ddgm_dist.records.lease import Lease
from ddgm_dist.records.replacement import pending
from ddgm_dist.records.result import open_result
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.simulation.simulate import simulate
from ddgm_dist.tile.events import Event, Receipt
from ddgm_dist.tile.job import Job
from ddgm_dist.tilts.series import (
    TiltSeriesMeta,
    create_tilt_series,
    open_tilt_series,
    write_tilt_series,
)
from ddgm_dist.tilts.survey import survey
from ddgm_dist.volumes.layout import VolumeLayout
from ddgm_dist.volumes.store import create_volume, open_volume_store
from tests.mortal import WHENS, Failing, Killed, Mortal, around_renames, mortal_system, strikes

META = TiltSeriesMeta((-20.0, 0.0, 20.0), thickness_px=4)
KEYS: dict[str, Any] = {
    "N": 2, "K": 2, "rows_per_call": 1, "tile_rows": 2, "denoiser": "halving:halve",
    "checkpoint_every": 0, "mean": 100.0, "std": 10.0, "sigma_y": 1.0,
}  # fmt: skip


def stack(seed: int, shape: tuple[int, int, int] = (3, 12, 40)) -> np.ndarray:
    return 400 + np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def files(place: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def result(path: Path, voxels: np.ndarray) -> Path:
    """A finished volume, without a run."""
    store = create_volume(
        path, VolumeLayout(voxels.shape, (4, 8, 64), (4, 8, 64)), voxel_size_nm=1.0, name="v"
    )
    for y in range(0, voxels.shape[1], 8):
        rows = slice(y, min(y + 8, voxels.shape[1]))
        box = _box(voxels.shape, rows)
        store.write(box, voxels[:, rows])
    RunRecord(path).write_state("complete", "0" * 64)
    return path


def _box(shape: tuple[int, int, int], rows: slice) -> Box:
    return Box((0, rows.start, 0), (shape[0], rows.stop, shape[2]))


class Engine:
    """The local engine, with something that happens before it or at each receipt."""

    name, workers = "tested", 1

    def __init__(
        self,
        before: Callable[[], object] = lambda: None,
        at_receipt: Callable[[], object] = lambda: None,
    ) -> None:
        self.before, self.at_receipt = before, at_receipt

    def connected(self) -> Any:
        return nullcontext()

    def announce(self, tiles: int) -> str:
        return ""

    def budget(self, asked: int | None) -> int | None:
        return asked

    metrics = LocalEngine.metrics

    def run(self, job: Job, done: frozenset[str], report: Callable[[Event], None]) -> None:
        def told(event: Event) -> None:
            report(event)
            if isinstance(event, Receipt):
                self.at_receipt()

        self.before()
        LocalEngine().run(job, done, told)


@pytest.fixture
def halving(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("denoiser")
    (folder / "halving.py").write_text("def halve(x, sigma):\n    return x / 2\n")
    monkeypatch.syspath_prepend(folder)


# -- killed anywhere -------------------------------------------------------------------------------


def make_series(path: Path) -> None:
    write_tilt_series(path, stack(1), META)


def make_volume(path: Path) -> None:
    result(path, stack(1, (4, 12, 40)))


def make_plain(path: Path) -> None:
    array = zarr.create_array(str(path), shape=(4, 4), chunks=(2, 2), dtype="f4")
    array[:] = 7


def holds(path: Path) -> Any:
    """What can be read at a place, whatever it is."""
    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        return "array", np.asarray(node[:]).tobytes()
    if "ome" in node.attrs:
        store = open_volume_store(path)
        return "volume", store.read(_box(store.shape, slice(0, store.shape[1]))).tobytes()
    return "series", survey(open_tilt_series(path)).fingerprint


def ingest_it(source: Path, out: Path) -> None:
    ingest(source, out, angles=META.angles_deg, thickness=4, overwrite=True)


def simulate_it(source: Path, out: Path) -> None:
    simulate(source, out, angles=META.angles_deg, overwrite=True)


@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize(
    ("make", "command", "exchanges", "first"),
    [
        (make_series, ingest_it, True, 0),
        (make_series, ingest_it, False, 1),  # the system cannot exchange two names in one step
        (make_volume, ingest_it, True, 2),
        (make_plain, simulate_it, True, 0),
    ],
)
def test_killed_at_any_write_there_is_the_old_store_or_the_new_one(
    tmp_path: Path,
    make: Callable[[Path], None],
    command: Callable[[Path, Path], None],
    exchanges: bool,
    first: int,
    when: str,
) -> None:
    """Each operation is struck in one way of three, and in another for the next kind of old store.

    Where names cannot be exchanged, what is done instead is struck in all ways; the rest is the same.
    """
    source, out = tmp_path / "source.npy", tmp_path / "out.zarr"
    np.save(source, stack(2))
    given = source.read_bytes()
    kept = tmp_path / "kept"
    make(kept)
    shutil.copytree(kept, out)
    old = holds(out)
    whole = Mortal()
    with mortal_system(whole, exchanges=exchanges):
        command(source, out)
    new = holds(out)
    assert new != old
    assert whole.count > 8
    seen = set()
    for at in (
        strikes(whole.names, WHENS.index(when) + first, len(WHENS))
        if exchanges
        else around_renames(whole.names)
    ):
        shutil.rmtree(out)
        shutil.copytree(kept, out)
        try:
            with mortal_system(Mortal(at, when), exchanges=exchanges):
                command(source, out)
        except Killed:
            pass
        else:  # the order of deletions is the file system's, so their number may differ
            assert at > whole.count // 2
        found = holds(locate(out, "out"))  # which brings back what was put aside
        assert found in (old, new)
        seen.add(found[1])
        with mortal_system(Mortal(), exchanges=exchanges):
            command(source, out)
        assert holds(out) == new
        assert {p.name for p in tmp_path.iterdir()} == {"source.npy", "out.zarr", "kept"}
        assert source.read_bytes() == given
    assert seen == {old[1], new[1]}


@pytest.mark.parametrize("when", WHENS)
def test_a_pyramid_killed_at_any_write_is_the_old_one_or_the_new_one(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddgm_dist.volumes.levels._CHUNK", 512)
    monkeypatch.setattr("ddgm_dist.volumes.levels._SHARD", 1024)
    out = result(tmp_path / "out.zarr", stack(3, (4, 20, 60)))
    first = build_pyramid(out, levels=2, scheduler="sync")

    def read() -> list[bytes]:
        """All levels that the metadata name, each readable and whole."""
        store = open_volume_store(out)
        levels = store.attributes["ome"]["multiscales"][0]["datasets"]
        blocks = [np.asarray(zarr.open_array(str(out / d["path"]), mode="r")[:]) for d in levels]
        assert all(np.isfinite(block).all() for block in blocks)
        return [block.tobytes() for block in blocks]

    old = read()
    assert len(old) == len(first) == 3
    kept = tmp_path / "kept.zarr"
    shutil.copytree(out, kept)
    whole = Mortal()
    with mortal_system(whole):
        build_pyramid(out, levels=1, scheduler="sync", overwrite=True)
    assert read() == old[:2]
    assert whole.count > 8
    # Half of what is done in one step is nothing, and so as good as before it.
    for at, name in enumerate(whole.names):
        if when == "half" and name != "write":
            continue
        shutil.rmtree(out)
        shutil.copytree(kept, out)
        try:
            with mortal_system(Mortal(at, when)):
                build_pyramid(out, levels=1, scheduler="sync", overwrite=True)
        except Killed:
            pass
        else:
            assert at > whole.count // 2
        assert read() in (old, old[:2])
        build_pyramid(out, levels=1, scheduler="sync", overwrite=True)
        assert read() == old[:2]


# -- refused or failed -----------------------------------------------------------------------------


def test_a_source_that_fails_half_way_leaves_the_old_store_to_the_byte(tmp_path: Path) -> None:
    broken = stack(2)
    broken[1, 11, 3] = np.nan
    out = tmp_path / "out.zarr"
    make_series(out)
    before = files(out)
    with pytest.raises(InputError, match="nan"):
        simulate(broken, out, angles=META.angles_deg, overwrite=True)
    assert files(out) == before
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        create_tilt_series(out, (3, 12, 40), META, overwrite=True) as writer,
    ):
        writer.write(slice(0, 8), stack(2)[:, :8])
        raise KeyboardInterrupt
    assert files(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.usefixtures("halving")
def test_a_reconstruction_that_fails_leaves_the_old_result_and_goes_on(tmp_path: Path) -> None:
    tilts, out = tmp_path / "tilts.zarr", tmp_path / "out.zarr"
    write_tilt_series(tilts, stack(1, (3, 4, 64)), META)
    other = {**KEYS, "seed": 1}
    old = reconstruct(tilts, out, other, "local").to_dask().compute()
    before = files(out)

    def fail() -> None:
        raise StorageError("the disk is full")

    with pytest.raises(StorageError, match="disk is full"):
        reconstruct(tilts, out, KEYS, Engine(at_receipt=fail), overwrite=True)
    kept = {name: data for name, data in files(out).items() if name != "ddgm_dist/next.json"}
    assert kept == before
    np.testing.assert_array_equal(open_result(out).to_dask().compute(), old)
    found = status(out)
    assert (found.replaces, found.state, found.tiles_done) == (True, "interrupted", 1)
    work = pending(out)
    assert isinstance(work, Path)
    (first,) = [p for p in (work / "0/c").rglob("*") if p.is_file()][:1]
    inode = first.stat().st_ino
    # Without --overwrite as well: it was given when the replacement was begun.
    result = reconstruct(tilts, out, KEYS, "local")
    assert (out / first.relative_to(work)).stat().st_ino == inode  # not written again
    alone = reconstruct(tilts, tmp_path / "alone.zarr", KEYS, "local").to_dask().compute()
    np.testing.assert_array_equal(result.to_dask().compute(), alone)
    assert status(out).replaces is False
    assert {p.name for p in tmp_path.iterdir()} == {"tilts.zarr", "out.zarr", "alone.zarr"}
    # The old problem is now the other one.
    with pytest.raises(InputError, match="another problem's result"):
        reconstruct(tilts, out, other, "local")


# -- leases, and who reads meanwhile ---------------------------------------------------------------


@pytest.mark.parametrize("command", [ingest_it, simulate_it])
def test_a_store_that_somebody_writes_is_not_replaced(
    tmp_path: Path, command: Callable[[Path, Path], None]
) -> None:
    source, out = tmp_path / "source.npy", tmp_path / "out.zarr"
    np.save(source, stack(2))
    make_volume(out)
    with Lease(out):
        before = files(out)
        with pytest.raises(InputError, match="is being written by process"):
            command(source, out)
        assert files(out).keys() == before.keys()
    command(source, out)
    # Also where nothing is yet.
    new = tmp_path / "new.zarr"
    with Lease(new), pytest.raises(InputError, match="is being written by process"):
        command(source, new)
    assert not new.exists()


@pytest.mark.usefixtures("halving")
def test_two_replacements_at_a_time_are_refused(tmp_path: Path) -> None:
    tilts, out = tmp_path / "tilts.zarr", tmp_path / "out.zarr"
    write_tilt_series(tilts, stack(1, (3, 4, 64)), META)
    reconstruct(tilts, out, KEYS, "local")
    source = tmp_path / "source.npy"
    np.save(source, stack(2))

    def others() -> None:
        with pytest.raises(InputError, match="is being written by process"):
            ingest(source, out, angles=META.angles_deg, overwrite=True)
        with pytest.raises(InputError, match="is being written by process"):
            reconstruct(tilts, out, {**KEYS, "seed": 9}, "local", overwrite=True)
        with pytest.raises(InputError, match="is being written by process"):
            build_pyramid(out, levels=1)

    reconstruct(tilts, out, {**KEYS, "seed": 1}, Engine(before=others), overwrite=True)
    assert not (out / "ddgm_dist/lease.json").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"tilts.zarr", "out.zarr", "source.npy"}


def test_whoever_reads_a_store_that_is_being_rewritten_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out.zarr"
    make_series(out)
    series = open_tilt_series(out)
    assert caplog.messages == []
    with create_tilt_series(out, (3, 12, 40), META, overwrite=True) as writer:
        open_tilt_series(out)
        assert "is being replaced by process" in caplog.text
        writer.write(slice(None), stack(2))
        np.testing.assert_array_equal(series.read(slice(None)), stack(1))
    assert "has been replaced; the tilt series that was there is deleted" in caplog.text
    with pytest.raises(InputReplacedError, match="has been replaced or deleted"):
        series.read(slice(None))
    np.testing.assert_array_equal(open_tilt_series(out).read(slice(None)), stack(2))


@pytest.mark.usefixtures("halving")
def test_a_run_whose_series_is_replaced_meanwhile_ends(tmp_path: Path) -> None:
    """Tiles of two series must not make up one volume, though the two are of one shape."""
    tilts, out = tmp_path / "tilts.zarr", tmp_path / "out.zarr"
    write_tilt_series(tilts, stack(1, (3, 4, 64)), META)

    def replace() -> None:
        write_tilt_series(tilts, stack(2, (3, 4, 64)), META, overwrite=True)

    with pytest.raises(InputReplacedError, match="since this run began"):
        reconstruct(tilts, out, KEYS, Engine(before=replace))
    assert not list(out.glob("ddgm_dist/receipts/*/*.json"))


def test_a_mounted_folder_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.zarr"
    make_series(out)
    monkeypatch.setattr(Path, "is_mount", lambda self: self == out)
    with pytest.raises(InputError, match="is where a file system is mounted"):
        write_tilt_series(out, stack(2), META, overwrite=True)


# -- one operation fails, and those that clean up do not -------------------------------------------


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("make", "exchanges"),
    [(None, True), (make_series, True), (make_series, False), (make_volume, True)],
)
def test_a_command_that_fails_at_any_write_leaves_the_old_store_or_the_new_one(
    tmp_path: Path, make: Callable[[Path], None] | None, exchanges: bool, error: BaseException
) -> None:
    source, out = tmp_path / "source.npy", tmp_path / "out.zarr"
    np.save(source, stack(2))

    kept = tmp_path / "kept"
    if make is not None:
        make(kept)

    def prepare() -> None:
        shutil.rmtree(out, ignore_errors=True)
        if make is not None:
            shutil.copytree(kept, out)

    prepare()
    old = None if make is None else holds(out)
    whole = Failing()
    with mortal_system(whole, exchanges=exchanges, leases=True):
        ingest_it(source, out)
    new = holds(out)
    seen = set()
    # Each operation fails in one way of two.
    for at in (
        strikes(whole.names, isinstance(error, KeyboardInterrupt), 2)
        if exchanges
        else around_renames(whole.names)
    ):
        prepare()
        with (
            suppress(Exception, KeyboardInterrupt),
            mortal_system(Failing(at, error), exchanges=exchanges, leases=True),
        ):
            ingest_it(source, out)
        there = {p.name for p in tmp_path.iterdir()}
        found = holds(locate(out, "out")) if "out.zarr" in there and is_zarr(out) else None
        assert found in (old, new)
        seen.add(found)
        # At once: no lease is left that would have to be waited for.
        ingest_it(source, out)
        assert holds(out) == new
        left = {p.name for p in tmp_path.iterdir()} - {"kept"}
        assert left == {"source.npy", "out.zarr"}, at
    assert old in seen


def test_a_writer_that_lost_its_lease_harms_nobody(tmp_path: Path) -> None:
    """Halted for long, it finds that another one has taken over; what that one writes is its own."""
    out = tmp_path / "out.zarr"
    make_series(out)
    first = create_tilt_series(out, (3, 12, 40), META, overwrite=True)
    first.write(slice(0, 8), stack(1)[:, :8])
    lease = first._claim.lease
    lease._stop.set()
    lease._thread.join()
    (out / "ddgm_dist/lease.json").unlink()  # as if it had been taken over
    second = create_tilt_series(out, (3, 12, 40), META, overwrite=True)
    second.write(slice(0, 8), stack(2)[:, :8])
    lease._renew_once()
    with pytest.raises(StorageError, match="another has taken over"):
        first.write(slice(8, 12), stack(1)[:, 8:])
    first._claim.discard()
    second.write(slice(8, 12), stack(2)[:, 8:])
    second.close()
    np.testing.assert_array_equal(open_tilt_series(out).read(slice(None)), stack(2))
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]


def test_what_somebody_puts_at_the_place_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    writer = create_tilt_series(out, (3, 12, 40), META)
    writer.write(slice(None), stack(1))
    (out / "mine.txt").write_text("precious")
    with pytest.raises(StorageError, match="was made by another process meanwhile"):
        writer.close()
    assert (out / "mine.txt").read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]


def test_folders_that_only_look_like_ours_are_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    mine = [tmp_path / name for name in (".out.zarr.new", ".out.zarr.new-01234567")]
    for folder in mine:
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
    make_series(out)
    write_tilt_series(out, stack(2), META, overwrite=True)
    result(tmp_path / "v.zarr", stack(1, (4, 12, 40)))
    for folder in mine:
        assert (folder / "notes.txt").read_text() == "mine"


def test_a_failed_write_gives_the_lease_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(
            "ddgm_dist.paths.array_io.BulkArray.write",
            lambda *a: (_ for _ in ()).throw(StorageError("full")),
        )
        with pytest.raises(StorageError, match="full"):
            write_tilt_series(out, stack(1), META)
    write_tilt_series(out, stack(1), META)


def test_an_interrupted_writer_s_claim_is_taken_over(tmp_path: Path) -> None:
    """What a killed ingest leaves needs no --overwrite, and says what it is."""
    out = tmp_path / "out.zarr"
    with mortal_system(Mortal(12, "before")), pytest.raises(Killed):
        write_tilt_series(out, stack(1), META)
    with pytest.raises(InputError, match="still being written, or its writer was interrupted"):
        open_tilt_series(out)
    write_tilt_series(out, stack(2), META)
    np.testing.assert_array_equal(open_tilt_series(out).read(slice(None)), stack(2))
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]
