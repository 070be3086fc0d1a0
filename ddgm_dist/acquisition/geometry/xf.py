"""Alignment of images by IMOD's transforms (``.xf``) and the newstack command that applies them."""

from __future__ import annotations

from pathlib import Path

from ddgm_dist.acquisition.companions import Companions
from ddgm_dist.acquisition.geometry.alignment import Alignment, turned_size
from ddgm_dist.acquisition.source import Source
from ddgm_dist.acquisition.written_names import name_of, same_name
from ddgm_dist.errors import InputError
from ddgm_dist.readers.imod.commands import (
    NewstackCommand,
    read_newstack_command,
)
from ddgm_dist.readers.imod.transforms import read_xf
from ddgm_dist.tilts.provenance import Provenance
from ddgm_dist.views.affine import Affine

__all__ = ["by_xf"]


def by_xf(path: Path, source: Source, record: Provenance) -> Alignment:
    """Alignment by a file of transforms.

    Parameters
    ----------
    path
        The ``.xf`` file.
    source
        The open source and the files beside it.
    record
        Takes what is used and what is not.

    Raises
    ------
    InputError
        The file is about another number of views, or mirrors one.
    """
    views, height, width = source.stack.shape
    affines = read_xf(path)
    if len(affines) != views:
        raise InputError(
            "xf",
            str(path),
            f"has {len(affines)} transforms for {views} views",
            "give the file that belongs to the stack, or --xf none if the images are aligned",
        )
    mirrors = [i for i, a in enumerate(affines) if a.determinant < 0]
    if mirrors:
        raise InputError(
            "xf",
            str(path),
            f"mirrors view {mirrors[0] + 1} (its determinant is negative), which inverts the "
            "handedness of the specimen",
        )
    size, origin = turned_size(affines[views // 2], (height, width)), path.name
    centre_x = 0.0
    newstack = _newstack(path, source.companions, record)
    if newstack is not None and newstack.size_out is not None:
        binned = newstack.bin_by
        columns, rows = newstack.size_out
        size, origin = (rows * binned, columns * binned), "the newstack command"
    if newstack is not None and any(newstack.offsets):
        x, y = newstack.offsets
        affines = tuple(a.then(Affine(dx=-x, dy=-y)) for a in affines)
        centre_x = x
        record.say("offset of the images", f"{x:g}, {y:g} pixels", "the newstack command")
    record.say("alignment", f"{views} transforms", path.name)
    record.say("aligned images", f"{size[0]} x {size[1]}", origin)
    return Alignment(affines, size, centre_x=centre_x)


def _newstack(xf: Path, beside: Companions | None, record: Provenance) -> NewstackCommand | None:
    """IMOD's command that applies the transforms, if it is about this file."""
    if beside is None or beside.newstack_command is None:
        return None
    path = beside.newstack_command
    command = read_newstack_command(path)
    named = command.transform_file
    exact = beside.case_matters
    if named is not None and not same_name(name_of(named), xf.name, exact=exact):
        record.skip(path.name, f"it is about {named}")
        return None
    stack = command.input_file
    stem = beside.base if stack is None else Path(name_of(stack)).stem
    if named is None and not same_name(stem, beside.base, exact=exact):
        record.skip(path.name, f"it is about {stack}")
        return None
    for name in (command.distortion_file, command.gradient_file):
        if name:
            record.warnings.append(f"{path.name}: the corrections of {name} are not used")
    if command.geometry_not_read:
        record.warnings.append(f"{path.name}: {', '.join(command.geometry_not_read)} are not used")
    return command
