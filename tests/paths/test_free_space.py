"""A write that fails names what is in the way: real file systems, filled in each way."""

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ddgm_dist.core.box import Box
from ddgm_dist.errors import StorageError
from ddgm_dist.paths.free_space import errno_of, obstacle, write_error
from ddgm_dist.volumes.layout import VolumeLayout
from ddgm_dist.volumes.store import VolumeStore, create_volume

Mount = Callable[[str], Path]
BLOCK = np.random.default_rng(0).standard_normal((4, 4, 64), np.float32)
LAYOUT = VolumeLayout((4, 4, 256), (4, 4, 64), (4, 4, 64))


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a file system of the given options."""
    mounted: list[Path] = []

    def make(options: str) -> Path:
        root = tmp_path / f"disk{len(mounted)}"
        root.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(root)]
        try:
            subprocess.run(words, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a file system cannot be mounted here: {error}")
        mounted.append(root)
        return root

    yield make
    for root in mounted:
        subprocess.run(["umount", "-l", str(root)], check=True)


def made(folder: Path) -> VolumeStore:
    return create_volume(folder / "out.zarr", LAYOUT, voxel_size_nm=None, name="a volume")


def _fill(store: VolumeStore) -> None:
    for x in range(0, 256, 64):
        store.write(Box((0, 0, x), (4, 4, x + 64)), BLOCK)


def write(store: VolumeStore) -> str:
    """What a write that fails says."""
    with pytest.raises(StorageError) as told:
        _fill(store)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_no_inodes_are_told_from_no_bytes(mount: Mount) -> None:
    """tensorstore's error says `No space left on device` for either."""
    store = made(mount("size=8m,nr_inodes=40"))
    root = Path(store.path).parent
    for name in range(100):
        try:
            (root / str(name)).touch()
        except OSError:
            break
    told = write(store)
    assert "no inodes (files) are left there, though" in told
    assert "delete files" in told

    store = made(mount("size=256k"))
    with (Path(store.path).parent / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    told = write(store)
    assert "; 0 bytes are free there; free space" in told
    assert "no inodes (" not in told


def test_a_file_system_that_became_read_only_is_named(mount: Mount) -> None:
    root = mount("size=1m")
    store = made(root)
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    told = write(store)
    assert "that file system is read-only; choose another place" in told
    assert "free" not in told


def test_a_bound_on_the_size_of_files_is_named(tmp_path: Path) -> None:
    store = made(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        told = write(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "a file may not grow so large there; raise the limit (ulimit -f)" in told


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "the quota of the user, group or project"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "the disk or its server fails"),
        (errno.EACCES, "check who may write there"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENOSPC, "bytes are free there; free space"),
        (errno.ESTALE, "bytes are free there; free space or check the disk"),
    ],
)
def test_an_error_is_known_by_its_number_and_by_its_text(
    tmp_path: Path, number: int, words: str
) -> None:
    as_system = OSError(number, os.strerror(number), "a")
    as_tensorstore = ValueError(f"Error writing \"a\": some words [os_error_code='{number}']")
    for error in (as_system, as_tensorstore):
        assert errno_of(error) == number
        assert words in obstacle(tmp_path / "not" / "there", error)
        assert words in str(write_error(tmp_path, 10, error))
    if number != errno.ESTALE:
        assert errno_of(ValueError(f"RESOURCE_EXHAUSTED: {os.strerror(number)}")) == number
    assert errno_of(ValueError("something else")) is None
