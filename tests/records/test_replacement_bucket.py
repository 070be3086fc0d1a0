"""In an object store a replacement is one write of metadata; what was there is deleted last."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.evaluation.pyramid import build_pyramid
from ddgm_dist.inspection.status import status
from ddgm_dist.inspection.verify import verify
from ddgm_dist.paths.array_io import BulkArray, InputReplacedError
from ddgm_dist.paths.files import delete, listdir
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.zarr_store import ObjectZarr, zarr_store
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.records import checkpoint, replacement, run_record
from ddgm_dist.records.lease import Lease
from ddgm_dist.records.replacement import pending
from ddgm_dist.records.result import open_result
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.tilts import claim as tilt_claim
from ddgm_dist.tilts.series import (
    TiltSeriesMeta,
    create_tilt_series,
    open_tilt_series,
    write_tilt_series,
)
from tests.mortal import Killed, Mortal, nothing

META = TiltSeriesMeta((-20.0, 0.0, 20.0), thickness_px=4)
KEYS: dict[str, Any] = {
    "N": 1, "K": 2, "rows_per_call": 1, "tile_rows": 2, "denoiser": "thirding:third",
    "mean": 100.0, "std": 10.0, "sigma_y": 1.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def thirding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "thirding.py").write_text("def third(x, sigma):\n    return x / 3\n")
    monkeypatch.syspath_prepend(tmp_path)


def stack(seed: int) -> np.ndarray:
    return 400 + np.random.default_rng(seed).standard_normal((3, 4, 64)).astype(np.float32)


@contextmanager
def mortal_bucket(mortal: Mortal) -> Iterator[None]:
    """Every write and every deletion in an object store is one of `mortal`'s operations."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (run_record, replacement, tilt_claim, checkpoint):
            for name in ("write_bytes", "compare_and_swap", "delete", "delete_folder"):
                if hasattr(module, name):
                    patch.setattr(module, name, _counted(mortal, getattr(module, name)))
        write = BulkArray.write
        patch.setattr(BulkArray, "write", _counted(mortal, write))
        put = ObjectZarr.set

        async def counted_put(self: ObjectZarr, key: str, value: Any) -> None:
            mortal.operation(nothing, nothing)
            await put(self, key, value)

        patch.setattr(ObjectZarr, "set", counted_put)
        # A killed process of this very number cannot be told from this one.
        patch.setattr("ddgm_dist.records.lease_holder._is_here", lambda held: False)
        patch.setattr("ddgm_dist.records.lease.Lease._wait", lambda self, found: found)
        yield


def _counted(mortal: Mortal, call: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any, **more: Any) -> Any:
        return mortal.operation(lambda: call(*args, **more), nothing)

    return counted


def test_a_tilt_series_is_replaced_by_one_write(bucket: str) -> None:
    url = f"{bucket}/{uuid.uuid4().hex}/tilts.zarr"
    write_tilt_series(url, stack(1), META)
    old = open_tilt_series(url).fingerprint()
    whole = Mortal()
    with mortal_bucket(whole):
        write_tilt_series(url, stack(2), META, overwrite=True)
    new = open_tilt_series(url).fingerprint()
    assert old != new
    assert whole.count > 6
    seen = set()
    for at in range(whole.count):
        url = f"{bucket}/{uuid.uuid4().hex}/tilts.zarr"
        write_tilt_series(url, stack(1), META)
        with mortal_bucket(Mortal(at, "before")), pytest.raises(Killed):
            write_tilt_series(url, stack(2), META, overwrite=True)
        found = open_tilt_series(url).fingerprint()
        assert found in (old, new)
        seen.add(found)
        with mortal_bucket(Mortal()):
            write_tilt_series(url, stack(3), META, overwrite=True)
        np.testing.assert_array_equal(open_tilt_series(url).read(slice(None)), stack(3))
        # Nothing is left but what the metadata lead to.
        left = listdir(locate(url, "out"))
        assert len(left) == 2
        assert "zarr.json" in left
    assert seen == {old, new}


def test_anybody_can_read_the_series_and_a_reader_of_the_old_one_is_told(bucket: str) -> None:
    url = f"{bucket}/{uuid.uuid4().hex}/tilts.zarr"
    write_tilt_series(url, stack(1), META)
    before = open_tilt_series(url)
    after = write_tilt_series(url, stack(2), META, overwrite=True)
    np.testing.assert_array_equal(after.read(slice(None)), stack(2))
    group = zarr.open_group(zarr_store(locate(url, "tilts")), mode="r")
    folder = group.attrs["ddgm_dist"]["folder"]
    np.testing.assert_array_equal(group[f"{folder}/projections"][:], stack(2))
    with pytest.raises(Exception, match=r"is missing|NOT_FOUND"):
        before.read(slice(None))


def test_a_series_that_somebody_writes_is_not_replaced(bucket: str) -> None:
    url = f"{bucket}/{uuid.uuid4().hex}/tilts.zarr"
    write_tilt_series(url, stack(1), META)
    with (
        Lease(locate(url, "tilts")),
        pytest.raises(InputError, match="is being written by process"),
    ):
        write_tilt_series(url, stack(2), META, overwrite=True)
    np.testing.assert_array_equal(open_tilt_series(url).read(slice(None)), stack(1))


