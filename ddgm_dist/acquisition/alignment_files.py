"""Alignment of the images of a source, by the files beside it and the options.

Nothing that changes geometry is passed over in silence: it is used, named as not used, or refused.
"""

from __future__ import annotations

from pathlib import Path

from ddgm_dist.acquisition.alignment import Alignment
from ddgm_dist.acquisition.companions import Companions
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.sources import Source
from ddgm_dist.acquisition.tilt_command import LEVEL_DEG, with_tilt_command
from ddgm_dist.acquisition.written_names import name_of, same_name
from ddgm_dist.errors import InputError
from ddgm_dist.readers.aretomo.alignment import Aln, read_aln
from ddgm_dist.readers.imod.commands import (
    NewstackCommand,
    read_newstack_command,
)
from ddgm_dist.readers.imod.transforms import read_axis_tilts, read_xf
from ddgm_dist.tilts.provenance import Provenance
from ddgm_dist.views.affine import Affine

__all__ = ["find_alignment"]

_ALN = ".aln"


def find_alignment(source: Source, options: IngestOptions, record: Provenance) -> Alignment:
    """Find out how the images are aligned.

    Parameters
    ----------
    source
        The open source and the files beside it.
    options
        Options of the ingest.
    record
        Takes what is used and what is not.

    Raises
    ------
    InputError
        A file has transforms for another number of views, two files say how to align the images, or one
        says something that cannot be done.
    """
    found = _affines(source, options, record)
    beside = source.companions
    if beside is None:
        return found
    found = with_tilt_command(found, source, beside, record)
    _name_unused(beside, source, options, record)
    return found


def _affines(source: Source, options: IngestOptions, record: Provenance) -> Alignment:
    path = _chosen_file(source, options, record)
    if path is not None:
        if options.tilt_axis_angle is not None or options.tilt_axis != "rows":
            raise InputError(
                "tilt_axis_angle",
                options.tilt_axis_angle or options.tilt_axis,
                f"turns the images, and so does {path.name}",
                "give --xf none to turn them by the angle alone",
            )
        _skip_axes(source, record, f"{path.name} turns the images")
        if path.suffix.lower() == _ALN:
            return _by_aln(path, source, record, chosen=options.xf is not None)
        return _by_xf(path, source, record)
    degrees, origin = _axis(source, options, record)
    affine = Affine.turn_axis(degrees)
    views, height, width = source.stack.shape
    record.say("tilt axis", f"{degrees:g} degrees from the vertical", origin)
    what = "images are turned so that the axis is vertical"
    if affine.is_identity:
        what = "none: images are taken as aligned"
    record.say("alignment", what, origin)
    return Alignment((affine,) * views, _turned_size(affine, (height, width)))


def _chosen_file(source: Source, options: IngestOptions, record: Provenance) -> Path | None:
    """The ``.xf`` or ``.aln`` file that aligns the images; None where none does.

    Raises
    ------
    InputError
        There are both, and none was chosen.
    """
    beside, given = source.companions, options.xf
    near = [] if beside is None else [p for p in (beside.xf, beside.aln) if p is not None]
    if given is None and source.images and near:
        raise InputError(
            "xf",
            near[0].name,
            "lies with single images, and which of its lines belongs to which image is not certain",
            "give --xf FILE if its lines are in the order of the views (see --angles), or --xf none",
        )
    if isinstance(given, Path):
        why = "--xf names another file"
    elif given == "none":
        why = "--xf none: the images are taken as they are"
    elif _is_aligned(source):
        why = "the stack is aligned already, by its name"
    else:
        if len(near) > 1:
            raise InputError(
                "xf",
                " and ".join(path.name for path in near),
                "both say how the images are aligned",
                "name one of them with --xf FILE, or give --xf none if they are aligned",
            )
        if not near and source.beyond:
            raise InputError(
                "xf",
                str(source.beyond[0]),
                "lies beside the target of the link that is the source, and not beside the link",
                "give --xf FILE, or --xf none if the images are aligned",
            )
        return near[0] if near else None
    for path in near:
        if path != given:
            record.skip(path.name, why)
    return given if isinstance(given, Path) else None


def _is_aligned(source: Source) -> bool:
    """Return whether the stack is an aligned one by its name, if only coarsely."""
    beside = source.companions
    return beside is not None and (beside.aligned or beside.prealigned)


def _axis(source: Source, options: IngestOptions, record: Provenance) -> tuple[float, str]:
    """Angle of the tilt axis from the vertical, degrees, and where it comes from."""
    name = Path(source.path).name
    if options.tilt_axis_angle is not None:
        found = options.tilt_axis_angle, "--tilt-axis-angle"
    elif options.tilt_axis == "columns":
        found = -90.0, "--tilt-axis columns"
    elif options.xf == "none":
        found = 0.0, "--xf none"
    elif _is_aligned(source):
        found = 0.0, f"name of {name}"
        if source.companions is not None and source.companions.prealigned:
            record.warnings.append(
                f"{name} is aligned coarsely, by its name: its tilt axis is not turned, and shifts "
                "remain; ingest the raw stack with its .xf instead"
            )
    elif source.mdoc is not None and source.mdoc.tilt_axis_deg is not None:
        return source.mdoc.tilt_axis_deg, f"{_mdoc_name(source)}, {source.mdoc.tilt_axis_from}"
    elif source.axis_deg is not None:
        return source.axis_deg, source.axis_from
    else:
        return 0.0, "assumed: no file says otherwise"
    _skip_axes(source, record, f"{found[1]} counts")
    return found


