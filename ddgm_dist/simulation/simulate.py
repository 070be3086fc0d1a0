"""Simulate a tilt series: project a volume, shift the tilts, add the detector's noise.

The model of the projection is that of `ddgm_dist.simulation.projector`. Noise and shifts are functions
of (seed, tilt, row), not draws from a stream. So they depend neither on how rows are split into
blocks, nor on which other rows are recorded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.store_name import check_store_name
from ddgm_dist.readers.arrays.dask_arrays import DaskVolume, is_dask_array
from ddgm_dist.readers.base import ArrayVolume, VolumeSource
from ddgm_dist.readers.provenance import places_of
from ddgm_dist.readers.volumes import open_volume_at
from ddgm_dist.simulation.detector import (
    SHIFT_STREAM,
    Detector,
    Noise,
    addressed_random,
    parse_noise,
)
from ddgm_dist.simulation.projector import Projector, project
from ddgm_dist.simulation.streamed_projection import Scan
from ddgm_dist.tilts.series import (
    TiltSeries,
    TiltSeriesMeta,
    check_meta,
    create_tilt_series,
    open_series_at,
)

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["project", "simulate"]

Floats = NDArray[np.float32]

DEFAULT_ANGLES = tuple(float(a) for a in range(-60, 61, 2))
# Cubic interpolation rings at a specimen's edge by up to 7 % of the step.
_RINGING = 0.1
# Largest shift, pixels: farther, no specimen would be left in the field.
_FARTHEST = 32768


def simulate(
    volume: str | Path | VolumeSource | NDArray[Any] | da.Array,
    out: str | Path,
    *,
    angles: Sequence[float] | None = None,
    noise: str = "none",
    field: int | None = None,
    rows: slice | None = None,
    shifts: float | Sequence[tuple[float, float]] = 0.0,
    seed: int = 0,
    pixel_size_nm: float | None = None,
    overwrite: bool = False,
    oversample: int = 2,
) -> TiltSeries:
    """Project a volume into a tilt-series store.

    Rows are worked on in blocks, and wide volumes in pieces of their columns, so the volume is
    never in memory as a whole.

    Parameters
    ----------
    volume
        ``(z, y, x)``: a path that `ddgm_dist.readers.volumes.open_volume` reads, a volume source,
        or an array of numpy or dask. It is zero outside its extent along z and x. Along y its first
        and last rows are repeated, which only matters with shifts.
    out
        Path or URL of the new store. Its ``thickness_px`` is the volume's extent along z.
    angles
        Degrees; 61 from -60 to 60 when None.
    noise
        ``none``.
        ``gaussian:F``: white noise of F times the standard deviation of the noise-free projections.
        It is taken over all recorded samples, each tilt's mean removed, in a first pass.
        ``poisson:DOSE``: counts whose expectation is proportional to the projections. A sample p
        becomes ``Poisson(DOSE p / m) m / DOSE``. The mean m is that of the unshifted projection at
        zero tilt, over the recorded rows and the recorded columns on the specimen.
    field
        Detector columns; the volume's extent along x when None. Centred on the volume. If it is
        narrower, as in reality, rays near its edges cross material outside it. It may differ from
        the volume's extent by an even number only, so that field and volume share their grid.
    rows
        Rows of the volume to record; all when None.
    shifts
        Largest random shift of a tilt, pixels, along y and u (uniform, either sign); or one
        ``(dy, dx)`` per tilt. Recorded in the store.
    seed
        Seed of noise and shifts: 0 to 2^64 - 1.
    pixel_size_nm
        Recorded in the store.
    overwrite
        Replace an existing store, once the new one is complete.
    oversample
        Rays per detector pixel.

    Returns
    -------
    TiltSeries
        The store, open: float32 ``(tilt, y, u)``, line integrals in value x voxel.

    Raises
    ------
    InputError
        If an argument cannot be used, or a voxel is NaN or infinite.
        If the output exists, or is, contains or lies in the volume.
        For Poisson noise, if projections are zero on average, or below minus a tenth of the mean m.
        Smaller negative values, which cubic interpolation makes at edges, become zero counts.
        No output is left, and an old store stays as it is.
    StorageError
        If the volume cannot be read or the store cannot be written.
    """
    check_store_name(out)
    place = locate(out, "out")
    name, source, read = _source(volume)
    refuse_overlap(place, "out", [("volume", each) for each in read])
    wanted = parse_noise(noise)
    if not 0 <= seed < 2**64:
        raise InputError("seed", seed, "must be from 0 to 2^64 - 1")
    degrees = DEFAULT_ANGLES if angles is None else tuple(float(a) for a in angles)
    depth, height, width = source.shape
    part = _part(rows, height)
    n_u = _columns(field, width)
    moves = _moves(shifts, len(degrees), seed)
    meta = TiltSeriesMeta(
        angles_deg=degrees,
        shifts_px=moves,
        pixel_size_nm=pixel_size_nm,
        thickness_px=depth,
        description=(
            f"simulated from {name} of shape (z, y, x) = {source.shape}: rows {part.start}:"
            f"{part.stop}, field {n_u}, noise {noise}, shifts {_words(shifts)}, seed {seed}, "
            f"oversample {oversample}"
        ),
    )
    check_meta(meta, len(degrees), "the simulated series")
    projector = Projector(depth, width, degrees, n_u=n_u, shifts=moves, oversample=oversample)
    scan = Scan(source, projector, part)
    detector = _detector(wanted, scan, seed)
    shape = (len(degrees), part.stop - part.start, n_u)
    with create_tilt_series(place, shape, meta, overwrite=overwrite, checked=True) as writer:
        for block_rows, columns, clean in scan.blocks():
            if columns.start == 0:
                exposure = detector.expose(len(degrees), block_rows)
            here = slice(block_rows.start - part.start, block_rows.stop - part.start)
            writer.write(here, exposure.record(clean), columns)
    return open_series_at(place, checked=True)


def _source(
    volume: str | Path | VolumeSource | NDArray[Any] | da.Array,
) -> tuple[str, VolumeSource, list[Place]]:
    """The volume's name in the store's description, where to read it, and the places of its data."""
    if isinstance(volume, np.ndarray):
        return "an array", ArrayVolume(volume, "volume"), places_of(volume)
    if is_dask_array(volume):
        return "a dask array", DaskVolume(volume, "volume"), places_of(volume)
    if isinstance(volume, str | Path):
        place = locate(volume, "volume")
        return Path(volume).name, open_volume_at(place), [place]
    return type(volume).__name__, volume, places_of(volume)


def _part(rows: slice | None, height: int) -> slice:
    if rows is None:
        return slice(0, height)
    start, stop = rows.start or 0, height if rows.stop is None else rows.stop
    if rows.step not in (None, 1) or not 0 <= start < stop <= height:
        raise InputError(
            "rows", f"{start}:{stop}", f"must be a part, not empty, of the volume's {height} rows"
        )
    return slice(start, stop)


def _columns(field: int | None, width: int) -> int:
    if field is None:
        return width
    if field < 1:
        raise InputError("field", field, "must be at least 1 column")
    if (field - width) % 2:
        raise InputError(
            "field",
            field,
            f"differs from the volume's {width} columns by an odd number, so that their centres "
            "would lie half a voxel apart",
            f"use {field + 1}",
        )
    return field


def _moves(
    shifts: float | Sequence[tuple[float, float]], tilts: int, seed: int
) -> tuple[tuple[float, float], ...] | None:
    """The shifts ``(dy, dx)`` per tilt, pixels; None when there are none."""
    if not isinstance(shifts, int | float):
        pairs = np.asarray(shifts, dtype=float)
        if pairs.shape != (tilts, 2):
            raise InputError(
                "shifts", f"shape {pairs.shape}", f"must be one (dy, dx) for each of {tilts} tilts"
            )
        return tuple((float(dy), float(dx)) for dy, dx in pairs)
    if not 0 <= shifts <= _FARTHEST:
        raise InputError("shifts", shifts, f"must be a number of pixels from 0 to {_FARTHEST}")
    if shifts == 0:
        return None
    moves = []
    for tilt in range(tilts):
        dy, dx = addressed_random(seed, SHIFT_STREAM, tilt, 0).uniform(-shifts, shifts, 2)
        moves.append((float(dy), float(dx)))
    return tuple(moves)


def _words(shifts: float | Sequence[tuple[float, float]]) -> str:
    return f"up to {shifts:g} px" if isinstance(shifts, int | float) else "as given"


def _detector(noise: Noise, scan: Scan, seed: int) -> Detector:
    """The detector, its noise scaled by a first pass over the rows where it needs one."""
    if noise.kind == "gaussian" and noise.amount > 0:
        return Detector("gaussian", noise.amount * _spread(scan), seed)
    if noise.kind == "poisson":
        return Detector("poisson", noise.amount / _zero_tilt_mean(scan), seed)
    return Detector("none", 0.0, seed)


def _spread(scan: Scan) -> float:
    """Standard deviation of the noise-free projections, each tilt's mean removed."""
    count, mean, square = 0, 0.0, 0.0
    for _, _, clean in scan.blocks():
        # Means and squares of blocks, merged (Chan et al. 1983): no cancellation of large sums.
        block = clean.astype(np.float64)
        here, centre = block.shape[1] * block.shape[2], block.mean(axis=(1, 2))
        step = centre - mean
        square = square + ((block - centre[:, None, None]) ** 2).sum(axis=(1, 2))
        square = square + step**2 * (count * here / (count + here))
        mean = mean + step * (here / (count + here))
        count += here
    return math.sqrt(float(np.mean(square)) / count)


