"""The driver may be killed at any write: what then lies there never reads as whole and wrong.

Every operation on files that a run makes is a place to die: before it, half-way through it, after it. A
death is an exception that nothing catches, after which no operation works any more, so that no
clean-up code can do what a killed process could not. (What SIGKILL itself does, `__main__.py` shows.)
"""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist import journal, output
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.reconstruct import reconstruct
from ddgm_dist.storage import run_record
from ddgm_dist.storage.array_io import BulkArray
from ddgm_dist.storage.checkpoint import Checkpoints
from ddgm_dist.storage.run_record import RunRecord, open_result
from ddgm_dist.storage.tilt_series import TiltSeriesMeta, write_tilt_series

pytestmark = pytest.mark.chaos

KEYS: dict[str, Any] = {
    "N": 3, "K": 2, "rows_per_call": 1, "tile_rows": 2, "denoiser": "fifthing:fifth",
    "checkpoint_every": 0, "mean": 100.0, "std": 10.0, "sigma_y": 1.0,
}  # fmt: skip
CUTS = {
    "free": {},
    "resident": {"tile_columns": 48, "margin": 24, "state": "resident"},
    "streamed": {"tile_columns": 48, "margin": 24, "state": "streamed"},
    "samples": {"samples": 2, "N": 2},
}


class Killed(BaseException):
    pass


class Mortal:
    """Counts operations; dies at one of them."""

    def __init__(self, at: int | None = None, when: str = "before") -> None:
        self.at, self.when, self.count, self.dead = at, when, 0, False

    def operation(self, whole: Callable[[], Any], half: Callable[[], Any]) -> Any:
        if self.dead:
            raise Killed
        self.count += 1
        if self.count - 1 != self.at:
            return whole()
        self.dead = True
        if self.when == "half":
            half()
        elif self.when == "after":
            whole()
        raise Killed


class NoLease:
    """The lease has tests of its own; a killed process of this very process number has none."""

    owner = "session"

    def __init__(self, out: Any) -> None:
        pass

    def acquire(self) -> None:
        pass

    check = release = acquire


def nothing() -> None:
    """Half-way through a write that goes through a temporary file, nothing has been done."""


