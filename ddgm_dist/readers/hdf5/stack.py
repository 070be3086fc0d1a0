"""Tilt series in HDF5: NXtomo and DXchange files of beamlines, and any dataset of three axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import DdgmError, InputError
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.readers.hdf5.file import Hdf5File, open_h5, stamp_of
from ddgm_dist.readers.hdf5.numbers import Context, image_kinds, read_pixel_size, read_tilt_angles
from ddgm_dist.readers.hdf5.search import find_beside, find_projections
from ddgm_dist.readers.hdf5.storage import find_storage
from ddgm_dist.readers.hdf5.tree import Node, as_text, read_tree, unique
from ddgm_dist.readers.hdf5.volume import Hdf5Volume
from ddgm_dist.readers.stacks.axes import StackAxes, find_axes, split_names
from ddgm_dist.readers.stacks.names import DARK_NAMES, FLAT_NAMES, KEY_NAMES
from ddgm_dist.readers.stacks.tilt_stack import TiltStack

if TYPE_CHECKING:
    import h5py

__all__ = ["HDF5_SUFFIXES", "open_hdf5", "open_keyed"]

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".he5")
_SHOWN = 8
# What moves or turns images, and is not applied.
_GEOMETRY = (
    "x_translation",
    "y_translation",
    "z_translation",
    "data_shift_x",
    "data_shift_y",
    "x_flipped",
    "y_flipped",
    "magnification",
    "estimated_cor_from_motor",
    "x_rotation_axis_pixel_position",
    "scale_factor",
)


def open_hdf5(path: Path, dataset: str | None = None, *, angles: bool = True) -> TiltStack:
    """Open a tilt series in an HDF5 file; of its images nothing is read.

    Parameters
    ----------
    path
        The file: NXtomo, DXchange, or one with a single dataset of three axes.
    dataset
        Path of the dataset in the file that holds the projections; None looks for it.
    angles
        Whether the angles are wanted; else they are not looked for, and no error is made of them.

    Raises
    ------
    InputError
        The file is missing, damaged, locked, being written or no HDF5 file. It is not clear which
        dataset holds the projections. A file that it refers to is missing. Angles, image key, flats or
        darks do not fit the projections.
    """
    try:
        with open_h5(path) as file:
            tree = read_tree(file)
            node = find_projections(file, tree, dataset, str(path))
            context = Context(file, tree, str(path), node)
            return _open_stack(context, path, chosen=dataset is not None, angles=angles)
    except DdgmError:
        raise
    except Exception as error:  # h5py raises many types for damaged files
        raise _damaged(path, error) from error


def open_keyed(path: Path) -> dict[str, VolumeSource] | None:
    """Open the images of each kind, ``projections``, ``flats`` or ``darks``, by a file's image key.

    Parameters
    ----------
    path
        The file; it may hold one kind only.

    Returns
    -------
    dict or None
        Images ``(image, row, column)`` of the kinds that are there; None where the file has no key.

    Raises
    ------
    InputError
        The file is damaged, or its key does not fit its images.
    """
    try:
        with open_h5(path) as file:
            tree = read_tree(file)
            if not any(n.name in KEY_NAMES and n.is_list for n in tree.nodes.values()):
                return None
            node = find_projections(file, tree, None, str(path))
            context = Context(file, tree, str(path), node)
            axes = _axes(context, node, None)
            kinds = image_kinds(context, axes.shape[0], chosen=False, projected=False)
            if not kinds:
                return None
            storage = find_storage(file[node.path], node.path, axes.order[0])
            opened = Hdf5File(path, tuple(stamp_of(one) for one in {path: None, **storage.files}))
            return {
                kind: _volume(opened, file, node, axes, images)
                for kind, images in kinds.items()
                if len(images)
            }
    except DdgmError:
        raise
    except Exception as error:  # h5py raises many types for damaged files
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError("source", str(path), f"is a damaged HDF5 file ({error})", "copy it again")


def _open_stack(context: Context, path: Path, *, chosen: bool, angles: bool) -> TiltStack:
    tree, node, notes = context.tree, context.stack, context.notes
    if not tree.is_whole:
        notes.append("the file holds more groups than were looked at")
    axes = _axes(context, node, None)
    kinds = image_kinds(context, axes.shape[0], chosen=chosen)
    picked = kinds.get("projections")
    origins = {"stack": node.path}
    if picked is not None:
        origins["stack"] += f", {len(picked)} of {axes.shape[0]} images"
    if axes.order != (0, 1, 2):
        notes.append(f"{node.path} {node.shape}: axes {axes.order} are (tilt, row, column)")
    found = read_tilt_angles(context, axes.shape[0], picked) if angles else None
    pixel = read_pixel_size(context)
    parts = {"stack": (node, axes, picked)}
    for kind, names in (("flats", FLAT_NAMES), ("darks", DARK_NAMES)):
        beside = find_beside(tree, node, names, str(path))
        if len(kinds.get(kind, ())):
            parts[kind] = (node, axes, kinds[kind])
            origins[kind] = f"{node.path}, {len(kinds[kind])} of {axes.shape[0]} images"
        elif beside is not None:
            parts[kind] = (beside, _reference_axes(context, beside, axes), None)
            origins[kind] = beside.path
        else:
            notes.append(f"no {kind} beside {node.path}")
    files = {path: None}
    for part, place in {value[0].path: value[1] for value in parts.values()}.items():
        storage = find_storage(context.file[part], part, place.order[0])
        files |= storage.files
        notes += storage.notes
    opened = Hdf5File(path, tuple(stamp_of(file) for file in files))
    volumes = {kind: _volume(opened, context.file, *part) for kind, part in parts.items()}
    _note_unused(context, {part[0].identity for part in parts.values()})
    if found is not None:
        origins["angles_deg"] = found[1]
    if pixel is not None:
        origins["pixel_size_nm"] = pixel[1]
    return TiltStack(
        stack=volumes["stack"],
        flats=volumes.get("flats"),
        darks=volumes.get("darks"),
        angles_deg=None if found is None else found[0],
        pixel_size_nm=None if pixel is None else pixel[0],
        origins=origins,
        notes=tuple(notes),
    )


def _volume(
    opened: Hdf5File, file: h5py.File, node: Node, axes: StackAxes, images: NDArray[np.intp] | None
) -> Hdf5Volume:
    dataset = file[node.path]
    chunks = dataset.chunks
    chunk = (1, *axes.shape[1:]) if chunks is None else axes.pick(_padded(chunks))
    return Hdf5Volume(
        opened, node.path, axes, ndim=dataset.ndim, dtype=dataset.dtype, chunk=chunk, images=images
    )


def _padded(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape with at least three axes; those in front have extent one."""
    return (*([1] * (3 - len(shape))), *shape)


