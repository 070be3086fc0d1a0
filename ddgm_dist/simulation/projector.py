"""Line integrals of a volume through its cubic interpolant, for simulation.

It works in space with numpy and scipy, and shares nothing with the reconstruction's operators.

The specimen between the voxels is interpolated by cubic convolution phi along z and x (Keys 1981,
IEEE Trans. Acoust. Speech Signal Process. 29, 1153, a = -1/2). It is zero outside the volume. The
line integral of one voxel's kernel ``phi(z) phi(x)`` at tilt theta depends only on the distance s of
the ray from the voxel's projected centre::

    p(s) = integral over v of  phi(v) phi((s - v sin(theta)) / cos(theta)) / cos(theta)

It is tabulated per tilt and averaged over the rays of a detector pixel. So a ray is integrated along
its whole length, edges and steep angles included, and not sampled once per slice. Mass is conserved,
and a uniform slab gives exactly thickness / cos(theta). The interpolation blurs a little, as the
detector's pixels do. At a quarter of the sampling frequency phi passes 0.94 of the amplitude along an
axis.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from ddgm_dist.errors import InputError
from ddgm_dist.simulation.footprint import Footprint, keys, make_footprint

__all__ = ["Projector", "keys", "project"]

Floats = NDArray[np.float32]

_SLAB_VOXELS = 2**19
# Voxels whose weights are made at a time, in the processor's cache.
_BATCH_VOXELS = 2**14
_CACHE_BYTES = 2**28


class Projector:
    """Projects blocks of rows of a volume at all tilts.

    A point (z, x), measured from the centres ``(n - 1) / 2``, lands at
    ``u = x cos(theta) + z sin(theta) + dx`` from the detector's centre ``(n_u - 1) / 2``, in row
    ``y + dy``.

    Parameters
    ----------
    depth, width
        The volume's extent along z and x, voxels.
    angles_deg
        Tilt angles, degrees.
    n_u
        Detector columns.
    shifts
        ``(dy, dx)`` per tilt, pixels; none when None.
    oversample
        Rays per detector pixel, equally spaced and averaged.

    Raises
    ------
    InputError
        If there are no angles, ``n_u`` or ``oversample`` is not positive, or the numbers of shifts
        and angles differ.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        angles_deg: Sequence[float],
        *,
        n_u: int,
        shifts: Sequence[tuple[float, float]] | None = None,
        oversample: int = 2,
    ) -> None:
        if len(angles_deg) == 0:
            raise InputError("angles_deg", "[]", "there must be at least one tilt")
        for name, value in (("n_u", n_u), ("oversample", oversample)):
            if value < 1:
                raise InputError(name, value, "must be at least 1")
        if shifts is not None and len(shifts) != len(angles_deg):
            raise InputError(
                "shifts",
                f"{len(shifts)} shifts",
                f"there are {len(angles_deg)} tilts and each needs one (dy, dx)",
            )
        self.depth, self.width, self.n_u, self.oversample = depth, width, n_u, oversample
        self._angles = [math.radians(float(a)) for a in angles_deg]
        self._shifts = [(float(dy), float(dx)) for dy, dx in shifts or [(0, 0)] * len(angles_deg)]
        # A voxel reaches about 7 pixels, with 4 bytes each of weight and of column.
        self._keep = 56 * depth * width * len(self._angles) <= _CACHE_BYTES
        self._kept: dict[tuple[int, int, int], list[tuple[slice, csc_array]]] = {}
        self._footprints: dict[int, Footprint] = {}

    @property
    def tilts(self) -> int:
        """Number of tilts."""
        return len(self._angles)

    def with_level(self) -> Projector:
        """The projector with one more tilt at the end: zero degrees, unshifted."""
        more = copy.copy(self)
        more._angles, more._shifts = [*self._angles, 0.0], [*self._shifts, (0.0, 0.0)]
        return more

    @property
    def halo(self) -> int:
        """Rows needed on each side of those projected, for the shifts along y."""
        largest = max(abs(dy) for dy, _ in self._shifts)
        return math.ceil(largest) + 2 if largest else 0

    def needs(self, rows: slice, height: int) -> slice:
        """Rows of a volume of ``height`` rows that ``rows`` of the projections depend on."""
        return slice(max(0, rows.start - self.halo), min(height, rows.stop + self.halo))

    def project(self, block: Floats, rows: slice, height: int) -> Floats:
        """Projections of some rows at all tilts.

        Parameters
        ----------
        block
            Float32 ``(z, rows, x)``: the volume's rows ``needs(rows, height)``.
        rows
            Detector rows to compute, with ``start`` and ``stop``.
        height
            Rows of the whole volume. Beyond its ends its first and last row are repeated, for a
            specimen continues along the tilt axis.

        Returns
        -------
        ndarray
            Float32 ``(tilt, rows, n_u)`` in value x voxel.
        """
        out = np.zeros((self.tilts, rows.stop - rows.start, self.n_u), dtype=np.float32)
        for tilt, first, seen in self.parts(block, slice(0, self.width), rows, height):
            out[tilt, :, first : first + seen.shape[1]] = seen
        return out

    def parts(
        self, block: Floats, columns: slice, rows: slice, height: int
    ) -> Iterator[tuple[int, int, Floats]]:
        """Contributions of some columns of the volume to the projections of some rows.

        Parameters
        ----------
        block
            Float32 ``(z, rows, columns)``: rows ``needs(rows, height)``.
        columns
            Columns of the volume, with ``start`` and ``stop``.
        rows, height
            As for :meth:`project`.

        Yields
        ------
        tilt, first, seen
            Tilt that sees the columns; first detector column that they reach; float32
            ``(rows, columns)`` to be added from there on.
        """
        above = self.needs(rows, height).start
        planes = np.ascontiguousarray(block.transpose(0, 2, 1), dtype=np.float32)
        for tilt, (dy, _) in enumerate(self._shifts):
            reached = self.reached(tilt, columns)
            if reached.start == reached.stop:
                continue
            seen = np.zeros((reached.stop - reached.start, planes.shape[2]), dtype=np.float32)
            for slab, matrix in self._matrices(tilt, columns):
                part = planes[slab]
                seen += matrix @ part.reshape(-1, part.shape[2])
            yield tilt, reached.start, _rows_at(seen.T, rows, dy, above, height)

    def reached(self, tilt: int, columns: slice) -> slice:
        """Detector columns of one tilt that some columns of the volume contribute to."""
        angle = self._angles[tilt]
        spread = (self.depth - 1) / 2 * abs(math.sin(angle)) + self._footprint(tilt).support
        # One pixel more than the footprint covers the rounding of positions.
        low = math.floor(self._landing(tilt, columns.start) - spread) - 1
        high = math.ceil(self._landing(tilt, columns.stop - 1) + spread) + 2
        return slice(min(max(low, 0), self.n_u), min(max(high, 0), self.n_u))

    def _landing(self, tilt: int, column: float) -> float:
        """Detector column onto which a column of the volume's middle plane is projected."""
        x = column - (self.width - 1) / 2
        return x * math.cos(self._angles[tilt]) + self._shifts[tilt][1] + (self.n_u - 1) / 2

    def _footprint(self, tilt: int) -> Footprint:
        if tilt not in self._footprints:
            self._footprints[tilt] = make_footprint(self._angles[tilt], self.oversample)
        return self._footprints[tilt]

    def _matrices(self, tilt: int, columns: slice) -> Iterator[tuple[slice, csc_array]]:
        """Matrices of the columns, ``(reached, z * x)`` in slabs of z; kept if all of them fit."""
        key = (tilt, columns.start, columns.stop)
        if key in self._kept:
            yield from self._kept[key]
            return
        step = max(1, _SLAB_VOXELS // (columns.stop - columns.start))
        made = []
        for start in range(0, self.depth, step):
            slab = slice(start, min(start + step, self.depth))
            matrix = self._matrix(tilt, columns, slab)
            if self._keep:
                made.append((slab, matrix))
            yield slab, matrix
        if self._keep:
            self._kept[key] = made

    def _matrix(self, tilt: int, columns: slice, slab: slice) -> csc_array:
        angle, dx = self._angles[tilt], self._shifts[tilt][1]
        footprint, reached = self._footprint(tilt), self.reached(tilt, columns)
        z = np.arange(slab.start, slab.stop)[:, None] - (self.depth - 1) / 2
        x = np.arange(columns.start, columns.stop) - (self.width - 1) / 2
        landing = x * math.cos(angle) + z * math.sin(angle) + dx + (self.n_u - 1) / 2
        landing = landing.ravel() - reached.start
        shape = (landing.size, footprint.value.shape[1])
        weight, pixel = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.int32)
        for start in range(0, len(landing), _BATCH_VOXELS):
            batch = slice(start, start + _BATCH_VOXELS)
            footprint.weigh(landing[batch], weight[batch], pixel[batch])
        width = reached.stop - reached.start
        if pixel[:, 0].min() < 0 or pixel[:, -1].max() >= width:
            weight[(pixel < 0) | (pixel >= width)] = 0.0
            np.clip(pixel, 0, width - 1, out=pixel)
        column = np.arange(0, pixel.size + 1, shape[1], dtype=np.int32)
        return csc_array((weight.ravel(), pixel.ravel(), column), shape=(width, landing.size))


