"""Alignment of the images of a source, by the files beside it and the options.

Nothing that changes geometry is passed over in silence: it is used, named as not used, or refused.
"""

from __future__ import annotations

from pathlib import Path

from ddgm_dist.acquisition.companions import Companions
from ddgm_dist.acquisition.geometry.alignment import Alignment, turned_size
from ddgm_dist.acquisition.geometry.aln import by_aln
from ddgm_dist.acquisition.geometry.axis import find_axis, is_aligned, skip_axes
from ddgm_dist.acquisition.geometry.tilt_command import LEVEL_DEG, with_tilt_command
from ddgm_dist.acquisition.geometry.xf import by_xf
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.source import Source
from ddgm_dist.errors import InputError
from ddgm_dist.readers.imod.transforms import read_axis_tilts
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
        skip_axes(source, record, f"{path.name} turns the images")
        if path.suffix.lower() == _ALN:
            return by_aln(path, source, record, chosen=options.xf is not None)
        return by_xf(path, source, record)
    degrees, origin = find_axis(source, options, record)
    affine = Affine.turn_axis(degrees)
    views, height, width = source.stack.shape
    record.say("tilt axis", f"{degrees:g} degrees from the vertical", origin)
    what = "images are turned so that the axis is vertical"
    if affine.is_identity:
        what = "none: images are taken as aligned"
    record.say("alignment", what, origin)
    return Alignment((affine,) * views, turned_size(affine, (height, width)))


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
    elif is_aligned(source):
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


def _name_unused(
    beside: Companions, source: Source, options: IngestOptions, record: Provenance
) -> None:
    newstack = beside.newstack_command
    if newstack is not None and (is_aligned(source) or options.xf == "none"):
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