def _axes(context: Context, node: Node, default: Sequence[str] | None) -> StackAxes:
    """Axes of a dataset by its attributes, or by those of a group that shows it."""
    shape = _padded(node.shape or ())
    names = _names(context, node) or default
    if names is not None and len(names) != len(shape):
        context.notes.append(
            f"{node.path}: names of {len(names)} axes, {list(names)}, are not used"
        )
        names = None
    return find_axes(shape, names, f"{context.source}:{node.path}")


def _names(context: Context, node: Node) -> list[str] | None:
    dataset = context.file[node.path]
    if "axes" in dataset.attrs:
        return split_names(dataset.attrs["axes"])
    for shown in context.tree.nodes.values():
        group = context.tree.nodes.get(shown.parent)
        if shown.identity == node.identity and group is not None and group.nx_class == "NXdata":
            attributes = context.file[group.path].attrs
            names = split_names(attributes.get("axes"))
            if as_text(attributes.get("signal", "")) == shown.name and len(names) == dataset.ndim:
                return names
    labels = [dim.label for dim in dataset.dims]
    return labels if any(labels) else None


def _reference_axes(context: Context, node: Node, axes: StackAxes) -> StackAxes:
    """Axes of flats or darks, which must fit the projections.

    Raises
    ------
    InputError
        Their images are of another size.
    """
    found = _axes(context, node, None)
    if found.shape[1:] != axes.shape[1:] and node.shape is not None and len(node.shape) == 3:
        found = StackAxes(node.shape, axes.order) if len(axes.stored) == 3 else found
    if found.shape[1:] != axes.shape[1:]:
        raise InputError(
            "source",
            f"{context.source}:{node.path}",
            f"has images of {found.shape[1:]} pixels, and {context.stack.path} of {axes.shape[1:]}",
            "the two belong to different acquisitions; or one was cropped or binned",
        )
    return found


def _note_unused(context: Context, used: set[Any]) -> None:
    """Note other stacks, and what moves or turns images and is not applied."""
    notes = context.notes
    others = [node for node in context.tree.stacks() if node.identity not in used]
    notes += [f"{node.path} {node.shape}: not used" for node in others[:_SHOWN]]
    if len(others) > _SHOWN:
        notes.append(f"{len(others) - _SHOWN} more datasets of three axes: not used")
    numbers = [n for n in context.tree.nodes.values() if n.name in _GEOMETRY and n.kind in "fiub"]
    for node in unique(numbers):
        try:
            values = context.values(node)
        except InputError as error:
            notes.append(f"{node.path}: not used, and {error.why}")
            continue
        if (
            values.size
            and np.any(values != 0)
            and not (values.size > 1 and np.all(values == values[0]))
        ):
            shown = f"{values.ravel()[0]}" if values.size == 1 else f"{values.size} values"
            notes.append(f"{node.path} = {shown}: not used")
    notes += [f"{path}: a broken link to {to}" for path, to in context.tree.broken.items()]
