"""Coarser levels of a volume: arrays of its OME-Zarr group, and the metadata that name them.

Levels are made and filled before the metadata name them, and the metadata are replaced in one write.
So a reader sees either a volume of one level or the whole pyramid.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zarr

from ddgm_dist.core.box import Triple
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.safety import inner_name
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.volumes.layout import VolumeLayout
from ddgm_dist.volumes.store import VolumeStore, create_array

__all__ = ["Level", "create_level", "delete_level", "level_layout", "name_levels", "named_levels"]


# Voxels of a chunk and of a shard (1 and 4 MiB); a shard is made of eight times as many.
_CHUNK, _SHARD, _EDGE = 2**18, 2**20, 64


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes
    ----------
    name
        Name of its array within the group.
    factor
        Voxels of level 0 along each axis ``(z, y, x)`` in one of this level.
    shape
        Extent, voxels ``(z, y, x)``.
    """

    name: str
    factor: Triple
    shape: Triple


def level_layout(shape: Triple) -> VolumeLayout:
    """Chunks of 64 x 64 x 64 voxels and shards of four of them, or longer ones where it is thin."""
    z, y = (min(n, _EDGE) for n in shape[:2])
    chunk = (z, y, min(shape[2], _CHUNK // (z * y)))
    shard = list(chunk)
    # Rows first: neighbours along x are in one chunk already.
    for axis in (1, 2, 2, 2, 0):
        if shard[axis] < shape[axis] and 2 * math.prod(shard) <= _SHARD:
            shard[axis] *= 2
    return VolumeLayout(shape, (shard[0], shard[1], shard[2]), chunk)


def create_level(place: Place, name: str, shape: Triple) -> None:
    """Make the empty (NaN) array of a level, in place of one that is there.

    Raises
    ------
    StorageError
        It cannot be written.
    """
    try:
        group = zarr.open_group(zarr_store(place), mode="r+")
        create_array(group, name, level_layout(shape), overwrite=True)
    except OSError as error:
        raise write_error(place, 4096, error) from error


def delete_level(place: Place, name: str) -> None:
    """Delete the array of a level, if it exists."""
    group = zarr.open_group(zarr_store(place), mode="r+")
    if name in group:
        del group[name]


def named_levels(store: VolumeStore) -> list[str]:
    """Names of the levels that the metadata of an open volume list, the finest first."""
    image = store.attributes["ome"]["multiscales"][0]
    return [inner_name(str(d["path"]), "volume", store.path) for d in image["datasets"]]


def name_levels(store: VolumeStore, levels: Sequence[Level]) -> None:
    """Replace the list of levels in the metadata, in one write.

    Scales and positions follow from those of the finest level, which comes first and stays as it is.
    A coarse voxel has the centre of the fine ones in it. That lies half a coarse voxel, less half a
    fine one, beyond the centre of the first fine voxel.

    Raises
    ------
    StorageError
        The metadata cannot be written.
    """
    ome = copy.deepcopy(store.attributes["ome"])
    image = ome["multiscales"][0]
    finest = image["datasets"][0]
    image["datasets"] = [finest, *(_dataset(finest, level) for level in levels[1:])]
    if len(levels) > 1:
        image["type"] = "mean"
    else:
        image.pop("type", None)
    try:
        zarr.open_group(zarr_store(store.place), mode="r+").attrs["ome"] = ome
    except OSError as error:
        raise write_error(store.place, 4096, error) from error
    store.attributes["ome"] = ome


def _dataset(finest: dict[str, Any], level: Level) -> dict[str, Any]:
    """Metadata of a coarse level."""
    found = {t["type"]: t[t["type"]] for t in finest["coordinateTransformations"]}
    scale, origin = found["scale"], found.get("translation", [0.0] * 3)
    coarse = [s * f for s, f in zip(scale, level.factor, strict=True)]
    centre = [o + (c - s) / 2 for o, c, s in zip(origin, coarse, scale, strict=True)]
    return {
        "path": level.name,
        "coordinateTransformations": [
            {"type": "scale", "scale": coarse},
            {"type": "translation", "translation": centre},
        ],
    }
