"""Geometry that IMOD's command for the reconstruction, ``tilt.com``, adds to an alignment."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ddgm_dist.acquisition.companions import Companions
from ddgm_dist.acquisition.geometry.alignment import Alignment
from ddgm_dist.acquisition.source import Source
from ddgm_dist.acquisition.written_names import FolderNames, name_of, same_name
from ddgm_dist.errors import InputError
from ddgm_dist.readers.imod.commands import TiltCommand, read_tilt_command
from ddgm_dist.tilts.provenance import Provenance

__all__ = ["LEVEL_DEG", "with_tilt_command"]

# X-axis tilts below this are none.
LEVEL_DEG = 0.005
# Endings of the names of aligned stacks, as etomo gives them.
_MADE_OF = r"(_(pre)?ali|_ali_bin\d+|_3dfind|_3dfind_ali|_ctfcorr|_dose-filt|_fid|_erase|_bin\d+)?"


def with_tilt_command(
    found: Alignment, source: Source, beside: Companions, record: Provenance
) -> Alignment:
    """The alignment with what IMOD's command for the reconstruction says.

    Parameters
    ----------
    found
        Alignment by the other files.
    source, beside
        The source, and the files beside it.
    record
        Takes what is used and what is not.
    """
    path = beside.tilt_command
    if path is None:
        return found
    if found.aln is not None:
        record.skip(
            path.name,
            f"{found.aln_name} aligns the images; its sizes and views left out do not count",
        )
        return found
    command = read_tilt_command(path)
    named = command.input_projections
    if named is not None and not _belongs(named, beside):
        record.skip(path.name, f"it is about {named}")
        return found
    scale = 1 / command.image_binned if beside.aligned else 1.0
    thickness = found.thickness
    if command.thickness is not None:
        thickness = max(1, round(command.thickness * scale))
    _name_unsupported(command, path, beside, record)
    if command.shift_z:
        record.say("shift of the slab", f"{command.shift_z * scale:g} pixels along z", path.name)
    if command.axis_offset_px:
        record.say("offset of the axis", f"{command.axis_offset_px * scale:g} pixels", path.name)
    return replace(
        found,
        tilt=command,
        tilt_name=path.name,
        thickness=thickness,
        shift_z=command.shift_z * scale,
        axis_offset=command.axis_offset_px * scale,
        axis_moved=_subset(command, source, record, path.name) if beside.aligned else 0.0,
        tilt_file=_tilt_file(command, beside, record, path),
    )


def _subset(command: TiltCommand, source: Source, record: Provenance, name: str) -> float:
    """Offset of the axis from the middle of an aligned stack that is a part of the full images."""
    if command.full_image is None:
        return 0.0
    binned = command.image_binned
    left = (command.subset_start or (0, 0))[0]
    moved = (command.full_image[0] / 2 - left) / binned - source.stack.shape[2] / 2
    if abs(moved) < (0.25 if binned == 1 else 1):  # sizes are rounded where images are binned
        return 0.0
    if abs(moved) >= source.stack.shape[2]:
        raise InputError(
            "source",
            source.path,
            f"has its axis {moved:+g} pixels off the middle by FULLIMAGE and SUBSETSTART of {name}, "
            "beyond the images",
            "correct these entries, or take them out",
        )
    record.say("axis", f"{moved:+g} pixels off the middle", f"FULLIMAGE and SUBSETSTART of {name}")
    return moved


def _tilt_file(
    command: TiltCommand, beside: Companions, record: Provenance, path: Path
) -> Path | None:
    """The file of angles that the command names, if it is another one than that of the stack."""
    if command.tilt_file is None:
        return None
    name = name_of(command.tilt_file)
    named = FolderNames(path.parent).find(name)
    if named is not None:
        return None if named == (beside.tlt or beside.rawtlt) else named
    record.warnings.append(f"{path.name}: its file of angles, {name}, is not here")
    return None


def _belongs(named: str, beside: Companions) -> bool:
    """Return whether a name in a command file is that of this stack, or of what etomo made of it."""
    stem = Path(name_of(named)).stem
    case = re.NOFLAG if beside.case_matters else re.IGNORECASE
    return re.fullmatch(f"{re.escape(beside.base)}{_MADE_OF}", stem, case) is not None


def _name_unsupported(
    command: TiltCommand, path: Path, beside: Companions, record: Provenance
) -> None:
    """Name what the command asks for and this package does not do."""
    if abs(command.x_axis_tilt_deg) > LEVEL_DEG:
        record.skip(
            path.name,
            f"XAXISTILT {command.x_axis_tilt_deg:g}: it turns the volume; the specimen is inclined by "
            "so much along y, which the thickness must leave room for",
        )
    if command.shift_x:
        record.skip(
            path.name, f"SHIFT {command.shift_x:g} along x: the whole field is reconstructed"
        )
    for name, what in (
        (command.local_file, "local alignments"),
        (command.zfactor_file, "Z factors"),
    ):
        if name:
            record.warnings.append(f"{path.name}: the {what} of {name} are not used")
    if command.geometry_not_read:
        record.warnings.append(f"{path.name}: {', '.join(command.geometry_not_read)} are not used")
    if command.xtilt_file and (
        beside.xtilt is None
        or not same_name(beside.xtilt.name, name_of(command.xtilt_file), exact=beside.case_matters)
    ):
        record.warnings.append(
            f"{path.name}: the x-axis tilts of {command.xtilt_file} are not used"
        )
    if command.angles:
        record.skip(path.name, "its own list of angles: files with one angle per view count")
