"""Arrays whose codecs tensorstore does not have, such as LZ4 or the filters of Zarr version 2.

zarr-python reads them through numcodecs: slower, and for reading only.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ddgm_dist.paths.files import read_all
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.zarr_store import refuse_pickles

__all__ = ["NumcodecsArray"]


class NumcodecsArray:
    """An array with tensorstore's way of reading: ``array[index].read().result()``.

    What cannot be read raises ValueError or OSError, as in tensorstore. The message begins with
    ``NOT_FOUND`` where a chunk is missing.

    Parameters
    ----------
    array
        The array as zarr-python opened it.
    path
        Place of the array.
    complete
        Whether a missing chunk is an error; else it reads as fill values.

    Raises
    ------
    InputError
        The array is stored as pickles.
    """

    def __init__(self, array: zarr.Array[Any], path: Place, *, complete: bool) -> None:
        refuse_pickles(array, "tilts", str(path))
        self.shape: tuple[int, ...] = array.shape
        self._array, self._path, self._complete = array, path, complete
        self._files: tuple[int, ...] = array.shards or array.chunks

    def __getitem__(self, index: tuple[slice, ...]) -> _Part:
        return _Part(self, index)

    def fetch(self, index: tuple[slice, ...]) -> NDArray[Any]:
        """The values of a part, in the stored dtype."""
        if self._complete:
            self._look_for_chunks(index)
        try:
            return np.asarray(self._array[index])
        except OSError:
            raise
        except Exception as error:  # each codec raises its own types
            raise ValueError(f"{type(error).__name__}: {error}") from error

    def _look_for_chunks(self, index: tuple[slice, ...]) -> None:
        ranges = [
            range(part.start // size, -(-part.stop // size))
            for part, size in zip(index, self._files, strict=True)
        ]
        key = self._array.metadata.encode_chunk_key
        files = [self._path / key(chunk) for chunk in itertools.product(*ranges)]
        there = [file.is_file() for file in files if isinstance(file, Path)]
        if not isinstance(self._path, Path):  # a bucket is asked for all of them at a time
            there = [content is not None for content in read_all(files)]
        if not all(there):
            raise ValueError(f"NOT_FOUND: {files[there.index(False)]}")


class _Part:
    """A part of an array, read when its result is asked for."""

    def __init__(self, array: NumcodecsArray, index: tuple[slice, ...]) -> None:
        self._array, self._index = array, index

    def read(self) -> _Part:
        return self

    def result(self) -> NDArray[Any]:
        return self._array.fetch(self._index)