def _skip_axes(source: Source, record: Provenance, why: str) -> None:
    if source.mdoc is not None and source.mdoc.tilt_axis_deg is not None:
        axis = source.mdoc.tilt_axis_deg
        record.skip(_mdoc_name(source), f"its tilt axis angle {axis:g}: {why}")
    elif source.axis_deg is not None:
        record.skip(source.axis_from, f"their tilt axis angle {source.axis_deg:g}: {why}")


def _mdoc_name(source: Source) -> str:
    return Path(source.path).name if source.mdoc is None else source.mdoc.path.name


def _by_xf(path: Path, source: Source, record: Provenance) -> Alignment:
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
    size, origin = _turned_size(affines[views // 2], (height, width)), path.name
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


def _by_aln(path: Path, source: Source, record: Provenance, *, chosen: bool) -> Alignment:
    views, height, width = source.stack.shape
    aln = read_aln(path)
    if aln.local and not chosen:
        raise InputError(
            "xf",
            str(path),
            "holds a local alignment, patch by patch, which is not supported",
            f"use its alignment of whole images alone with --xf {path.name}, or give --xf none",
        )
    if aln.local:
        record.warnings.append(
            f"{path.name}: its local alignment is not used, only that of whole images"
        )
    beyond = [v.stored_index for v in aln.views if v.stored_index >= views]
    if beyond or (aln.raw_size is not None and aln.raw_size[2] != views):
        count = aln.raw_size[2] if aln.raw_size is not None else max(beyond) + 1
        raise InputError(
            "xf",
            str(path),
            f"is about a stack of {count} views, and {Path(source.path).name} has {views}",
            "give the file that belongs to the stack, or --xf none if the images are aligned",
        )
    binned = _binned_by(aln, path, (height, width))
    affines = [Affine()] * views
    for view in aln.views:
        affines[view.stored_index] = view.transform().binned(binned)
    middle = affines[aln.views[len(aln.views) // 2].stored_index]
    if binned != 1:
        record.say("scale of the alignment", f"1 / {binned}", f"size of the images in {path.name}")
    if aln.beta_offset_deg:
        record.warnings.append(f"{path.name}: BetaOffset {aln.beta_offset_deg:g} is not used")
    record.say("alignment", f"{len(aln.views)} views, AreTomo", path.name)
    if aln.angle_offset_deg:
        record.say(
            "AreTomo's AlphaOffset",
            f"{aln.angle_offset_deg:g} degrees",
            f"{path.name}, in its angles",
        )
    return Alignment(
        tuple(affines),
        _turned_size(middle, (height, width)),
        aln=aln,
        aln_name=path.name,
        thickness=None if aln.thickness is None else max(1, round(aln.thickness / binned)),
    )


def _binned_by(aln: Aln, path: Path, size: tuple[int, int]) -> int:
    """Factor by which the stack is smaller than the one that was aligned.

    Raises
    ------
    InputError
        It is no whole number.
    """
    if aln.raw_size is None:
        return 1
    width, height = aln.raw_size[:2]
    factor = max(1, round(width / size[1]))
    if (height // factor, width // factor) != size:
        raise InputError(
            "xf",
            str(path),
            f"is about images of {height} x {width} pixels, and the stack has {size[0]} x {size[1]}",
            "give the file that belongs to the stack, or --xf none if the images are aligned",
        )
    return factor


def _turned_size(affine: Affine, size: tuple[int, int]) -> tuple[int, int]:
    """Size of the aligned images: exchanged where they are turned by more than 45 degrees."""
    height, width = size
    return (width, height) if abs(affine.a12) > abs(affine.a11) else (height, width)


def _name_unused(
    beside: Companions, source: Source, options: IngestOptions, record: Provenance
) -> None:
    newstack = beside.newstack_command
    if newstack is not None and (_is_aligned(source) or options.xf == "none"):
        record.skip(newstack.name, "the images are taken as they are")
    mdoc = source.mdoc
    if mdoc is not None and mdoc.tilt_axis_deg is None and mdoc.rotation_deg is not None:
        record.skip(
            mdoc.path.name,
            f"its RotationAngle {mdoc.rotation_deg:g}: it gives the tilt axis only up to 90 degrees; "
            "see --tilt-axis-angle",
        )
    if beside.xtilt is not None:
        tilts = read_axis_tilts(beside.xtilt)
        if max((abs(t) for t in tilts), default=0.0) > LEVEL_DEG:
            record.warnings.append(
                f"{beside.xtilt.name}: tilts about the x axis of up to "
                f"{max(abs(t) for t in tilts):g} degrees are not used"
            )
        record.skip(beside.xtilt.name, "tilts about the x axis are not reconstructed")
    for path in beside.other:
        record.skip(path.name, "of no use here: the transforms of whole images count")
