"""Tilt series in Zarr: OME-Zarr images, and arrays of versions 2 and 3 with their angles beside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import zarr

from ddgm_dist.errors import DdgmError, InputError
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.paths.place import Place
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.readers.stacks.axes import StackAxes, find_axes
from ddgm_dist.readers.stacks.names import DARK_NAMES, FLAT_NAMES
from ddgm_dist.readers.stacks.tilt_stack import TiltStack
from ddgm_dist.readers.zarr.numbers import missing_files, read_angles_beside
from ddgm_dist.readers.zarr.search import Found, child, find_array
from ddgm_dist.readers.zarr.volume import Node, ZarrVolume, open_node

__all__ = ["open_zarr_stack"]

_SQUARE = 0.01


def open_zarr_stack(place: Place, dataset: str | None = None, *, angles: bool = True) -> TiltStack:
    """Open a tilt series in a Zarr store; of its images nothing is read.

    Parameters
    ----------
    place
        The store: an array, an OME-Zarr image (0.4, 0.5), or a group with an array of three axes.
    dataset
        Path in it of the array that holds the projections; None looks for it.
    angles
        Whether the angles are wanted; else they are not looked for, and no error is made of them.

    Raises
    ------
    InputError
        The place holds no Zarr store, or a store that ddgm-dist has written. It is not clear which
        array holds the projections. Angles, flats or darks do not fit them. It is stored as pickles.
    StorageError
        The object store does not answer.
    """
    try:
        return _open_stack(open_node(place, "source"), place, dataset, angles=angles)
    except DdgmError:
        raise
    except Exception as error:  # zarr raises many types for damaged metadata
        why = f"its metadata are damaged ({type(error).__name__}: {error})"
        raise InputError("source", str(place), why, "put a good copy in its place") from error


def _open_stack(node: Node, place: Place, dataset: str | None, *, angles: bool) -> TiltStack:
    _refuse_ours(node, place)
    found = find_array(node, place, dataset)
    # A group is false where it is empty, and has to be listed for that.
    group = _group_around(place) if found.group is None else found.group
    _refuse_ours(group, place)
    axes = find_axes(found.array.shape, found.axis_names(), str(found.place))
    stack = ZarrVolume(found.array, str(found.place), axes, "source")
    notes = missing_files(found.array, found.place, axes)
    origins = {"stack": str(found.place)}
    if axes.order != tuple(range(len(axes.stored))):
        notes.append(f"{found.place} {axes.stored}: axes {axes.order} are (tilt, row, column)")
    degrees = read_angles_beside(found, group, axes.shape[0], notes) if angles else None
    pixel = _pixel_size(found, axes, notes)
    if degrees is not None:
        origins["angles_deg"] = degrees[1]
    if pixel is not None:
        origins["pixel_size_nm"] = pixel[1]
    flats, darks = (_reference(found, group, names, axes) for names in (FLAT_NAMES, DARK_NAMES))
    for kind, reference in (("flats", flats), ("darks", darks)):
        if reference is not None:
            origins[kind] = reference[1]
            notes += reference[2]
    return TiltStack(
        stack=stack,
        flats=None if flats is None else flats[0],
        darks=None if darks is None else darks[0],
        angles_deg=None if degrees is None else degrees[0],
        pixel_size_nm=None if pixel is None else pixel[0],
        origins=origins,
        notes=tuple(notes),
    )


def _refuse_ours(node: Node | None, place: Place) -> None:
    ours = None if node is None else node.attrs.asdict().get("ddgm_dist")
    if isinstance(ours, dict) and ours.get("kind") == "tilt-series":
        raise InputError(
            "source",
            str(place),
            "is a tilt-series store already",
            "it needs no ingest: give it to plan or reconstruct",
        )


def _group_around(place: Place) -> zarr.Group | None:
    """The group that an array lies in, if it lies in one."""
    if not is_zarr(place.parent):
        return None
    node = open_node(place.parent, "source")
    return node if isinstance(node, zarr.Group) else None


def _reference(
    found: Found, group: zarr.Group | None, names: Sequence[str], axes: StackAxes
) -> tuple[VolumeSource, str, list[str]] | None:
    """Flats or darks beside the projections: images, their place, and notes.

    Raises
    ------
    InputError
        Their images are of another size.
    """
    for name in names if group is not None else ():
        array = None if group is None else child(group, name, found.place.parent)
        if not isinstance(array, zarr.Array) or array.path == found.array.path:
            continue
        beside = Found(array, found.place.parent / name)
        own = find_axes(array.shape, beside.axis_names(), str(beside.place))
        if own.shape[1:] != axes.shape[1:] and len(own.stored) == len(axes.stored):
            own = StackAxes(own.stored, axes.order)
        if own.shape[1:] != axes.shape[1:]:
            raise InputError(
                "source",
                str(beside.place),
                f"has images of {own.shape[1:]} pixels, and {found.place} of {axes.shape[1:]}",
                "the two belong to different acquisitions; or one was cropped or binned",
            )
        notes = missing_files(array, beside.place, own)
        return ZarrVolume(array, str(beside.place), own, "source"), str(beside.place), notes
    return None


def _pixel_size(found: Found, axes: StackAxes, notes: list[str]) -> tuple[float, str] | None:
    """Edge of a pixel, nm, by OME metadata or an attribute, and where it comes from.

    Raises
    ------
    InputError
        Pixels are not square.
    """
    scales = found.scales_nm()
    if scales is not None:
        _, row, column = (scales[axis] for axis in axes.order)
        if row is None or column is None:
            notes.append("its OME scale has no unit of length: the pixel size is not known")
            return None
        if abs(row - column) > _SQUARE * row:
            raise InputError(
                "pixel_size_nm",
                str(found.place),
                f"pixels are not square: {row:g} nm along a column, {column:g} nm along a row",
                "resample the images to square pixels",
            )
        return row, "its OME scale"
    size = found.array.attrs.asdict().get("pixel_size_nm")
    if isinstance(size, int | float) and math.isfinite(size) and size > 0:
        return float(size), "its attribute pixel_size_nm"
    return None