def _zero_tilt_mean(scan: Scan) -> float:
    """Mean of the unshifted projection at zero tilt, on the specimen; refuses negative counts."""
    # Columns on the specimen; field and volume share their centre and their grid.
    n_u = scan.projector.n_u
    on = min(n_u, scan.projector.width)
    low, high = (n_u - on) // 2, (n_u + on) // 2
    sums, lowest = np.zeros(scan.rows.stop - scan.rows.start), math.inf
    # One pass for both: a procedural volume is made anew in each.
    for rows, columns, clean in Scan(scan.source, scan.projector.with_level(), scan.rows).blocks():
        lowest = min(lowest, float(clean[:-1].min()))
        here = slice(max(low - columns.start, 0), max(high - columns.start, 0))
        level = clean[-1:, :, here]
        if level.size:
            part = slice(rows.start - scan.rows.start, rows.stop - scan.rows.start)
            sums[part] += level.mean(axis=(0, 2)) * (level.shape[2] / on)
    mean = float(sums.mean())
    if mean <= 0:
        raise InputError(
            "noise", "poisson", f"the projection at zero tilt has the mean {mean:g}: no counts"
        )
    if lowest < -_RINGING * mean:
        raise InputError(
            "noise",
            "poisson",
            f"the projections go down to {lowest:g} at a mean of {mean:g}, and counts are not "
            "negative",
            "add a constant to the volume, or take gaussian noise",
        )
    return mean
