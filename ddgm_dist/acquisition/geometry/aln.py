"""Alignment of images by AreTomo's file (``.aln``)."""

from __future__ import annotations

from pathlib import Path

from ddgm_dist.acquisition.geometry.alignment import Alignment, turned_size
from ddgm_dist.acquisition.source import Source
from ddgm_dist.errors import InputError
from ddgm_dist.readers.aretomo.alignment import Aln, read_aln
from ddgm_dist.tilts.provenance import Provenance
from ddgm_dist.views.affine import Affine

__all__ = ["by_aln"]


def by_aln(path: Path, source: Source, record: Provenance, *, chosen: bool) -> Alignment:
    """Alignment by a file of AreTomo.

    Parameters
    ----------
    path
        The ``.aln`` file.
    source
        The open source.
    record
        Takes what is used and what is not.
    chosen
        Whether the user named the file; if so, a local alignment in it is left out with a warning.

    Raises
    ------
    InputError
        The file is about a stack of another number or size of views, or holds a local alignment.
    """
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
        turned_size(middle, (height, width)),
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