@pytest.mark.parametrize("samples", [1, 2])
def test_a_result_is_replaced_by_one_write(bucket: str, samples: int) -> None:
    folder = f"{bucket}/{uuid.uuid4().hex}"
    tilts = f"{folder}/tilts.zarr"
    write_tilt_series(tilts, stack(1), META)
    new = {**KEYS, "samples": samples}
    old = {**new, "seed": 5}
    expected = [
        reconstruct(tilts, f"{folder}/{k}.zarr", keys, "local").to_dask().compute()
        for k, keys in enumerate((old, new))
    ]
    assert not np.array_equal(*expected)
    whole = Mortal()
    out = f"{folder}/out.zarr"
    reconstruct(tilts, out, old, "local")
    with mortal_bucket(whole):
        reconstruct(tilts, out, new, "local", overwrite=True)
    assert verify(out) == {}
    assert whole.count > 20
    # Some of those that only write beside what is there; all of those about the change.
    last = whole.count - (8 if samples == 1 else 4)
    for at in [*range(0, last, 10 * samples), *range(last, whole.count)]:
        out = f"{folder}/{at}/out.zarr"
        reconstruct(tilts, out, old, "local")
        with mortal_bucket(Mortal(at, "before")), pytest.raises(Killed):
            reconstruct(tilts, out, new, "local", overwrite=True)
        found = open_result(out).to_dask().compute()
        assert any(np.array_equal(found, right) for right in expected)
        # What was begun with --overwrite is finished without it.
        begun = pending(locate(out, "out")) is not None or np.array_equal(found, expected[1])
        begun = begun and status(out).replaces
        with mortal_bucket(Mortal()):
            again = reconstruct(tilts, out, new, "local", overwrite=at % 2 == 0 or not begun)
        np.testing.assert_array_equal(again.to_dask().compute(), expected[1])
        assert status(out).state == "complete"
        assert len(listdir(locate(out, "out"))) == 2
    # Anybody finds the volume by the metadata; and it can be gone on with, be given levels, be replaced.
    store = open_volume(out)
    assert store.shape == expected[1].shape
    group = zarr.open_group(zarr_store(locate(out, "out")), mode="r")
    path = group.attrs["ome"]["multiscales"][0]["datasets"][0]["path"]
    np.testing.assert_array_equal(group[path][:], expected[1])
    assert reconstruct(tilts, out, new, "local").residuals == []
    build_pyramid(out, levels=1)
    third = reconstruct(tilts, out, old, "local", overwrite=True)
    np.testing.assert_array_equal(third.to_dask().compute(), expected[0])
    if samples > 1:
        assert np.isfinite(third.to_dask("std").compute()).all()


@pytest.mark.parametrize("error", [StorageError("refused"), KeyboardInterrupt()])
def test_what_has_been_published_stays_if_the_former_cannot_be_deleted(
    bucket: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/{uuid.uuid4().hex}/tilts.zarr"
    write_tilt_series(url, stack(1), META)
    calls = []

    def fail(place: Any, **more: Any) -> None:
        calls.append(place)
        raise error

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(replacement, "delete_folder", fail)
        write_tilt_series(url, stack(2), META, overwrite=True)
    assert calls
    np.testing.assert_array_equal(open_tilt_series(url).read(slice(None)), stack(2))
    write_tilt_series(url, stack(3), META, overwrite=True)
    np.testing.assert_array_equal(open_tilt_series(url).read(slice(None)), stack(3))
    assert len(listdir(locate(url, "out"))) == 2


def test_a_reader_of_a_replaced_volume_is_told_and_not_given_nan(bucket: str) -> None:
    folder = f"{bucket}/{uuid.uuid4().hex}"
    tilts, out = f"{folder}/tilts.zarr", f"{folder}/out.zarr"
    write_tilt_series(tilts, stack(1), META)
    reconstruct(tilts, out, KEYS, "local")
    for seed in (1, 2):  # from the place itself into a folder of it, then into another one
        before = open_result(out).to_dask()
        reconstruct(tilts, out, {**KEYS, "seed": seed}, "local", overwrite=True)
        with pytest.raises(InputReplacedError, match="replaced or deleted since it was opened"):
            before.compute()


def test_a_new_series_whose_writer_lost_its_lease_is_not_deleted(bucket: str) -> None:
    url = f"{bucket}/{uuid.uuid4().hex}/tilts.zarr"
    first = create_tilt_series(locate(url, "tilts"), (3, 4, 64), META)
    lease = first._claim.lease
    lease._stop.set()
    lease._thread.join()
    delete(locate(url, "out") / "ddgm_dist/lease.json")
    write_tilt_series(url, stack(2), META, overwrite=True)
    lease._renew_once()
    first._claim.discard()
    np.testing.assert_array_equal(open_tilt_series(url).read(slice(None)), stack(2))
