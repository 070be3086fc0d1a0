"""The images of a training: read into memory, checked, and described for the recipe."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import Place
from ddgm_dist.readers.volumes import open_volume_at
from ddgm_dist.training.patches import PLANES, PatchSampler, drawable_planes

__all__ = [
    "Data",
    "Volumes",
    "check_planes",
    "describe_data",
    "make_sampler",
    "read_images",
    "read_volumes",
    "sections_of",
]

Data = list[dict[str, Any]]

_BLOCK_BYTES = 2**27


@dataclass(frozen=True)
class Volumes:
    """Volumes in memory.

    Attributes
    ----------
    places
        Where they come from.
    values
        Their arrays, ``(z, y, x)``.
    sections
        The range of their sections that was read; None for all.
    """

    places: tuple[Place, ...] = ()
    values: tuple[NDArray[Any], ...] = ()
    sections: slice | None = None


def sections_of(z_range: object) -> slice | None:
    """A range of sections as a slice; None for all.

    Parameters
    ----------
    z_range
        A pair (start, stop) or a slice, of whole numbers or None for an end of the volume; or None.

    Raises
    ------
    InputError
        It is something else.
    """
    if z_range is None:
        return None
    found = z_range
    if isinstance(z_range, tuple | list) and len(z_range) == 2:
        found = slice(z_range[0], z_range[1])
    try:
        if not isinstance(found, slice):
            raise TypeError
        ends = [
            None if end is None else operator.index(end)
            for end in (found.start, found.stop, found.step)
        ]
    except TypeError:
        raise InputError(
            "z_range",
            z_range,
            "is no range of sections",
            "give a pair (start, stop) or a slice, such as (0, 100)",
        ) from None
    return slice(*ends)


def check_planes(planes: Sequence[str]) -> None:
    """Refuse what are no planes of a volume."""
    if isinstance(planes, str) or not planes:
        why = "must be a list of planes" if planes else "is empty"
        raise InputError("planes", planes or "[]", why, 'write for example ["yx"]')
    for plane in planes:
        if plane not in PLANES:
            raise InputError("planes", plane, f"is not one of {', '.join(PLANES)}")


def read_volumes(argument: str, places: Sequence[Place], z_range: slice | None = None) -> Volumes:
    """Read volumes, or some of their sections.

    Raises
    ------
    InputError
        There are none; or as of `read_images`.
    """
    if not places:
        raise InputError(argument, "[]", "is empty", "give at least one")
    return Volumes(tuple(places), tuple(_read(place, z_range) for place in places), z_range)


def make_sampler(
    argument: str, volumes: Volumes, planes: Sequence[str], patch: int, seed: int
) -> tuple[PatchSampler, Data]:
    """Patches of volumes, and the description of these.

    Raises
    ------
    InputError
        A volume is smaller than a patch in every plane.
    """
    for place, volume in zip(volumes.places, volumes.values, strict=True):
        if not drawable_planes(volume.shape, planes, patch):
            raise InputError(
                argument,
                str(place),
                f"of {volume.shape} voxels (z, y, x) is smaller than a patch of {patch} pixels in "
                f"every plane of {', '.join(planes)}",
                "give larger images or a smaller patch",
            )
    sampler = PatchSampler(volumes.values, size=patch, planes=tuple(planes), seed=seed)
    places = enumerate(volumes.places)
    return sampler, [describe_data(p, sampler, i, volumes.sections) for i, p in places]


def read_images(
    path: str | Path, z_range: slice | tuple[int | None, int | None] | None = None
) -> NDArray[Any]:
    """Read a volume, or some of its sections; integers of up to 16 bits are kept, else float32.

    Raises
    ------
    InputError
        If it cannot be opened, holds NaN or infinity, or ``z_range`` reaches beyond it.
    """
    return _read(locate(path, "images"), sections_of(z_range))


def _read(path: Place, z_range: slice | None) -> NDArray[Any]:
    source = open_volume_at(path)
    depth, height, width = source.shape
    first, last = _sections(path, z_range, depth)
    keep = source.dtype.kind in "iu" and source.dtype.itemsize <= 2
    values: NDArray[Any] = np.empty(
        (last - first, height, width), dtype=source.dtype.newbyteorder("=") if keep else np.float32
    )
    block = max(1, _BLOCK_BYTES // (4 * height * width))
    for start in range(first, last, block):
        stop = min(start + block, last)
        part = source.read(Box((start, 0, 0), (stop, height, width)))
        if not keep and not np.isfinite(part).all():
            raise InputError("images", str(path), "holds NaN or infinity")
        values[start - first : stop - first] = part
    return values


def describe_data(
    path: Place, sampler: PatchSampler, index: int, z_range: slice | None = None
) -> dict[str, Any]:
    """Description of one volume of a sampler for the recipe; names and numbers, no paths."""
    volume, (mean, std) = sampler.volumes[index], sampler.moments[index]
    return {
        "name": path.name,
        "shape": list(volume.shape),
        "dtype": str(volume.dtype),
        "first_section": (z_range.start or 0) if z_range is not None else 0,
        "planes": list(drawable_planes(volume.shape, sampler.planes, sampler.size)),
        "mean": mean,
        "std": std,
    }


def _sections(path: Place, z_range: slice | None, depth: int) -> tuple[int, int]:
    if z_range is None:
        return 0, depth
    first = 0 if z_range.start is None else z_range.start
    last = depth if z_range.stop is None else z_range.stop
    if z_range.step not in (None, 1) or not 0 <= first < last <= depth:
        shown = f"{first}:{last}" + (f":{z_range.step}" if z_range.step else "")
        raise InputError("z_range", shown, f"is not a range within the {depth} sections of {path}")
    return first, last
