"""Axis-aligned boxes of voxels in global coordinates ``(z, y, x)``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Box"]

Triple = tuple[int, int, int]


@dataclass(frozen=True, order=True, slots=True)
class Box:
    """Half-open box ``start <= (z, y, x) < stop``, in voxels of the global volume.

    ``x`` may be negative: the padded domain of a slab reaches beyond the field of view.
    """

    start: Triple
    stop: Triple

    def __post_init__(self) -> None:
        if any(b < a for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"box stop {self.stop} lies before its start {self.start}")

    @property
    def shape(self) -> Triple:
        """Extent along (z, y, x), voxels."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return (z1 - z0, y1 - y0, x1 - x0)

    @property
    def size(self) -> int:
        """Number of voxels."""
        z, y, x = self.shape
        return z * y * x

    @property
    def y(self) -> slice:
        """Rows, as a global slice."""
        return slice(self.start[1], self.stop[1])

    @property
    def x(self) -> slice:
        """Columns, as a global slice (may start below zero)."""
        return slice(self.start[2], self.stop[2])

    def slices(self, origin: Triple = (0, 0, 0)) -> tuple[slice, slice, slice]:
        """Slices of this box in an array whose element ``[0, 0, 0]`` is the voxel ``origin``."""
        a, b = self.start, self.stop
        return (
            slice(a[0] - origin[0], b[0] - origin[0]),
            slice(a[1] - origin[1], b[1] - origin[1]),
            slice(a[2] - origin[2], b[2] - origin[2]),
        )

    def intersection(self, other: Box) -> Box | None:
        """The common part, or None when the boxes do not overlap."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        if any(b <= a for a, b in zip(start, stop, strict=True)):
            return None
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    def contains(self, other: Box) -> bool:
        """Return whether every voxel of ``other`` is in this box."""
        return all(a <= b for a, b in zip(self.start, other.start, strict=True)) and all(
            a >= b for a, b in zip(self.stop, other.stop, strict=True)
        )