def _rows_at(seen: Floats, rows: slice, dy: float, first: int, height: int) -> Floats:
    """Rows shifted by ``dy``: cubic interpolation, with the volume's row y at row ``y + dy``.

    ``seen`` is ``(rows, u)`` from the volume's row ``first`` on.
    """
    y = np.arange(rows.start, rows.stop) - dy
    below = np.floor(y).astype(int)
    if dy == round(dy):
        whole: Floats = seen[np.clip(below, 0, height - 1) - first]
        return whole
    out = np.zeros((len(y), seen.shape[1]), dtype=np.float64)
    for tap in range(-1, 3):
        weight = keys(y - (below + tap))
        out += weight[:, None] * seen[np.clip(below + tap, 0, height - 1) - first]
    return out.astype(np.float32)


def project(
    volume: NDArray[np.generic],
    angles_deg: Sequence[float],
    *,
    n_u: int,
    shifts: Sequence[tuple[float, float]] | None = None,
    oversample: int = 2,
) -> Floats:
    """Project a volume in memory.

    Parameters
    ----------
    volume
        ``(z, y, x)``.
    angles_deg
        Tilt angles, degrees.
    n_u
        Detector columns. The detector's centre is that of the volume, even if one extent is odd
        and the other even.
    shifts
        ``(dy, dx)`` per tilt, pixels.
    oversample
        Rays per detector pixel.

    Returns
    -------
    ndarray
        Float32 ``(tilt, y, n_u)``, line integrals in value x voxel.

    Raises
    ------
    InputError
        As :class:`Projector`; if the volume does not have three axes.
    """
    if volume.ndim != 3 or 0 in volume.shape:
        raise InputError("volume", volume.shape, "must be of shape (z, y, x), not empty")
    depth, height, width = volume.shape
    projector = Projector(depth, width, angles_deg, n_u=n_u, shifts=shifts, oversample=oversample)
    return projector.project(volume.astype(np.float32), slice(0, height), height)
