"""An open source of projections, with what its own file says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddgm_dist.acquisition.companions import (
    Companions,
)
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.readers.serialem.mdoc import Mdoc

__all__ = ["FRAMES", "Source"]

# Format of single images that an mdoc names.
FRAMES = "images named by an mdoc"


@dataclass(frozen=True)
class Source:
    """Projections, and what their own file says.

    Attributes
    ----------
    path
        Path or URL, for messages.
    stack
        Projections ``(view, row, column)``.
    kind
        Name of the format, for people.
    by_view
        Images are decoded one by one, so that reading rows of all of them is slow.
    angles_deg, angles_from
        Angles that the source itself states, and where; None where it states none.
    pixel_size_nm, thickness_px, shifts_px
        As in the store; None where the source does not say.
    dark_level
        Value of vacuum, to be subtracted.
    dark, flat
        Frames ``(frame, row, column)`` without a beam and without a specimen; None where there are none.
    companions
        Files beside an MRC stack.
    mdoc
        Description by SerialEM that the source was opened by, or that lies beside it.
    axis_deg, axis_from
        Angle of the tilt axis that the file's own labels state.
    files
        Files that are read.
    images
        Files of one view each, in the order of the views; empty where one file holds all.
    notes
        Remarks of the reader: what it decided, and what it did not use.
    unused
        Names of what lies in the source and was not used, and why.
    beyond
        Alignments that lie beside the target of a link, and not beside the link.
    """

    path: str
    stack: VolumeSource
    kind: str
    by_view: bool = False
    angles_deg: tuple[float, ...] | None = None
    angles_from: str = ""
    pixel_size_nm: float | None = None
    pixel_from: str = ""
    thickness_px: int | None = None
    shifts_px: tuple[tuple[float, float], ...] | None = None
    dark_level: float = 0.0
    dark: VolumeSource | None = None
    flat: VolumeSource | None = None
    companions: Companions | None = None
    mdoc: Mdoc | None = None
    axis_deg: float | None = None
    axis_from: str = ""
    files: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    unused: tuple[tuple[str, str], ...] = ()
    beyond: tuple[Path, ...] = ()
