"""A tilt series in a container that says more of it than its pixels, such as HDF5 and Zarr."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ddgm_dist.readers.base import VolumeSource

__all__ = ["TiltStack"]


@dataclass(frozen=True)
class TiltStack:
    """Projections, and what lies with them in the file or store.

    Attributes
    ----------
    stack
        The projections alone, ``(tilt, row, column)``, in the order of the file.
    flats, darks
        Images without a specimen, and without a beam, ``(image, row, column)``; None where there
        are none.
    angles_deg
        One per projection, degrees; None where the file has none.
    pixel_size_nm
        Edge of a pixel; None where the file does not give it with a unit.
    origins
        For each of the above that was found, by its name: its place in the file.
    notes
        What was decided, and what is there and not used.
    """

    stack: VolumeSource
    flats: VolumeSource | None
    darks: VolumeSource | None
    angles_deg: tuple[float, ...] | None
    pixel_size_nm: float | None
    origins: Mapping[str, str]
    notes: tuple[str, ...]
