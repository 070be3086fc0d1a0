"""Numbers that an HDF5 file gives for a stack: kinds of images, angles, pixel size."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.readers.hdf5.search import find_near
from ddgm_dist.readers.hdf5.storage import find_storage
from ddgm_dist.readers.hdf5.tree import Node, Tree, as_text, broken_link
from ddgm_dist.readers.stacks.names import ANGLE_NAMES, KEY_NAMES, unit_by_name
from ddgm_dist.readers.units import angles_in_degrees, length_unit_nm

if TYPE_CHECKING:
    import h5py

__all__ = ["Context", "image_kinds", "read_pixel_size", "read_tilt_angles"]

# Of NXtomo; ESRF writes -1 for images that were taken again to see whether the specimen moved.
_KINDS = {0: "projections", 1: "flats", 2: "darks", 3: "invalid", -1: "alignment images"}
_SQUARE = 0.01


@dataclass
class Context:
    """A file that is being looked at, and what was found so far.

    Attributes
    ----------
    file, tree
        The file and what it holds.
    source
        Its path, for messages.
    stack
        The dataset of the projections.
    notes
        What was decided, and what is there and not used.
    """

    file: h5py.File
    tree: Tree
    source: str
    stack: Node
    notes: list[str] = field(default_factory=list)

    def values(self, node: Node) -> NDArray[Any]:
        """All values of a small dataset.

        Raises
        ------
        InputError
            They are not there, or cannot be read.
        """
        where = f"{self.source}:{node.path}"
        dataset = self.file[node.path]
        if dataset.is_virtual or dataset.external or dataset.chunks or dataset.ndim:
            find_storage(dataset, node.path)
        try:
            return np.asarray(dataset[()])
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError("source", where, f"cannot be read ({error})") from error

    def unit(self, node: Node) -> str:
        """The unit that a dataset names; empty where it names none."""
        attributes = self.file[node.path].attrs
        return next(
            (as_text(attributes[key]) for key in ("units", "unit") if key in attributes), ""
        )


def image_kinds(
    context: Context, images: int, *, chosen: bool, projected: bool = True
) -> dict[str, NDArray[np.intp]]:
    """Numbers of the projections, flats and darks by the file's image key; none without one.

    Parameters
    ----------
    context
        The file.
    images
        Images of the stack.
    chosen
        Whether the user named the dataset: then a key of another length belongs to other images.
    projected
        Whether there must be a projection.

    Raises
    ------
    InputError
        The key has another length than the stack, unknown values, or no projection.
    """
    found = find_near(context.tree, context.stack, KEY_NAMES, lambda node: node.is_list)
    if not found:
        return {}
    node, notes = found[0], context.notes
    where, key = f"{context.source}:{node.path}", context.values(node).ravel()
    if len(key) != images and chosen and node.parent != context.stack.parent:
        notes.append(f"{node.path} has {len(key)} entries, not {images}: not used")
        return {}
    if len(key) != images:
        raise InputError(
            "image_key",
            where,
            f"has {len(key)} entries, and {context.stack.path} has {images} images",
            "the file is incomplete; or name another dataset with --dataset",
        )
    strange = sorted({*key.tolist()} - {*_KINDS})
    if strange:
        why = f"holds {strange[0]:g}; known are " + ", ".join(f"{k} {v}" for k, v in _KINDS.items())
        raise InputError("image_key", where, why)
    kinds = {name: np.flatnonzero(key == value) for value, name in _KINDS.items()}
    shown = ", ".join(f"{len(numbers)} {name}" for name, numbers in kinds.items() if len(numbers))
    notes.append(f"{node.path} says which images are which: {shown}")
    if projected and not len(kinds["projections"]):
        raise InputError("image_key", where, f"names no projection: {shown}")
    for other in found[1:]:
        if other.name != node.name and not np.array_equal(context.values(other).ravel(), key):
            notes.append(f"{other.path} differs from it: not used")
    return kinds


def read_tilt_angles(
    context: Context, images: int, picked: NDArray[np.intp] | None
) -> tuple[tuple[float, ...], str] | None:
    """Angles of the projections in degrees, and where they come from.

    Parameters
    ----------
    context
        The file.
    images
        Images of the stack.
    picked
        Numbers of the projections among them; None for all.

    Raises
    ------
    InputError
        There are more or fewer angles than images, or their unit is not clear.
    """
    tree, stack, notes = context.tree, context.stack, context.notes
    found = find_near(tree, stack, ANGLE_NAMES, lambda node: node.is_list)
    if not found:
        for path in tree.broken:
            if path.rpartition("/")[2] in ANGLE_NAMES:
                raise broken_link(tree, path, context.source)
        notes.append(
            "no angles: no list named " + " or ".join(ANGLE_NAMES[:3]) + " near the images"
        )
        return None
    count = images if picked is None else len(picked)
    fitting = [node for node in found if _length(node) in (images, count)]
    if not fitting:
        raise _wrong_count(context, found[0], images, count)
    node = fitting[0]
    values = context.values(node).ravel().astype(np.float64)
    if picked is not None and len(values) == images:
        values = values[picked]
    elif picked is not None:
        notes.append(f"{node.path} has one angle per projection, none for flats and darks")
    unit = context.unit(node) or unit_by_name(node.name)
    where = f"{context.source}:{node.path}"
    degrees, how = angles_in_degrees(values.tolist(), unit, where)
    notes += [f"{other.path} {other.shape}: not used" for other in found if other is not node]
    return degrees, f"{node.path}, {how}"


def _length(node: Node) -> int:
    return math.prod(node.shape or (0,))


def _wrong_count(context: Context, node: Node, images: int, count: int) -> InputError:
    stack, length = context.stack, _length(node)
    of_them = f", of which {count} are projections" if count != images else ""
    hint = "give --angles FILE with one angle for each projection"
    if length in (stack.shape or ()):
        hint = (
            "the angles fit another axis: write its attribute axes, such as 'y:theta:x', or store it "
            "as (tilt, row, column)"
        )
    return InputError(
        "angles",
        f"{context.source}:{node.path}",
        f"holds {length} angles, and {stack.path} {stack.shape} has {images} images{of_them}",
        hint,
    )


def read_pixel_size(context: Context) -> tuple[float, str] | None:
    """Edge of a pixel, nm, and where it comes from; None where no unit or no size is given.

    A size at the specimen is preferred to one that a detector states.

    Raises
    ------
    InputError
        Pixels are not square.
    """
    for names, of_detector in _SIZES:
        sizes = _lengths(context, names, of_detector)
        if not sizes:
            continue
        if len(sizes) == 2 and abs(sizes[0][0] - sizes[1][0]) > _SQUARE * sizes[0][0]:
            raise InputError(
                "pixel_size_nm",
                context.source,
                f"pixels are not square: {sizes[0][1]} is {sizes[0][0]:g} nm, {sizes[1][1]} is "
                f"{sizes[1][0]:g} nm",
                "resample the images to square pixels",
            )
        size, path = sizes[0]
        if of_detector:
            context.notes.append(f"{path}: taken for the pixel size at the specimen")
        return size, path
    found = context.file[context.stack.path].attrs.get("element_size_um")
    edges = [] if found is None else np.ravel(found).tolist()[-2:]
    if len(edges) == 2 and edges[0] > 0 and math.isclose(*edges, rel_tol=_SQUARE):
        return 1e3 * edges[0], f"element_size_um of {context.stack.path}"
    return None


# Names of the two sizes, and whether a detector states them; the first that are there count.
_SIZES = (
    (("x_magnified_pixel_size", "y_magnified_pixel_size"), False),
    (("sample/x_pixel_size", "sample/y_pixel_size"), False),
    (("actual_pixel_size_x", "actual_pixel_size_y"), False),
    (("pixel_size_nm",), False),
    (("x_pixel_size", "y_pixel_size"), True),
    (("objective/resolution",), False),
    (("pixel_size_x", "pixel_size_y"), True),
    (("pixel_size",), True),
)


def _lengths(
    context: Context, names: tuple[str, ...], of_detector: bool
) -> list[tuple[float, str]]:
    found = []
    for name in names:
        group, _, plain = name.rpartition("/")
        nodes = find_near(
            context.tree,
            context.stack,
            (plain,),
            lambda n: n.shape in ((), (1,)) and n.kind in "fiu",
        )
        for node in nodes:
            if (
                group
                and group not in node.parent.split("/")
                and not _is_class(context, node, group)
            ):
                continue
            # DXchange states the size of the camera's own pixels here, in front of the objective.
            camera = name.startswith("pixel_size") and "/detector" in node.parent
            size = _nanometres(context, node, camera=camera and of_detector)
            if size is not None:
                found.append((size, node.path))
                break
    return found


def _is_class(context: Context, node: Node, group: str) -> bool:
    parent = context.tree.nodes.get(node.parent)
    return parent is not None and parent.nx_class == f"NX{group}"


def _nanometres(context: Context, node: Node, *, camera: bool) -> float | None:
    value = float(context.values(node).ravel()[0])
    unit = context.unit(node) or ("nm" if node.name.endswith("_nm") else "")
    scale = length_unit_nm(unit)
    note = None
    if scale is None:
        note = f"names {'no unit' if not unit else f'the unit {unit!r}'}: not used"
    elif not (math.isfinite(value) and value > 0):
        note = "is no size: not used"
    elif camera:
        note = "is that of the camera, not of the specimen: not used; give --pixel-size"
    if note is None:
        return value * (scale or 1)
    sentence = f"{node.path} = {value:g} {note}"
    if sentence not in context.notes:
        context.notes.append(sentence)
    return None
