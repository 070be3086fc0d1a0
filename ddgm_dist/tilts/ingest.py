"""Turn measured projections in a common format into a tilt-series store."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.paths.locate import locate, place_of
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.paths.store_name import check_store_name
from ddgm_dist.readers.angles import as_angles, check_angles, read_angles
from ddgm_dist.readers.arrays import open_npy, open_npz
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.readers.images import (
    TIFF_SUFFIXES,
    ImageFolder,
    disagreement,
    open_images,
    open_tiff,
    pairing,
)
from ddgm_dist.readers.mrc import MRC_SUFFIXES, angles_beside, open_mrc
from ddgm_dist.tilts.bad_pixels import BadPixels, find_bad
from ddgm_dist.tilts.digests import CHUNK_ROWS
from ddgm_dist.tilts.findings import findings
from ddgm_dist.tilts.series import (
    TiltSeries,
    TiltSeriesMeta,
    check_meta,
    create_tilt_series,
    open_series_at,
)

__all__ = ["TiltAxis", "ingest"]

TiltAxis = Literal["rows", "columns"]
Angles = str | Path | Sequence[float]

_log = logging.getLogger("ddgm_dist")

_BLOCK_BYTES = 128 * 2**20
_STEPS = 64  # of float32 between the smallest and the largest value, at least


@dataclass(frozen=True)
class _Source:
    """A stack ``(tilt, row, column)`` and what its file says about it."""

    stack: VolumeSource
    angles_deg: tuple[float, ...] | None = None
    pixel_size_nm: float | None = None
    thickness_px: int | None = None
    shifts_px: tuple[tuple[float, float], ...] | None = None
    dark_level: float = 0.0


def ingest(
    source: str | Path,
    out: str | Path,
    *,
    angles: Angles | None = None,
    thickness: int | None = None,
    pixel_size_nm: float | None = None,
    tilt_axis: TiltAxis = "rows",
    rows: slice | None = None,
    columns: slice | None = None,
    dark: float | None = None,
    impute_nonfinite: bool = False,
    overwrite: bool = False,
    description: str = "",
) -> TiltSeries:
    """Write a tilt-series store from a stack of projections.

    The values must be line integrals, which add up along the ray, such as a HAADF signal. A constant
    ``dark`` may be subtracted.

    Parameters
    ----------
    source
        A file ``.npz``, ``.npy``, MRC or TIFF (one page per tilt), or a folder of PNG or TIFF images
        in the order of their names (see `ddgm_dist.readers.images.list_images`). The array's axes are
        ``(tilt, row, column)``. Angles and shifts may be in the ``.npz``, and angles in a ``.tlt``
        or ``.rawtlt`` file beside the MRC file.
    out
        The store to make: a path or a URL.
    angles
        Degrees, one per tilt: a file (see `ddgm_dist.readers.angles.read_angles`) or numbers. By default
        what the source says.
    thickness
        Thickness of the slab to reconstruct, pixels; may wait until the reconstruction.
    pixel_size_nm
        Edge of a pixel at the specimen; by default what the source says.
    tilt_axis
        Array axis that the specimen turns about. ``rows``: the axis that counts rows, vertical in
        the images, as IMOD aligns them. ``columns``: the last axis, horizontal in the images; every
        image is transposed.
    rows, columns
        Part of the store's rows ``y`` and columns ``u`` to keep, after any transposition. Columns
        off the centre by ``x0`` show the specimen around ``x0``, which moves with the tilt: a
        shift of ``x0 (cos - 1)`` is added for it.
    dark
        Value of vacuum, subtracted; by default what an ``.npz`` says in ``dark_level``, or 0.
    impute_nonfinite
        Store NaN and infinite pixels as NaN, to be imputed by the reconstruction. The store records
        that, so the reconstruction needs no option for it.
    overwrite
        Replace the store if it exists, when the new one is whole.
    description
        Free text for the store.

    Returns
    -------
    TiltSeries
        The store, open. Integers of at most 16 bits stay integers if nothing is subtracted;
        everything else becomes float32.

    Raises
    ------
    InputError
        The source cannot be read. Angles are missing, not one per tilt, NaN or too steep. Pixels are
        NaN or infinite, and ``impute_nonfinite`` is false. The output exists, or is, contains or lies
        in the source.
    StorageError
        The store cannot be written.
    """
    check_store_name(out)
    if tilt_axis not in ("rows", "columns"):
        raise InputError("tilt_axis", tilt_axis, "must be 'rows' or 'columns'")
    place, file = locate(out, "out"), _on_disk(source, "source")
    refuse_overlap(place, "out", [("source", file)])
    if isinstance(angles, str | Path):
        angles = _on_disk(angles, "angles")
        refuse_overlap(place, "out", [("angles", angles)])
    found = _open(file, beside=angles is None)
    level = found.dark_level if dark is None else float(dark)
    if not abs(level) <= float(np.finfo(np.float32).max):
        raise InputError("dark", level, "must be a number of float32", "leave it out for none")
    projections = _Projections(found.stack, tilt_axis, rows, columns, level)
    degrees = _angles(angles, found.angles_deg, str(source))
    check_angles(degrees, _origin(angles, file))
    meta = TiltSeriesMeta(
        angles_deg=degrees,
        shifts_px=_shifts(found.shifts_px, degrees, projections.off_centre),
        pixel_size_nm=found.pixel_size_nm if pixel_size_nm is None else pixel_size_nm,
        thickness_px=found.thickness_px if thickness is None else thickness,
        description=description,
    )
    check_meta(meta, projections.shape[0], str(source))
    _log_pairs(found.stack, degrees)
    # Before anything is written or overwritten, so that a refused source leaves no trace.
    projections.refuse_lost_contrast(str(source))
    bad = projections.count_bad()
    if bad.count and not impute_nonfinite:
        raise InputError(
            "source",
            str(source),
            f"has {bad.describe()}",
            "give --impute-nonfinite to treat them as unmeasured",
        )
    dtype = projections.store_dtype()
    if bad.count:
        meta = replace(meta, bad_pixels="unmeasured")
    with create_tilt_series(
        place, projections.shape, meta, dtype=dtype, overwrite=overwrite, checked=True
    ) as writer:
        for part in projections.blocks():
            writer.write(part, projections.read(part).astype(dtype, copy=False))
    series = open_series_at(place, checked=True)
    for finding in findings(series, dark=level):
        _log.warning("%s: %s", source, finding.text)
    return series


class _Projections:
    """The source in the store's axes ``(tilt, y, u)``, cropped and with vacuum at zero."""

    def __init__(
        self,
        stack: VolumeSource,
        tilt_axis: TiltAxis,
        rows: slice | None,
        columns: slice | None,
        dark: float,
    ) -> None:
        self._stack, self._dark = stack, dark
        self._transposed = tilt_axis == "columns"
        tilts, height, width = stack.shape
        if self._transposed:
            height, width = width, height
        self._y = _part("rows", rows, height)
        self._u = _part("columns", columns, width)
        self.shape = (tilts, len(self._y), len(self._u))
        # How far the centre of the kept columns lies from the detector's, pixels.
        self.off_centre = (self._u.start + self._u.stop - width) / 2

    def read(self, rows: slice) -> NDArray[np.float32]:
        """Rows of the cropped series as float32 ``(tilt, rows, u)``; infinities become NaN."""
        block = self._stored(rows)
        block -= np.float32(self._dark)
        if np.issubdtype(self._stack.dtype, np.floating):
            block[~np.isfinite(block)] = np.nan
        return block

    def _stored(self, rows: slice) -> NDArray[np.float32]:
        """Rows as they are in the source, nothing subtracted."""
        y = self._y[rows]
        a, b = (y.start, self._u.start), (y.stop, self._u.stop)
        if self._transposed:
            a, b = a[::-1], b[::-1]
        block = self._stack.read(Box((0, *a), (self.shape[0], *b)))
        return np.ascontiguousarray(block.transpose(0, 2, 1)) if self._transposed else block

    def refuse_lost_contrast(self, source: str) -> None:
        """Refuse an offset beside which float32 cannot resolve the values.

        Raises
        ------
        InputError
            They span fewer than `_STEPS` steps of float32.
        """
        dtype = self._stack.dtype
        if dtype.itemsize <= (4 if dtype.kind == "f" else 2):
            return  # each value is one of float32
        low, high = np.inf, -np.inf
        for rows in self.blocks():
            block = self._stored(rows)
            block = block[np.isfinite(block)]
            if block.size:
                low, high = min(low, float(block.min())), max(high, float(block.max()))
        step = float(np.spacing(np.float32(max(abs(low), abs(high)))))
        if low <= high and max(abs(low), abs(high)) > 0 and high - low < _STEPS * step:
            raise InputError(
                "source",
                source,
                f"holds {dtype} between {low:.9g} and {high:.9g}, where float32 has "
                f"steps of {step:.2g}: next to nothing of the contrast is left",
                "subtract the offset in the file",
            )

    def blocks(self) -> list[slice]:
        """Rows in steps of whole chunks: as many as fit, since images are decoded per block."""
        tilts, height, width = self.shape
        step = max(1, _BLOCK_BYTES // (4 * tilts * width * CHUNK_ROWS)) * CHUNK_ROWS
        return [slice(i, min(i + step, height)) for i in range(0, height, step)]

    def count_bad(self) -> BadPixels:
        """NaN and infinite pixels, in the store's coordinates."""
        if not np.issubdtype(self._stack.dtype, np.floating):
            return BadPixels(0)
        return BadPixels.merge(
            find_bad((0, rows.start, 0), self.read(rows)) for rows in self.blocks()
        )

    def store_dtype(self) -> np.dtype[np.generic]:
        """Small integers are kept (half the bytes); float32 holds all of them exactly."""
        dtype = self._stack.dtype
        small = dtype.kind in "iu" and dtype.itemsize <= 2
        return dtype.newbyteorder("=") if small and self._dark == 0 else np.dtype(np.float32)


def _on_disk(path: str | Path, argument: str) -> Path:
    place = place_of(path, argument)
    if not isinstance(place, Path):
        raise InputError(
            argument, str(path), "is in an object store, where only Zarr is read", "copy it here"
        )
    return place


def _open(source: Path, *, beside: bool) -> _Source:
    """Open a source by what it is, with the angles of the file beside it if they are wanted."""
    if not source.exists():
        raise InputError("source", str(source), "does not exist")
    suffix = source.suffix.lower()
    if source.is_dir() and is_zarr(source):
        raise InputError(
            "source",
            str(source),
            "is a Zarr store, which ingest makes and does not read",
            "a tilt series in it needs no ingest: give it to plan or reconstruct",
        )
    if source.is_dir():
        return _Source(open_images(source), _beside(source, beside))
    if suffix == ".npz":
        npz = open_npz(source)
        return _Source(
            npz.stack,
            npz.angles_deg,
            npz.pixel_size_nm,
            npz.thickness_px,
            npz.shifts_px,
            npz.dark_level,
        )
    if suffix == ".npy":
        return _Source(open_npy(source), _beside(source, beside))
    if suffix in TIFF_SUFFIXES:
        return _Source(open_tiff(source), _beside(source, beside))
    if suffix in MRC_SUFFIXES:
        mrc = open_mrc(source, tilt_series=True)
        return _Source(mrc, _beside(source, beside), mrc.pixel_size_nm)
    raise InputError(
        "source",
        str(source),
        "is not an .npz, .npy or MRC file, nor a TIFF file or a folder of PNG or TIFF images",
    )


def _beside(source: Path, wanted: bool) -> tuple[float, ...] | None:
    file = angles_beside(source) if wanted else None
    return None if file is None else read_angles(file)


def _angles(
    given: Angles | None, found: tuple[float, ...] | None, source: str
) -> tuple[float, ...]:
    if isinstance(given, str | Path):
        return read_angles(given)
    if given is not None:
        return as_angles(given, "as given")
    if found is None:
        raise InputError(
            "angles",
            "none",
            f"{source} comes without tilt angles (in it, or in a .tlt or .rawtlt file beside it)",
            "give --angles FILE, one angle in degrees per line",
        )
    return found


def _origin(given: Angles | None, source: Path) -> str:
    """The file that the angles come from, for messages."""
    if given is not None:
        return str(given) if isinstance(given, str | Path) else "as given"
    beside = None if source.suffix.lower() == ".npz" else angles_beside(source)
    return str(beside or source)


def _log_pairs(stack: VolumeSource, degrees: tuple[float, ...]) -> None:
    """Log which image of a folder is taken for which angle, and whether the names say another."""
    if isinstance(stack, ImageFolder):
        _log.info("images and angles: %s", pairing(stack.files, degrees))
        if wrong := disagreement(stack.files, degrees):
            _log.warning("%s", wrong)


def _shifts(
    found: tuple[tuple[float, float], ...] | None, degrees: tuple[float, ...], x0: float
) -> tuple[tuple[float, float], ...] | None:
    """The shifts seen from columns centred at ``x0``.

    With x = x0 + x' and u = x0 + u', u = x cos + z sin + dx is
    u' = x' cos + z sin + dx + x0 (cos - 1).
    """
    if x0 == 0 or (found is not None and len(found) != len(degrees)):
        return found
    shifts = found or ((0.0, 0.0),) * len(degrees)
    turned = [x0 * (math.cos(math.radians(a)) - 1) for a in degrees]
    return tuple((dy, dx + move) for (dy, dx), move in zip(shifts, turned, strict=True))


def _part(name: str, part: slice | None, extent: int) -> range:
    """The indices kept of an axis; contiguous, not empty and within it."""
    start, stop = (0, extent) if part is None else (part.start or 0, part.stop)
    stop = extent if stop is None else stop
    step = None if part is None else part.step
    if not 0 <= start < stop <= extent or step not in (None, 1):
        raise InputError(name, f"{start}:{stop}", f"must be start:stop within 0:{extent}")
    return range(start, stop)
