"""Line integrals of a volume through its cubic interpolant, for simulation.

Independent of the reconstruction's operators: numpy and scipy, in space, nothing shared.

The specimen between the voxels is the volume's interpolation by cubic convolution phi (Keys 1981,
IEEE Trans. Acoust. Speech Signal Process. 29, 1153, a = -1/2) along z and x, zero outside the given
volume. The line integral of one voxel's kernel ``phi(z) phi(x)`` at tilt theta depends only on the
distance s of the ray from the voxel's projected centre::

    p(s) = integral over v of  phi(v) phi((s - v sin(theta)) / cos(theta)) / cos(theta)

It is tabulated per tilt and averaged over the rays of a detector pixel. So a ray is
integrated along its whole length, edges and steep angles included, and not sampled once per slice;
mass is conserved, and a uniform slab gives exactly thickness / cos(theta). In return the
interpolation blurs a little, as the detector's pixels do: at a quarter of the sampling frequency
phi passes 0.94 of the amplitude along an axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from ddgm_dist.errors import InputError

__all__ = ["Projector", "keys", "project"]

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

# The table is read by linear interpolation: error below h^2 / 8 * max |p''| = 2.4e-6.
_TABLE_STEP = 1 / 512
# Midpoint samples of the footprint's integral, per voxel.
_SAMPLES = 32
_SLAB_VOXELS = 2**19
_CACHE_BYTES = 2**30


def keys(distance: Array) -> Array:
    """Cubic convolution kernel (Keys 1981, a = -1/2), support 2 either way; any shape."""
    t = np.abs(distance)
    near = (1.5 * t - 2.5) * t * t + 1.0
    far = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


@dataclass(frozen=True)
class _Footprint:
    """What one voxel contributes to a detector pixel at distance s: ``table[|s| / step]``."""

    table: Array
    support: float

    def __call__(self, distance: Array) -> Array:
        grid = np.arange(len(self.table)) * _TABLE_STEP
        return np.interp(np.abs(distance), grid, self.table, right=0.0)


def _footprint(angle: float, oversample: int) -> _Footprint:
    """The footprint at ``angle`` (radians), averaged over ``oversample`` rays of a pixel."""
    # The integral is symmetric in the two axes; dividing by the larger keeps it well sampled.
    small, large = sorted((abs(math.cos(angle)), abs(math.sin(angle))))
    reach = 2 * (small + large)
    s = np.arange(math.ceil((reach + 0.5) / _TABLE_STEP) + 2) * _TABLE_STEP
    v = (np.arange(4 * _SAMPLES) + 0.5) / _SAMPLES - 2
    weight = keys(v) / (_SAMPLES * large)
    line = np.zeros_like(s)
    for node, w in zip(v, weight, strict=True):
        line += w * keys((s - node * small) / large)
    ray = (np.arange(oversample) + 0.5) / oversample - 0.5
    table = np.mean([np.interp(np.abs(s + r), s, line, right=0.0) for r in ray], axis=0)
    return _Footprint(table, reach + 0.5)


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
        No angles, ``n_u`` or ``oversample`` not positive, or shifts of another number than angles.
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
        # About 7 pixels see a voxel, with 4 bytes each of weight and of column.
        self._keep = 56 * depth * width * len(self._angles) <= _CACHE_BYTES
        self._kept: dict[int, list[tuple[slice, csr_array]]] = {}

    @property
    def tilts(self) -> int:
        """Number of tilts."""
        return len(self._angles)

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
            Detector rows wanted, ``start`` and ``stop`` set.
        height
            Rows of the whole volume. Beyond its ends its first and last row are repeated: a
            specimen goes on along the tilt axis.

        Returns
        -------
        ndarray
            Float32 ``(tilt, rows, n_u)`` in value x voxel.
        """
        first = self.needs(rows, height).start
        planes = np.ascontiguousarray(block.transpose(0, 2, 1), dtype=np.float32)
        out = np.empty((self.tilts, rows.stop - rows.start, self.n_u), dtype=np.float32)
        for tilt, (dy, _) in enumerate(self._shifts):
            seen = np.zeros((self.n_u, planes.shape[2]), dtype=np.float32)
            for slab, matrix in self._matrices(tilt):
                part = planes[slab]
                seen += matrix @ part.reshape(-1, part.shape[2])
            out[tilt] = _rows_at(seen.T, rows, dy, first, height)
        return out

    def _matrices(self, tilt: int) -> Iterator[tuple[slice, csr_array]]:
        """The tilt's matrix ``(n_u, z * x)`` in slabs of z; kept if those of all tilts fit."""
        if tilt in self._kept:
            yield from self._kept[tilt]
            return
        footprint = _footprint(self._angles[tilt], self.oversample)
        step = max(1, _SLAB_VOXELS // self.width)
        made = []
        for start in range(0, self.depth, step):
            slab = slice(start, min(start + step, self.depth))
            matrix = self._matrix(tilt, slab, footprint)
            if self._keep:
                made.append((slab, matrix))
            yield slab, matrix
        if self._keep:
            self._kept[tilt] = made

    def _matrix(self, tilt: int, slab: slice, footprint: _Footprint) -> csr_array:
        angle, dx = self._angles[tilt], self._shifts[tilt][1]
        z = np.arange(slab.start, slab.stop)[:, None] - (self.depth - 1) / 2
        x = np.arange(self.width) - (self.width - 1) / 2
        landing = (x * math.cos(angle) + z * math.sin(angle) + dx + (self.n_u - 1) / 2).ravel()
        first = np.ceil(landing - footprint.support)
        taps = math.floor(2 * footprint.support) + 1
        pixel = first[:, None] + np.arange(taps)
        weight = footprint(pixel - landing[:, None])
        weight[(pixel < 0) | (pixel >= self.n_u)] = 0.0
        index = np.clip(pixel, 0, self.n_u - 1).astype(np.int32)
        column = np.arange(0, index.size + 1, taps, dtype=np.int32)
        matrix: csr_array = csc_array(
            (weight.ravel().astype(np.float32), index.ravel(), column),
            shape=(self.n_u, landing.size),
        ).tocsr()
        matrix.eliminate_zeros()
        return matrix


def _rows_at(seen: Floats, rows: slice, dy: float, first: int, height: int) -> Floats:
    """Row ``y + dy`` shows the volume's row y: cubic interpolation of unshifted rows.

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
        Detector columns; the detector's centre is that of the volume, also when one extent is odd
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
        As :class:`Projector`, or the volume has not three axes.
    """
    if volume.ndim != 3 or 0 in volume.shape:
        raise InputError("volume", volume.shape, "must be of shape (z, y, x), not empty")
    depth, height, width = volume.shape
    projector = Projector(depth, width, angles_deg, n_u=n_u, shifts=shifts, oversample=oversample)
    return projector.project(volume.astype(np.float32), slice(0, height), height)
