"""Find the array of a Zarr store that holds the projections, and what OME metadata say of it."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr

from ddgm_dist.errors import InputError
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.safety import inner_name
from ddgm_dist.readers.stacks.names import is_reference
from ddgm_dist.readers.units import length_unit_nm
from ddgm_dist.readers.zarr.volume import Node, level_zero

__all__ = ["Found", "child", "find_array", "is_stack", "multiscale_of"]

_DEEP, _SHOWN = 4, 8


@dataclass
class Found:
    """An array, and the group that it lies in.

    Attributes
    ----------
    array
        The array.
    place
        Its place.
    group
        The group; None where the place itself is an array.
    multiscale
        OME metadata of the image that it is a level of.
    level
        Its path in them.
    """

    array: zarr.Array[Any]
    place: Place
    group: zarr.Group | None = None
    multiscale: dict[str, Any] = field(default_factory=dict)
    level: str = ""

    def axis_names(self) -> list[str] | None:
        """Names of the axes by OME metadata, or by the array; None where there are none."""
        stated = self.multiscale.get("axes")
        if isinstance(stated, list) and len(stated) == self.array.ndim:
            return [_axis_name(axis) for axis in stated]
        names = getattr(self.array.metadata, "dimension_names", None)
        if names is None:
            names = self.array.attrs.asdict().get("_ARRAY_DIMENSIONS")
        if not isinstance(names, list | tuple):
            return None
        return [name if isinstance(name, str) else "" for name in names]

    def scales_nm(self) -> list[float | None] | None:
        """Extent of a pixel along each axis, nm; None for an axis without a unit of length."""
        stated = self.multiscale.get("axes")
        if not isinstance(stated, list) or len(stated) != self.array.ndim:
            return None
        units = [axis.get("unit") if isinstance(axis, dict) else None for axis in stated]
        known = [length_unit_nm(unit) for unit in units]
        scale = _product_of_scales(self.multiscale, self.level, self.array.ndim)
        if scale is None:
            return None
        return [None if u is None else s * u for s, u in zip(scale, known, strict=True)]


def _axis_name(axis: object) -> str:
    if isinstance(axis, dict):
        axis = "t" if axis.get("type") == "time" else axis.get("name")
    return axis if isinstance(axis, str) else ""


def _product_of_scales(
    multiscale: dict[str, Any], level: str, ndim: int
) -> tuple[float, ...] | None:
    """Scale of a level times that of its image; None without any."""
    datasets = multiscale.get("datasets")
    own = [d for d in datasets if isinstance(d, dict)] if isinstance(datasets, list) else []
    holders = [multiscale, *(d for d in own if d.get("path") == level)]
    found, product = False, [1.0] * ndim
    for holder in holders:
        for step in holder.get("coordinateTransformations") or ():
            scale = step.get("scale") if isinstance(step, dict) else None
            if not isinstance(scale, list) or len(scale) != ndim:
                continue
            if not all(isinstance(s, int | float) and math.isfinite(s) and s > 0 for s in scale):
                return None
            found, product = True, [p * s for p, s in zip(product, scale, strict=True)]
    return tuple(product) if found else None


def multiscale_of(attributes: dict[str, Any]) -> dict[str, Any]:
    """The first OME multiscale of a group's attributes; empty where there is none."""
    images = attributes.get("ome", attributes)
    try:
        found = images["multiscales"][0]
    except (KeyError, IndexError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def child(group: zarr.Group, name: str, place: Place) -> Node | None:
    """The array or group of a name in a group; None where there is nothing.

    Raises
    ------
    InputError
        Its metadata are damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return group.get(name)
    except (KeyError, ValueError, TypeError) as error:
        why = f"is damaged ({error})"
        raise InputError("source", f"{place}/{name}", why) from error


def is_stack(array: Node) -> bool:
    """Return whether an array has three axes, besides those of extent one, and real numbers."""
    if not isinstance(array, zarr.Array) or array.ndim < 3:
        return False
    kind = np.dtype(array.dtype).kind
    return kind in "fiu" and (array.ndim == 3 or sum(n != 1 for n in array.shape) == 3)


def find_array(node: Node, place: Place, dataset: str | None) -> Found:
    """The array that holds the projections.

    Parameters
    ----------
    node
        What the place holds.
    place
        The place, for messages.
    dataset
        Path of the array in it, or of a group with OME metadata; None looks for it.

    Raises
    ------
    InputError
        There is none, or there are several; or metadata name one that is not there.
    """
    if isinstance(node, zarr.Array):
        if dataset:
            why = "names a part of an array, which has none"
            raise InputError("dataset", dataset, why, f"{place} is an array itself: leave it out")
        return Found(node, place)
    path = "" if dataset is None else inner_name(dataset.strip("/"), "dataset", place)
    start = child(node, path, place) if path else node
    if start is None:
        raise InputError("dataset", path, f"is not in {place}", _there(node))
    if isinstance(start, zarr.Group):
        level = level_zero(start.attrs.asdict())
        if level is not None:
            inner = inner_name(level, "source", place)
            return _leaf(node, "/".join(filter(None, (path, inner))), place)
        if path:
            raise InputError(
                "dataset", path, f"is a group of {place} without OME metadata", _there(node)
            )
        return _only_stack(node, place)
    return _leaf(node, path, place)


def _leaf(root: zarr.Group, path: str, place: Place) -> Found:
    """An array by its path, with the closest OME metadata above it."""
    array = child(root, path, place)
    if not isinstance(array, zarr.Array):
        what = "is a group" if array is not None else "is not there"
        why = f"its metadata name an array {path!r}, which {what}"
        raise InputError("source", str(place), why)
    parts, group, multiscale, level = path.split("/"), root, {}, ""
    for i in range(len(parts)):
        above = child(root, "/".join(parts[:i]), place) if i else root
        if isinstance(above, zarr.Group):
            group = above
            stated = multiscale_of(above.attrs.asdict())
            if stated:
                multiscale, level = stated, "/".join(parts[i:])
    return Found(array, place / path, group, multiscale, level)


def _only_stack(root: zarr.Group, place: Place) -> Found:
    members = _members(root)
    images = [n for n, m in members.items() if isinstance(m, zarr.Group) and _image(m)]
    # Levels of an image count as one stack: the finest.
    stacks = [f"{image}/{level_zero(members[image].attrs.asdict())}" for image in images]
    stacks += [
        name
        for name, member in members.items()
        if is_stack(member)
        and not is_reference(name.rpartition("/")[2])
        and not any(name.startswith(f"{image}/") for image in images)
    ]
    if len(stacks) == 1:
        return _leaf(root, inner_name(stacks[0], "source", place), place)
    if not stacks:
        why = "holds no array of three axes"
        raise InputError("source", str(place), why, _there(root))
    shown = ", ".join(stacks[:_SHOWN]) + (", ..." if len(stacks) > _SHOWN else "")
    raise InputError(
        "source",
        str(place),
        f"holds {len(stacks)} arrays that may be the projections: {shown}",
        f"choose one with --dataset, such as --dataset {stacks[0]}",
    )


def _image(group: zarr.Group) -> bool:
    return level_zero(group.attrs.asdict()) is not None


def _members(root: zarr.Group) -> dict[str, Node]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that are no part of the store
        return dict(sorted(root.members(max_depth=_DEEP)))


def _there(root: zarr.Group) -> str:
    arrays = [
        f"{name} {member.shape}"
        for name, member in _members(root).items()
        if isinstance(member, zarr.Array)
    ]
    return f"arrays there: {', '.join(arrays[:_SHOWN])}" if arrays else "there are no arrays"
