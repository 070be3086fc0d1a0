"""The driver may be killed at any write: what then lies there never reads as whole and wrong.

Every operation on files that a run makes is a place to die: before it, half-way through it, after it
(`tests/mortal.py`). What SIGKILL itself does, `__main__.py` shows.
"""

import importlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.records import json_files, run_record
from ddgm_dist.records.checkpoint import Checkpoints
from ddgm_dist.records.replacement import pending
from ddgm_dist.records.result import open_result
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.runs import event_log, output
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series
from tests.mortal import Killed, Mortal, NoLease, mortal_system, nothing

pytestmark = pytest.mark.chaos

KEYS: dict[str, Any] = {
    "N": 3, "K": 2, "rows_per_call": 1, "tile_rows": 2, "denoiser": "fifthing:fifth",
    "checkpoint_every": 0, "mean": 100.0, "std": 10.0, "sigma_y": 1.0,
}  # fmt: skip
CUTS = {
    "free": {},
    "memory": {"tile_columns": 48, "margin": 24, "state": "memory"},
    "store": {"tile_columns": 48, "margin": 24, "state": "store"},
    "samples": {"samples": 2, "N": 2},
}


def _one_file(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.unlink()
            return


def mortal_files(patch: pytest.MonkeyPatch, mortal: Mortal) -> None:
    """Make every operation of a run one of `mortal`'s."""
    patch.setattr(output, "Lease", NoLease)
    replace = json_files.replace_text

    def half_replace(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.abc.tmp").write_text(text[: len(text) // 2])

    for module in (json_files, run_record):  # state and receipts; the log of events
        patch.setattr(
            module,
            "replace_text",
            lambda path, text: mortal.operation(
                lambda: replace(path, text), lambda: half_replace(path, text)
            ),
        )
    swap = json_files.compare_and_swap

    def half_swap(path: Path, data: bytes) -> None:
        """Under the names of tensorstore's temporary files, and longer than what comes next."""
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in (f"{path.name}.__lock", f"{path.name}_abc.__lock"):
            path.with_name(name).write_bytes(data + b"x" * 4096)

    patch.setattr(
        json_files,
        "compare_and_swap",
        lambda path, data, stamp: mortal.operation(
            lambda: swap(path, data, stamp), lambda: half_swap(path, data)
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


def run(
    tilts: Path,
    out: Path,
    keys: dict[str, Any],
    mortal: Mortal,
    *,
    system: bool = False,
    **more: Any,
) -> np.ndarray:
    """Reconstruct; with ``system`` every call of the system is an operation too."""
    with mortal_system(mortal) if system else nullcontext(), pytest.MonkeyPatch.context() as patch:
        mortal_files(patch, mortal)
        patch.setattr(event_log, "FLUSH_SECONDS", 0.0)
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


@pytest.mark.parametrize("when", ["before", "half"])  # after one is before the next
def test_death_while_another_result_is_replaced(tilts: Path, tmp_path: Path, when: str) -> None:
    """There is the old volume or the new one, whole, and what its record says it is: never neither."""
    new = {**KEYS, "N": 1, "checkpoint_every": 300}
    old = {**new, "seed": 1}
    out = tmp_path / "alone/out.zarr"
    expected = run(tilts, out, new, Mortal())
    other = run(tilts, out, old, Mortal(), overwrite=True)
    assert not np.array_equal(other, expected)
    whole = Mortal()
    kept = tmp_path / "kept.zarr"
    shutil.copytree(out, kept)
    run(tilts, out, new, whole, overwrite=True, system=True)
    for at in range(whole.count):
        shutil.rmtree(out)
        shutil.copytree(kept, out)
        with pytest.raises(Killed):
            run(tilts, out, new, Mortal(at, when), overwrite=True, system=True)
        found = open_result(out).to_dask().compute()
        problem = RunRecord(out).read_json("problem")
        right = other if problem["config"]["seed"] == 1 else expected
        np.testing.assert_array_equal(found, right)
        # What was begun with --overwrite is finished without it, if it was begun.
        again = at % 2 == 0
        volume = run(tilts, out, new, Mortal(), overwrite=again or not begun(out, new))
        np.testing.assert_array_equal(volume, expected)
        assert [p.name for p in out.parent.iterdir()] == [out.name]


def begun(out: Path, keys: dict[str, Any]) -> bool:
    """Whether the output, or what is to replace it, is of these keys."""
    records = [RunRecord(place).read_json("problem") for place in (out, pending(out) or out)]
    return any(p is not None and p["config"]["seed"] == keys.get("seed", 0) for p in records)
