"""Alignment of the images of a source: where each pixel goes, and where the tilt axis is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddgm_dist.readers.aretomo.alignment import Aln
from ddgm_dist.readers.imod.commands import TiltCommand
from ddgm_dist.views.affine import Affine

__all__ = ["Alignment", "turned_size"]


@dataclass(frozen=True)
class Alignment:
    """Alignment of all stored views.

    Attributes
    ----------
    affines
        Map of each stored image to the aligned one, pixels of the source.
    size
        Rows and columns of the aligned images, pixels of the source.
    aln, aln_name
        AreTomo's alignment, if the images are aligned by it, and its name.
    tilt, tilt_name
        IMOD's command for the reconstruction, and its name; None and empty without one.
    thickness
        Thickness by that command, pixels of the source.
    shift_z, axis_offset
        Its shift of the slab along z and of the axis along x, pixels of the source.
    axis_moved
        Offset of the axis from the middle of an aligned stack, pixels of the source.
    centre_x
        Offset of the middle of the aligned images from the axis, pixels of the source.
    tilt_file
        File of the angles that the command names; None if it is that of the stack.
    """

    affines: tuple[Affine, ...]
    size: tuple[int, int]
    aln: Aln | None = None
    aln_name: str = ""
    tilt: TiltCommand | None = None
    tilt_name: str = ""
    thickness: int | None = None
    shift_z: float = 0.0
    axis_offset: float = 0.0
    axis_moved: float = 0.0
    centre_x: float = 0.0
    tilt_file: Path | None = None


def turned_size(affine: Affine, size: tuple[int, int]) -> tuple[int, int]:
    """Size of the aligned images: exchanged where they are turned by more than 45 degrees."""
    height, width = size
    return (width, height) if abs(affine.a12) > abs(affine.a11) else (height, width)
