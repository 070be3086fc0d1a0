"""Zarr arrays as volumes and stacks, and opening what a place holds."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.safety import refuse_links
from ddgm_dist.paths.zarr_store import refuse_pickles, zarr_store
from ddgm_dist.readers.base import check_box, check_numbers
from ddgm_dist.readers.stacks.axes import StackAxes

__all__ = ["Node", "ZarrVolume", "level_zero", "open_node"]

Node = zarr.Array[Any] | zarr.Group


class ZarrVolume:
    """A Zarr array as a `VolumeSource`.

    Parameters
    ----------
    array
        The array, of real numbers.
    name
        Its place, for messages.
    axes
        Its axes; by default the last three, and leading axes of extent one (time, channel) are
        dropped.
    argument
        Name of the argument, for messages.

    Raises
    ------
    InputError
        It has not three axes, no real numbers, or is stored as pickles.
    """

    def __init__(
        self,
        array: zarr.Array[Any],
        name: str,
        axes: StackAxes | None = None,
        argument: str = "volume",
    ) -> None:
        lead = max(0, array.ndim - 3)
        if axes is None and any(n != 1 for n in array.shape[:lead]):
            raise InputError(
                argument, name, f"must have axes (z, y, x), others of extent 1; it is {array.shape}"
            )
        refuse_pickles(array, argument, name)
        dtype = np.dtype(array.dtype)
        if axes is None:
            check_numbers(name, array.shape[lead:], dtype)
            axes = StackAxes(array.shape, (lead, lead + 1, lead + 2))
        self.shape: Triple = check_numbers(name, axes.shape, dtype)
        self.dtype: np.dtype[Any] = dtype
        self.chunk: Triple = axes.pick(array.shards or array.chunks)
        self._array, self._axes, self._name, self._argument = array, axes, name, argument

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box.

        Raises
        ------
        IndexError
            The box reaches outside the volume.
        InputError
            A value is beyond float32.
        StorageError
            Chunks are damaged or unreadable.
        """
        check_box(box, self.shape)
        try:
            block = np.asarray(self._array[self._axes.index(box)])
        except StorageError:
            raise
        except Exception as error:  # codecs and stores raise their own types
            raise StorageError(
                f"reading {box.start}..{box.stop} of {self._name} failed: {error}"
            ) from error
        return as_float32(self._axes.turn(block), self._argument, self._name, box.start)


def open_node(place: Place, argument: str) -> Node:
    """The array or group that a place holds.

    Raises
    ------
    InputError
        It is no Zarr store, a damaged one, or leads out of itself.
    StorageError
        The object store does not answer.
    """
    refuse_links(place, argument)
    try:
        # Codecs outside the standard of version 3 are warned of; they are read all the same.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return zarr.open(zarr_store(place), mode="r")
    except StorageError:
        raise
    except Exception as error:  # zarr raises many types for damaged metadata
        raise InputError(argument, str(place), f"is not a Zarr store ({error})") from error


def level_zero(attributes: dict[str, Any]) -> str | None:
    """Path of the finest level by the OME-Zarr metadata of a group, if there are any."""
    images = attributes.get("ome", attributes)
    try:
        return str(images["multiscales"][0]["datasets"][0]["path"])
    except (KeyError, IndexError, TypeError):
        return None