def _one_file(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.unlink()
            return


def mortal_files(patch: pytest.MonkeyPatch, mortal: Mortal) -> None:
    """Make every operation of a run one of `mortal`'s."""
    patch.setattr(output, "Lease", NoLease)
    replace = run_record._replace

    def half_replace(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.abc.tmp").write_text(text[: len(text) // 2])

    patch.setattr(
        run_record,
        "_replace",
        lambda path, text: mortal.operation(
            lambda: replace(path, text), lambda: half_replace(path, text)
        ),
    )
    replace_if = run_record._replace_if

    def half_replace_if(path: Path, text: str) -> None:
        """Under the names of tensorstore's temporary files, and longer than what comes next."""
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in (f"{path.name}.__lock", f"{path.name}_abc.__lock"):
            path.with_name(name).write_text(text + "x" * 4096)

    patch.setattr(
        run_record,
        "_replace_if",
        lambda path, text, stamp: mortal.operation(
            lambda: replace_if(path, text, stamp), lambda: half_replace_if(path, text)
        ),
    )
    create = output.create_volume

    def half_create(out: Path) -> None:
        import zarr

        zarr.open_group(str(out), mode="a", zarr_format=3)

    patch.setattr(
        output,
        "create_volume",
        lambda out, *a, **k: mortal.operation(
            lambda: create(out, *a, **k), lambda: half_create(out)
        ),
    )
    write = BulkArray.write

    def half_write(self: BulkArray, slices: tuple[slice, slice, slice], block: np.ndarray) -> None:
        """The first of a tile's two shards."""
        z, y, x = slices
        rows = (y.stop - y.start) // 2
        write(self, (z, slice(y.start, y.start + rows), x), block[:, :rows])

    patch.setattr(
        BulkArray,
        "write",
        lambda self, *a: mortal.operation(lambda: write(self, *a), lambda: half_write(self, *a)),
    )
    chunks = Checkpoints.write
    patch.setattr(
        Checkpoints,
        "write",
        lambda self, n, column, row, state: mortal.operation(
            lambda: chunks(self, n, column, row, state),
            lambda: chunks(self, n, column, row, state[:, :1]),
        ),
    )
    drop = Checkpoints.drop
    patch.setattr(
        Checkpoints,
        "drop",
        lambda self, n, keys: mortal.operation(
            lambda: drop(self, n, keys), lambda: drop(self, n, list(keys)[:1])
        ),
    )
    # What makes room for --overwrite.
    remove, remove_folder = output.delete, output.delete_folder
    patch.setattr(output, "delete", lambda path: mortal.operation(lambda: remove(path), nothing))
    patch.setattr(
        output,
        "delete_folder",
        lambda path: mortal.operation(lambda: remove_folder(path), lambda: _one_file(path)),
    )
    delete = RunRecord.delete
    patch.setattr(
        RunRecord,
        "delete",
        lambda self, name: mortal.operation(lambda: delete(self, name), nothing),
    )
    folder = RunRecord.delete_folder
    patch.setattr(
        RunRecord,
        "delete_folder",
        lambda self, name: mortal.operation(
            lambda: folder(self, name), lambda: _one_file(self.folder / name)
        ),
    )


@pytest.fixture(scope="module")
def tilts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("commit")
    (folder / "fifthing.py").write_text("def fifth(x, sigma):\n    return x / 5\n")
    data = 400 + np.random.default_rng(0).standard_normal((3, 4, 96)).astype(np.float32)
    write_tilt_series(folder / "tilts.zarr", data, TiltSeriesMeta((-20, 0, 20), thickness_px=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.import_module("fifthing")
        yield folder / "tilts.zarr"
    del sys.modules["fifthing"]


def run(tilts: Path, out: Path, keys: dict[str, Any], mortal: Mortal, **more: Any) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        mortal_files(patch, mortal)
        patch.setattr(journal, "FLUSH_SECONDS", 0.0)
        return reconstruct(tilts, out, keys, "local", **more).to_dask().compute()


def check(out: Path, expected: np.ndarray, std: np.ndarray | None) -> None:
    """What lies there is refused, or right."""
    try:
        found = open_result(out)
    except (InputError, StorageError):
        return
    np.testing.assert_array_equal(found.to_dask().compute(), expected)
    if std is not None:
        np.testing.assert_array_equal(deviation(out), std)


def deviation(out: Path) -> np.ndarray:
    return open_result(out, what="std").to_dask().compute()


@pytest.mark.parametrize("when", ["before", "half", "after"])
@pytest.mark.parametrize("cut", CUTS)
def test_death_at_any_write(tilts: Path, tmp_path: Path, cut: str, when: str) -> None:
    keys = {**KEYS, **CUTS[cut]}
    whole = Mortal()
    expected = run(tilts, tmp_path / "whole.zarr", keys, whole)
    assert whole.count > 20
    std = deviation(tmp_path / "whole.zarr") if cut == "samples" else None
    for at in range(whole.count):
        out = tmp_path / "out.zarr"
        with pytest.raises(Killed):
            run(tilts, out, keys, Mortal(at, when))
        check(out, expected, std)
        before = {p: p.stat().st_mtime_ns for p in (out / "0/c").rglob("*") if p.is_file()}
        finished = {path.stem for path in out.glob("ddgm_dist/receipts/*/[!.]*.json")}
        again = Mortal()
        np.testing.assert_array_equal(run(tilts, out, keys, again), expected)
        if std is not None:
            np.testing.assert_array_equal(deviation(out), std)
        gone = ("commits", "generations", "samples", "sample-receipts")
        assert not any((out / "ddgm_dist" / kind).exists() for kind in gone)
        # Tiles of an uncoupled run that had their receipt were not written again.
        if cut == "free":
            for name in finished:
                row = int(name[1:7])
                for y in range(row, row + 2):
                    path = out / f"0/c/0/{y}/0"
                    assert path.stat().st_mtime_ns == before[path]
        shutil.rmtree(out)


@pytest.mark.parametrize("when", ["before", "half", "after"])
def test_death_while_another_result_is_replaced(tilts: Path, tmp_path: Path, when: str) -> None:
    """The old volume must not pass for the new one, nor a part of it for the whole."""
    old, new = {**KEYS, "seed": 1}, KEYS
    out = tmp_path / "out.zarr"
    expected = run(tilts, out, new, Mortal())
    other = run(tilts, out, old, Mortal(), overwrite=True)
    assert not np.array_equal(other, expected)
    whole = Mortal()
    run(tilts, out, new, whole, overwrite=True)
    for at in range(whole.count):
        run(tilts, out, old, Mortal(), overwrite=True)
        with pytest.raises(Killed):
            run(tilts, out, new, Mortal(at, when), overwrite=True)
        try:
            found = open_result(out).to_dask().compute()
        except (InputError, StorageError):
            pass
        else:
            problem = RunRecord(out).read_json("problem")
            right = other if problem["config"]["seed"] == 1 else expected
            np.testing.assert_array_equal(found, right)
        volume = run(tilts, out, new, Mortal(), overwrite=True)
        np.testing.assert_array_equal(volume, expected)
