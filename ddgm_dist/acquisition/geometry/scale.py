"""Pixel size of a series and thickness of the slab, by the options and the files of the source."""

from __future__ import annotations

from pathlib import Path

from ddgm_dist.acquisition.geometry.alignment import Alignment
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.source import Source
from ddgm_dist.errors import InputError
from ddgm_dist.tilts.provenance import Provenance

__all__ = ["find_pixel_size", "find_thickness"]

# Images are binned by so much at most before they are given.
_MOST_BINNED = 16


def find_pixel_size(source: Source, options: IngestOptions, record: Provenance) -> float | None:
    """Edge of a pixel of the series, nm; None where nothing says it.

    Parameters
    ----------
    source
        The open source and the files beside it.
    options
        Options of the ingest, which count before files.
    record
        Takes the size, its origin, and warnings of files that contradict it.
    """
    mdoc = source.mdoc
    candidates = [
        (options.pixel_size_nm, "--pixel-size"),
        (source.pixel_size_nm, source.pixel_from),
        (None if mdoc is None else mdoc.pixel_size_nm, "" if mdoc is None else mdoc.path.name),
    ]
    size, origin = next(((s, o) for s, o in candidates if s is not None), (None, ""))
    if size is None:
        record.say("pixel size", "unknown", "neither given nor found")
        return None
    binned = size * options.bin
    record.say("pixel size", f"{binned:.4g} nm ({10 * binned:.4g} angstrom)", origin)
    for other, name in candidates:
        if other is not None and not _same_size(other, size, exact=origin == "--pixel-size"):
            line = f"pixel size: {name} says {other:.4g} nm, {origin} {size:.4g} nm, which is used"
            record.warnings.append(line)
    return binned


def _same_size(one: float, other: float, *, exact: bool) -> bool:
    """Return whether two pixel sizes are those of one image, which may have been binned since.

    A factor of ten is one of angstrom and nanometres.
    """
    ratio = max(one, other) / min(one, other)
    whole = round(ratio)
    binned = whole == 1 if exact else whole <= _MOST_BINNED and whole != 10
    return binned and abs(ratio - whole) <= 0.02 * ratio


def find_thickness(
    source: Source, found: Alignment, options: IngestOptions, record: Provenance
) -> int | None:
    """Thickness of the slab, pixels of the series; None where nothing says it.

    Parameters
    ----------
    source
        The open source.
    found
        Alignment of the images, which may state a thickness.
    options
        Options of the ingest, which count before files.
    record
        Takes the thickness and its origin.

    Raises
    ------
    InputError
        It is less than a pixel.
    """
    candidates = [
        (options.thickness, "--thickness"),
        (found.thickness, found.tilt_name or found.aln_name),
        (source.thickness_px, Path(source.path).name),
    ]
    value, origin = next(((v, o) for v, o in candidates if v is not None), (None, ""))
    if value is None:
        record.say("thickness", "unknown", "plan and reconstruct will ask for --thickness")
        return None
    if value < 1:
        raise InputError("thickness_px", value, "must be at least 1 pixel")
    thickness = max(1, round(value / options.bin))
    record.say("thickness", f"{thickness} voxels", origin)
    return thickness
