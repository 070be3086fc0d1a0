"""Images of an HDF5 dataset, read box by box."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.float32 import as_float32
from ddgm_dist.readers.base import check_box, check_numbers
from ddgm_dist.readers.hdf5.file import Hdf5File
from ddgm_dist.readers.stacks.axes import StackAxes

__all__ = ["Hdf5Volume"]


class Hdf5Volume:
    """Images of an HDF5 dataset as a `VolumeSource`; it can be pickled, and is reopened by its path.

    Parameters
    ----------
    file
        The file.
    path
        Path of the dataset in it.
    axes
        The dataset's axes.
    ndim
        Number of the dataset's axes: of those in ``axes``, the first is absent in a single image.
    dtype
        Dtype of its values.
    chunk
        Extent ``(image, row, column)`` of the pieces that are read fastest.
    images
        Numbers of the images that count, in order; None for all.

    Raises
    ------
    InputError
        The values are not real numbers, or there are none.
    """

    def __init__(
        self,
        file: Hdf5File,
        path: str,
        axes: StackAxes,
        *,
        ndim: int,
        dtype: np.dtype[Any],
        chunk: Triple,
        images: NDArray[np.intp] | None = None,
    ) -> None:
        name = f"{file.path}:{path}"
        count, rows, columns = check_numbers(name, axes.shape, dtype)
        self.shape: Triple = (count if images is None else len(images), rows, columns)
        self.dtype, self.chunk = dtype, chunk
        self._file, self._path, self._axes, self._ndim = file, path, axes, ndim
        self._name, self._images = name, images

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box.

        Raises
        ------
        IndexError
            The box reaches outside the stack.
        InputError
            A value is beyond float32.
        StorageError
            The file is damaged or unreadable.
        InputReplacedError
            The file has changed since it was first opened.
        """
        check_box(box, self.shape)
        out = np.empty(box.shape, np.float32)
        if not box.size:
            return out
        images = np.arange(box.start[0], box.stop[0])
        if self._images is not None:
            images = self._images[images]
        # Images that lie one behind the other are read at once.
        cuts = [0, *(np.flatnonzero(np.diff(images) != 1) + 1).tolist(), len(images)]
        for a, b in pairwise(cuts):
            stored = Box((int(images[a]), *box.start[1:]), (int(images[b - 1]) + 1, *box.stop[1:]))
            origin = (box.start[0] + a, *box.start[1:])
            out[a:b] = as_float32(self._stored(stored), "source", self._name, origin, copy=False)
        return out

    def _stored(self, box: Box) -> NDArray[Any]:
        """A box of the dataset itself, with the axes ``(image, row, column)``."""
        index = self._axes.index(box)
        block = np.asarray(self._file.read(self._path, index[len(index) - self._ndim :]))
        return self._axes.turn(block.reshape([part.stop - part.start for part in index]))
