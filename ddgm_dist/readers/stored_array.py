"""Raw arrays in files, read box by box with positioned reads.

A mapped file would count towards a process's resident memory, page by page as it is read. These reads
fill only the buffer that is handed out.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.readers.base import check_box, check_numbers

__all__ = ["FileState", "Stored", "StoredArray", "StoredVolume", "file_state", "open_unchanged"]

FileState = tuple[int, int]  # size in bytes, time of the last change in ns

_PIECE = 2**22  # values handed out at a time by `pieces`
_GAP = 2**16  # bytes between two parts of rows that are rather read than skipped
_BUFFER = 2**23  # bytes of whole rows that parts are taken from


class Stored(Protocol):
    """Values in a file, in their stored dtype."""

    @property
    def shape(self) -> Triple:
        """``(section, row, column)``."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values, with its byte order."""
        ...

    def block(self, box: Box) -> NDArray[Any]:
        """The values of a box, as a fresh array."""
        ...

    def pieces(self) -> Iterator[NDArray[Any]]:
        """All values, as flat arrays of bounded size."""
        ...


@dataclass(frozen=True)
class StoredArray:
    """An array of three axes that lies in a file without compression.

    It holds no open file, so it can be pickled. The file is opened at every read, which is refused if
    the file was changed in between.

    Attributes
    ----------
    path
        Absolute path of the file.
    name
        Name for messages.
    state
        Size and time of change of the file when its header was read.
    offset
        Byte at which the first value begins.
    dtype
        Dtype of the values, with its byte order.
    shape
        ``(section, row, column)``.
    fortran
        Whether the first axis varies fastest in the file. By default the last one does.
    """

    path: Path
    name: str
    state: FileState
    offset: int
    dtype: np.dtype[Any]
    shape: Triple
    fortran: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes that the values take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def block(self, box: Box) -> NDArray[Any]:
        """The values of a box, as a fresh array of the stored dtype.

        Raises
        ------
        IndexError
            The box reaches outside the array.
        InputError
            The file was changed since its header was read.
        StorageError
            The file cannot be read.
        """
        check_box(box, self.shape)
        shape, start, stop = self.shape, box.start, box.stop
        if self.fortran:
            shape, start, stop = shape[::-1], start[::-1], stop[::-1]
        extent = [b - a for a, b in zip(start, stop, strict=True)]
        block = np.empty(extent, self.dtype)
        if block.size:
            with open_unchanged(self.path, self.state, self.name) as file:
                _Reader(file, self.name, self.offset, self.dtype, shape).box(block, start)
        return block.transpose() if self.fortran else block

    def pieces(self) -> Iterator[NDArray[Any]]:
        """All values in the order of the file, as flat arrays of bounded size."""
        size = math.prod(self.shape)
        with open_unchanged(self.path, self.state, self.name) as file:
            reader = _Reader(file, self.name, self.offset, self.dtype, self.shape)
            for first in range(0, size, _PIECE):
                piece = np.empty(min(_PIECE, size - first), self.dtype)
                reader.fill(piece, first)
                yield piece


class StoredVolume:
    """Stored values of three axes as a `VolumeSource`.

    Raises
    ------
    InputError
        They are no stack of real numbers.
    """

    def __init__(self, stored: Stored, name: str) -> None:
        self.shape: Triple = check_numbers(name, stored.shape, stored.dtype)
        self.dtype: np.dtype[Any] = stored.dtype
        self._stored, self._name = stored, name

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box.

        Raises
        ------
        IndexError
            The box reaches outside the array.
        InputError
            A value is beyond float32, or the file was changed since it was opened.
        StorageError
            The file cannot be read.
        """
        block = self._stored.block(box)
        return as_float32(block, "source", self._name, box.start, copy=False)


def file_state(path: Path) -> FileState:
    """Size and time of change of a file; OSError if it cannot be looked at."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@contextmanager
def open_unchanged(path: Path, state: FileState, name: str) -> Iterator[int]:
    """Descriptor of a file that is as it was.

    Raises
    ------
    InputError
        Its size or its time of change is another.
    StorageError
        It cannot be opened.
    """
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise StorageError(f"{name} cannot be opened again: {error}") from error
    try:
        status = os.fstat(file)
        if (status.st_size, status.st_mtime_ns) != state:
            raise InputError(
                "source",
                name,
                f"was changed while it was in use: it had {state[0]} bytes and has "
                f"{status.st_size}, or its time of change is another",
                "start again when nothing writes to it",
            )
        yield file
    finally:
        os.close(file)


class _Reader:
    """Reads of an array in C order from an open file."""

    def __init__(
        self, file: int, name: str, offset: int, dtype: np.dtype[Any], shape: Triple
    ) -> None:
        self._file, self._name, self._offset = file, name, offset
        self._dtype, self._shape = dtype, shape

    def fill(self, out: NDArray[Any], first: int) -> None:
        """Read values into a contiguous array; ``first`` is the index of its first value."""
        view = out.reshape(-1).view(np.uint8).data
        at = self._offset + first * self._dtype.itemsize
        while view:
            try:
                count = os.preadv(self._file, [view], at)
            except OSError as error:
                raise StorageError(f"{self._name} cannot be read: {error}") from error
            if count == 0:
                raise StorageError(f"{self._name} ends at byte {at}, before its last value")
            view, at = view[count:], at + count

    def box(self, block: NDArray[Any], start: Triple) -> None:
        """Read the box of the block's shape that begins at ``start``, in as few reads as are useful."""
        _, rows, columns = self._shape
        sections, height, width = block.shape
        first = (start[0] * rows + start[1]) * columns + start[2]
        if width == columns and height == rows:
            self.fill(block, first)
            return
        for k in range(sections):
            begin = first + k * rows * columns
            if width == columns:
                self.fill(block[k], begin)
            elif (columns - width) * self._dtype.itemsize <= _GAP:
                self._crop(block[k], begin)
            else:
                for i in range(height):
                    self.fill(block[k, i], begin + i * columns)

    def _crop(self, part: NDArray[Any], first: int) -> None:
        """Read parts of rows from the whole rows, which are near each other."""
        columns, (height, width) = self._shape[2], part.shape
        step = max(1, _BUFFER // (columns * self._dtype.itemsize))
        rows = np.empty((min(step, height), columns), self._dtype)
        for i in range(0, height, step):
            count = min(step, height - i)
            # The last row ends with the part: the file may end there too.
            flat = rows.reshape(-1)[: (count - 1) * columns + width]
            self.fill(flat, first + i * columns)
            part[i : i + count] = rows[:count, :width]
