"""The images of a training: read into memory, checked, and described for the recipe."""

from __future__ import annotations

from collections.abc import Sequence
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

__all__ = ["Data", "describe_data", "make_sampler", "read_images"]

Data = list[dict[str, Any]]

_BLOCK_BYTES = 2**27


def make_sampler(
    argument: str,
    paths: Sequence[Place],
    planes: Sequence[str],
    z_range: slice | None,
    patch: int,
    seed: int,
) -> tuple[PatchSampler, Data]:
    """Patches of the volumes at ``paths``, and their description."""
    if not paths or not planes:
        raise InputError(argument if planes else "planes", "[]", "is empty", "give at least one")
    for plane in planes:
        if plane not in PLANES:
            raise InputError("planes", plane, f"is not one of {', '.join(PLANES)}")
    volumes = []
    for path in paths:
        volume = _read(path, z_range)
        if not drawable_planes(volume.shape, planes, patch):
            raise InputError(
                argument,
                str(path),
                f"of {volume.shape} voxels (z, y, x) is smaller than a patch of {patch} pixels in "
                f"every plane of {', '.join(planes)}",
                "give larger images or a smaller patch",
            )
        volumes.append(volume)
    sampler = PatchSampler(volumes, size=patch, planes=tuple(planes), seed=seed)
    return sampler, [describe_data(p, sampler, i, z_range) for i, p in enumerate(paths)]


def read_images(path: str | Path, z_range: slice | None = None) -> NDArray[Any]:
    """Read a volume, or some of its sections; integers of up to 16 bits are kept, else float32.

    Raises
    ------
    InputError
        If it cannot be opened, holds NaN or infinity, or ``z_range`` reaches beyond it.
    """
    return _read(locate(path, "images"), z_range)


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
    first = 0 if z_range.start is None else int(z_range.start)
    last = depth if z_range.stop is None else int(z_range.stop)
    if z_range.step not in (None, 1) or not 0 <= first < last <= depth:
        shown = f"{first}:{last}" + (f":{z_range.step}" if z_range.step else "")
        raise InputError("z_range", shown, f"is not a range within the {depth} sections of {path}")
    return first, last
