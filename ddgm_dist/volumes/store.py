"""An OME-Zarr 0.5 volume, written shard by shard, each shard by one writer.

Level 0 is the array ``0``: float32 ``(z, y, x)``, sharded, zstd level 1 with checksum (plain zstd
misses a flipped bit). The fill value is NaN: a shard that was never written, or was lost, reads as
NaN and not as plausible voxels. Files of this package that are no part of OME-Zarr are in the folder
``ddgm_dist`` inside the store (`ddgm_dist.records.run_record`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import InputError, PlanError, StorageError
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.paths.claim import SIDECAR, prepare_output
from ddgm_dist.paths.files import exists, files_below, is_zarr, listdir
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.safety import inner_name
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.volumes.layout import VolumeLayout, as_triple, block_digest

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["LEVEL", "VolumeStore", "create_array", "create_volume", "open_volume_store"]


LEVEL = "0"
AXES = ("z", "y", "x")


class VolumeStore:
    """An open volume; made by `create_volume` or `open_volume_store`.

    Attributes
    ----------
    place
        Place of the OME-Zarr group.
    path
        The same as text: an absolute path, or a URL.
    layout
        Shape, shards and chunks of the volume.
    attributes
        The group's attributes, ``ome`` included.
    """

    def __init__(
        self, path: Place, group: zarr.Group, level: str, *, writable: bool, complete: bool = False
    ) -> None:
        array = group[level]
        assert isinstance(array, zarr.Array)
        self.place, self.path = path, str(path)
        self.layout = VolumeLayout(
            as_triple(array.shape), as_triple(array.shards or array.chunks), as_triple(array.chunks)
        )
        self.attributes: dict[str, Any] = group.attrs.asdict()
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        self._level = level
        self._writable, self._complete = writable, complete
        self._bulk = BulkArray(array, path / level, writable=writable, complete=complete)

    @property
    def shape(self) -> Triple:
        """Extent ``(z, y, x)``, voxels."""
        return self.layout.shape

    def shards(self) -> NDArray[np.bool_]:
        """Flags by index ``(z, y, x)``: whether a shard exists; its content is not read."""
        grid = self.layout.grid
        there = np.zeros(grid, bool)  # a byte each: there may be millions
        for parts in files_below(self.place / self._level / "c", 3):
            # Temporary files, and late writes of a larger volume that was here before, do not count.
            if all(part.isdigit() and int(part) < n for part, n in zip(parts, grid, strict=True)):
                there[tuple(int(part) for part in parts)] = True
        return there

    def has(self, box: Box) -> bool:
        """Return whether all shards of a box exist; their content is not read."""
        zs, ys, xs = (range(part.start, part.stop) for part in self.layout.shards_of(box))
        folder, wanted = self.place / self._level / "c", {str(x) for x in xs}
        return all(wanted <= set(listdir(folder / str(z) / str(y))) for z in zs for y in ys)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # Workers reopen the store: handles do not cross process borders.
        mode = "r+" if self._writable else "r"
        return open_volume_store, (self.place, mode, self._complete, self._level)

    def write(self, box: Box, block: NDArray[Any]) -> str:
        """Write a box of whole shards; returns when it is on disk.

        Two writers of one shard lose each other's data without an error. So a box must consist of
        whole shards, clipped by the volume's edge.

        Parameters
        ----------
        box
            Box of the volume, voxels.
        block
            Voxels of shape ``box.shape``; stored as float32.

        Returns
        -------
        str
            `block_digest` of what was stored.

        Raises
        ------
        PlanError
            The box is not whole shards.
        ValueError
            The block is not of the box's shape.
        StorageError
            The write failed, for example because the disk is full.
        """
        if not self.layout.covers_whole_shards(box):
            raise PlanError(
                "box",
                f"{box.start}..{box.stop}",
                f"must be whole shards of {self.layout.shard} in a volume of {self.shape}: "
                "a shard has one writer",
            )
        if block.shape != box.shape:
            raise ValueError(f"block {block.shape} is not of the box's shape {box.shape}")
        data = np.ascontiguousarray(block, dtype=np.float32)
        self._bulk.write(box.slices(), data)
        return block_digest(data)

    def read(self, box: Box) -> NDArray[np.float32]:
        """The voxels of a box as a fresh float32 array; NaN where nothing was written.

        In a store that was opened as ``complete``, voxels that were not written are an error.

        Raises
        ------
        IndexError
            The box reaches outside the volume.
        StorageError
            Shards are damaged or unreadable.
        """
        return as_float32(self._bulk.read(box.slices()), "volume", self.path, box.start)

    def to_dask(self) -> da.Array:
        """The volume as a lazy dask array of float32, in chunks of whole shards (64 to 128 MiB)."""
        from ddgm_dist.volumes.dask_view import as_dask

        return as_dask(self)


def create_volume(
    place: Place,
    layout: VolumeLayout,
    *,
    voxel_size_nm: float | None,
    name: str,
    attributes: Mapping[str, Any] | None = None,
    claimed: bool = False,
    within: bool = False,
) -> VolumeStore:
    """Make an OME-Zarr 0.5 group with an empty (NaN) volume, open for writing.

    Parameters
    ----------
    place
        Place of the new store; nothing may exist there unless it is ``claimed``.
    layout
        Shape, shards and chunks.
    voxel_size_nm
        Edge of a voxel, nanometres; None leaves the axes without unit and the scale 1.
    name
        Name of the image in the metadata.
    attributes
        More attributes for the group, JSON values; the key ``ome`` is taken.
    claimed
        The folder belongs to this run already: only the volume in it is made, or made anew.
    within
        The store is part of another one, which has the record of the run.

    Raises
    ------
    InputError
        The output exists or its folder is not writable; the voxel size is not positive; ``ome``
        is among the attributes.
    StorageError
        The store cannot be written.
    """
    if voxel_size_nm is not None and not (math.isfinite(voxel_size_nm) and voxel_size_nm > 0):
        raise InputError("voxel_size_nm", voxel_size_nm, "must be positive, or None if unknown")
    more = dict(attributes or {})
    if "ome" in more:
        raise InputError("attributes", "ome", "is the key of the OME-Zarr metadata itself")
    if not claimed:
        prepare_output(place, "out", overwrite=False)
    try:
        group = zarr.open_group(zarr_store(place), mode="a", zarr_format=3)
        group.attrs.put({"ome": _ome(voxel_size_nm, name), **more})
        create_array(group, LEVEL, layout, overwrite=claimed)
        if not within:
            # A group too, so that listing the store's members does not warn about a foreign folder.
            group.require_group(SIDECAR)
    except OSError as error:
        raise write_error(place, 4096, error) from error
    return VolumeStore(place, group, LEVEL, writable=True)


def create_array(group: zarr.Group, name: str, layout: VolumeLayout, *, overwrite: bool) -> None:
    """Make the empty (NaN) array of a level."""
    group.create_array(
        name,
        shape=layout.shape,
        chunks=layout.chunk,
        shards=layout.shard,
        dtype="float32",
        fill_value=float("nan"),
        compressors=ZstdCodec(level=1, checksum=True),
        dimension_names=AXES,
        overwrite=overwrite,
    )


def open_volume_store(
    place: Place, mode: Literal["r", "r+"] = "r", complete: bool = False, level: str = ""
) -> VolumeStore:
    """Open a volume made by `create_volume`, or any OME-Zarr 0.5 image of axes z, y, x.

    Parameters
    ----------
    place
        Place of the store.
    mode
        ``r`` to read it, ``r+`` to write to it as well.
    complete
        Whether reading a shard that was never written, or was lost, is an error; else it reads as NaN.
    level
        Name of the level to open, also one that the metadata do not name yet; the finest by default.

    Raises
    ------
    InputError
        The store is missing or is no such image, or has no such level.
    """
    if not is_zarr(place):
        why = "is not a Zarr store" if exists(place) else "does not exist"
        raise InputError("volume", str(place), why)
    try:
        group = zarr.open_group(zarr_store(place), mode=mode)
        ome: Any = group.attrs["ome"]
        finest = str(ome["multiscales"][0]["datasets"][0]["path"])
        level = inner_name(level or finest, "volume", place)
        array = group[level]
    except (StorageError, InputError):
        raise
    except Exception as error:  # zarr raises many types for damaged metadata
        raise InputError(
            "volume", str(place), f"is not an OME-Zarr 0.5 image ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(array, zarr.Array) or array.ndim != 3:
        raise InputError("volume", str(place), f"its level {level!r} is not an array (z, y, x)")
    return VolumeStore(place, group, level, writable=mode == "r+", complete=complete)


def _ome(voxel_size_nm: float | None, name: str) -> dict[str, Any]:
    """OME-Zarr 0.5 metadata of a single-level image; a lone level needs no translation."""
    unit = {} if voxel_size_nm is None else {"unit": "nanometer"}
    scale = [1.0 if voxel_size_nm is None else float(voxel_size_nm)] * 3
    level = {"path": LEVEL, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    axes = [{"name": axis, "type": "space", **unit} for axis in AXES]
    return {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": [level]}]}
