"""Opening HDF5 files: what is wrong with those that cannot be, and reopening in other processes."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddgm_dist.errors import DdgmError, InputError, StorageError
from ddgm_dist.paths.array_io import InputReplacedError
from ddgm_dist.readers.hdf5.filters import load_filters

if TYPE_CHECKING:
    import h5py

__all__ = ["Hdf5File", "Stamp", "open_h5", "stamp_of"]

Stamp = tuple[Path, int, int]
_MAGIC = (
    (b"II*\0", "a TIFF file"),
    (b"MM\0*", "a TIFF file"),
    (b"II+\0", "a TIFF file"),
    (b"PK\x03\x04", "a zip archive, as .npz is"),
    (b"\x93NUMPY", "a .npy file"),
    (b"CDF", "a netCDF file of version 3"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"\x0e\x03\x13\x01", "an HDF4 file"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself"),
    (b"<", "a web page or XML"),
)
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Files that a process keeps open besides the sources of a virtual dataset.
_SPARE_FILES = 32


def open_h5(path: Path, argument: str = "source") -> h5py.File:
    """Open an HDF5 file for reading.

    Raises
    ------
    InputError
        It is missing, no HDF5 file, truncated, damaged, locked, or still being written.
    """
    import h5py

    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        why, hint = _reason(path, error)
        raise InputError(argument, str(path), why, hint) from error


def _reason(path: Path, error: Exception) -> tuple[str, str]:
    """The reason why a file cannot be opened, and advice."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        return "does not exist", ""
    except IsADirectoryError:
        return "is a folder, not an HDF5 file", ""
    except OSError as unreadable:
        return f"cannot be read ({unreadable.strerror})", ""
    return _state(error) or _content(head, str(error))


def _state(error: Exception) -> tuple[str, str] | None:
    """The reason and advice where HDF5 names a writer or the length of the file; else None."""
    text = str(error)
    if isinstance(error, BlockingIOError):
        return (
            "is locked: another program has it open for writing",
            "wait until the acquisition has ended, or close that program",
        )
    if "open for write" in text:
        return (
            "is still being written, or its writer was killed",
            "wait until the acquisition has ended; after a crash, run h5clear -s on a copy",
        )
    if "unable to lock file" in text:
        return (
            f"cannot be locked on this file system ({text})",
            "set the environment variable HDF5_USE_FILE_LOCKING=FALSE",
        )
    truncated = re.search(r"eof = (\d+).*stored_eof = (\d+)", text)
    if truncated:
        have, want = truncated.groups()
        return f"is truncated: it has {have} bytes of {want}", "copy it again"
    return None


def _content(head: bytes, text: str) -> tuple[str, str]:
    """The reason and advice for a file that is no HDF5 file, or a damaged one."""
    if not head:
        return "is empty, 0 bytes", "copy it again"
    if _SIGNATURE in head:
        return f"is a damaged HDF5 file ({text})", "copy it again"
    kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
    if kind is None:
        return "is not an HDF5 file: it does not begin as one", ""
    return f"is not an HDF5 file: it looks like {kind}", "give it its own suffix"


def stamp_of(path: Path) -> Stamp:
    """Size and time of a file, which differ from those of a file that takes its place."""
    found = path.stat()
    return path, found.st_size, found.st_mtime_ns


class Hdf5File:
    """An HDF5 file that is opened by its path in each process that reads it.

    Parameters
    ----------
    path
        The file.
    stamps
        Size and time of this file, and of all others that its datasets lie in.
    """

    def __init__(self, path: Path, stamps: tuple[Stamp, ...]) -> None:
        self.path, self.stamps = path, stamps
        # For who looks for the files that a source is read from.
        self.files = tuple(stamp[0] for stamp in stamps)
        self._opened: tuple[int, h5py.File] | None = None
        self._datasets: dict[str, h5py.Dataset] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "stamps": self.stamps}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def read(self, name: str, index: tuple[slice, ...]) -> Any:
        """A part of a dataset.

        Raises
        ------
        StorageError
            It cannot be read, or too many files would be open.
        InputReplacedError
            The file, or one that it refers to, is not what it was when it was first opened.
        """
        try:
            block = self._dataset(name)[index]
        except DdgmError:
            raise
        except Exception as error:  # h5py and its filters raise many types
            self.check_current()
            first = [part.start for part in index]
            raise StorageError(
                f"reading {name} of {self.path} at {first} failed: {error}; the file is damaged or "
                "another program writes to it"
            ) from error
        # A virtual dataset reads as fill values where its sources have gone.
        self.check_current()
        return block

    def check_current(self) -> None:
        """Raise InputReplacedError unless all files are what they were when they were first opened."""
        for stamp in self.stamps:
            try:
                same = stamp_of(stamp[0]) == stamp
            except OSError:
                same = False
            if not same:
                raise InputReplacedError(
                    f"{stamp[0]} has been changed, replaced or deleted since it was opened; wait "
                    "until it is complete and run the same command again"
                )

    def _dataset(self, name: str) -> h5py.Dataset:
        process = os.getpid()
        if self._opened is None or self._opened[0] != process:
            self.check_current()
            self._opened, self._datasets = (process, open_h5(self.path)), {}
        if name not in self._datasets:
            _refuse_too_many_files(len(self.stamps), self.path)
            dataset = self._opened[1][name]
            load_filters(dataset, f"{self.path}:{name}")
            self._datasets[name] = dataset
        return self._datasets[name]


def _refuse_too_many_files(count: int, path: Path) -> None:
    """Raise StorageError where HDF5 could not open all sources and would read fill values instead."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        now = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        now = _SPARE_FILES
    if count > 1 and limit != resource.RLIM_INFINITY and now + count + _SPARE_FILES > limit:
        raise StorageError(
            f"{path} lies in {count} files, and this process may open {limit}, of which {now} are in "
            f"use; run ulimit -n {now + count + 4 * _SPARE_FILES} first"
        )
