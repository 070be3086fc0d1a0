"""A coarse check of a tilt series before it is reconstructed, and what it would mend."""

from __future__ import annotations

import copy
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddgm_dist.alignment.angle_offset import OffsetEstimate, estimate_offset
from ddgm_dist.alignment.correlation import prepare
from ddgm_dist.alignment.shifts import ShiftEstimate, estimate_shifts
from ddgm_dist.alignment.small_views import SmallViews, read_small_views
from ddgm_dist.alignment.tilt_axis import AxisEstimate, estimate_axis
from ddgm_dist.errors import InputError
from ddgm_dist.paths.locate import locate
from ddgm_dist.tilts.amend import amend_series
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.tilts.progress import show_reading
from ddgm_dist.tilts.series import open_series_at
from ddgm_dist.views.counts_evidence import looks_like_counts

__all__ = ["Check", "check"]

# What is worth a remark: degrees of the axis and of the angles, pixels of shifts and of the axis.
_AXIS_DEG, _WRONG_AXIS_DEG = 3.0, 12.0
_OFFSET_DEG = 1.5
_SHIFT_PX, _SMALL_PX = 1.0, 0.25
_AXIS_PX, _AXIS_ERRORS = 1.5, 4.0
# Correlation of neighbours below which nothing can be said of shifts.
_ALIKE = 0.2
_SHOWN = 3


@dataclass(frozen=True)
class Check:
    """Result of a check; sizes are pixels of the series, angles degrees.

    Attributes
    ----------
    axis_deg
        Direction of the tilt axis from the vertical; None where it is not clear.
    shifts_px
        ``(dy, dx)`` of each view beyond those that the series states; None where they are not clear.
    shift_rms_px
        Their root mean square, over views and both directions.
    axis_offset_px
        Offset of the tilt axis from the middle of the columns, beyond what the series states; None where
        it is not clear.
    angle_offset_deg
        To be added to all angles; None where it is not clear.
    alike
        Median correlation of neighbouring views.
    findings
        One line for each thing that looks wrong, the most important first.
    """

    axis_deg: float | None
    shifts_px: tuple[tuple[float, float], ...] | None
    shift_rms_px: float | None
    axis_offset_px: float | None
    angle_offset_deg: float | None
    alike: float
    findings: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """True if nothing looks wrong."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "good": self.is_good}


def check(tilts: str | Path, *, apply: bool = False, progress: bool = False) -> Check:
    """Estimate from a series itself how well it is aligned.

    Nothing is changed without ``apply``. The estimates are coarse: to about a degree and a pixel, or a
    pixel of images of 320 columns if the series is wider.

    Parameters
    ----------
    tilts
        Tilt-series store.
    apply
        Add the estimated shifts, the offset of the axis and that of the angles to what the store says.
        The direction of the axis cannot be mended there: `ddgm_dist.ingest` turns the images.
    progress
        Show on standard error how far the series is read.

    Raises
    ------
    InputError
        The store cannot be read, or nothing could be estimated that could be applied.
    """
    place = locate(tilts, "tilts")
    series = open_series_at(place)
    with show_reading(f"reading {place.name}", shown=progress) as report:
        small = read_small_views(series, report=report)
    found = _judge(small, series.meta)
    if apply:
        if found.shifts_px is None and found.angle_offset_deg is None:
            raise InputError(
                "apply",
                "true",
                "neither shifts nor an offset of the angles could be estimated, so nothing is written",
                "; ".join(found.findings) or "the series needs none",
            )
        amend_series(series, mended(series.meta, found))
    return found


def mended(meta: TiltSeriesMeta, found: Check) -> TiltSeriesMeta:
    """The metadata with the estimates of a check."""
    shifts = meta.shifts_px or ((0.0, 0.0),) * len(meta.angles_deg)
    if found.shifts_px is not None:
        dx0 = found.axis_offset_px or 0.0
        shifts = tuple(
            (dy + more_y, dx + more_x + dx0)
            for (dy, dx), (more_y, more_x) in zip(shifts, found.shifts_px, strict=True)
        )
    offset = found.angle_offset_deg or 0.0
    record = copy.deepcopy(meta.provenance)
    if record is not None:
        rms = "no shifts" if found.shift_rms_px is None else f"{found.shift_rms_px:.2f} pixels rms"
        record.say("shifts and offset added", f"{rms}, {offset:+.2f} degrees", "check --apply")
    return replace(
        meta,
        provenance=record,
        angles_deg=tuple(angle + offset for angle in meta.angles_deg),
        shifts_px=shifts if any(s != (0.0, 0.0) for s in shifts) else None,
    )


def _judge(small: SmallViews, meta: TiltSeriesMeta) -> Check:
    angles = list(meta.angles_deg)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # views without a pixel
        means = [float(m) for m in np.nanmean(small.images, axis=(1, 2))]
    images = list(small.images)
    axis = estimate_axis([prepare(image) for image in images], angles)
    shifts = estimate_shifts(_unshifted(small, meta), angles)
    offset = estimate_offset(means, angles)
    return _result(axis, shifts, offset, _counts_text(means, angles), small.block)


def _unshifted(small: SmallViews, meta: TiltSeriesMeta) -> list[NDArray[np.float64]]:
    """Views without the shifts that the series states."""
    if meta.shifts_px is None:
        return list(small.images)
    moved = []
    for image, (dy, dx) in zip(small.images, meta.shifts_px, strict=True):
        known = np.isfinite(image)
        filled = np.where(known, image, float(np.mean(image[known])) if known.any() else 0.0)
        by = (-dy / small.block, -dx / small.block)
        out = ndimage.shift(filled, by, order=3, mode="nearest")
        seen = ndimage.shift(known.astype(np.float64), by, order=1, mode="constant")
        moved.append(np.where(seen > 0.5, out, np.nan))
    return moved


def _counts_text(means: list[float], angles: list[float]) -> str:
    found = looks_like_counts(means, angles)
    if found is None:
        return ""
    return (
        f"values look like counts: their mean falls as exp(-{found.thickness:.2g} / cos); give ingest "
        "--counts auto"
    )


def _result(
    axis: AxisEstimate | None,
    shifts: ShiftEstimate | None,
    offset: OffsetEstimate | None,
    counts: str,
    block: int,
) -> Check:
    findings = [counts] if counts else []
    axis_deg = axis.degrees if axis is not None and axis.is_clear else None
    if axis_deg is not None and abs(axis_deg) > _AXIS_DEG:
        other = axis_deg - 180 if axis_deg > 0 else axis_deg + 180
        findings.append(
            f"the tilt axis is {axis_deg:.1f} degrees from the vertical (or {other:.1f}, the opposite "
            f"way, which mirrors the volume): give ingest --tilt-axis-angle {axis_deg:.1f}, or the .xf"
        )
    alike = 0.0 if shifts is None else float(np.median(shifts.quality))
    usable = shifts is not None and alike > _ALIKE
    if axis_deg is not None and abs(axis_deg) > _WRONG_AXIS_DEG:
        usable = False  # shifts across the axis would be those along it
    pixels, rms, axis_px = None, None, None
    if shifts is not None and usable:
        scaled = shifts.shifts * block
        pixels = tuple((float(dy), float(dx)) for dy, dx in scaled)
        rms = float(np.sqrt(np.square(scaled).mean()))
        if rms > max(_SHIFT_PX, _SMALL_PX * block):
            findings.append(_shift_text(scaled, rms))
        if abs(shifts.axis_offset) * block > _AXIS_PX and (
            abs(shifts.axis_offset) > _AXIS_ERRORS * max(shifts.axis_error, _SMALL_PX)
        ):
            axis_px = shifts.axis_offset * block
            findings.append(
                f"the tilt axis is {axis_px:+.1f} pixels off the middle of the columns, about: "
                "check --apply adds that, or give ingest --axis-column"
            )
    elif shifts is not None and alike <= _ALIKE:
        findings.append(
            f"neighbouring views are hardly alike (correlation {alike:.2f}): noise, or views in "
            "another order than the angles"
        )
    offset_deg = None
    if offset is not None and offset.is_clear and abs(offset.degrees) > _OFFSET_DEG:
        offset_deg = offset.degrees
        findings.append(
            f"the mean is least at {-offset_deg:+.1f} degrees, so the slab is inclined: "
            f"--angle-offset {offset_deg:.1f} of ingest (or check --apply) makes it level"
        )
    return Check(axis_deg, pixels, rms, axis_px, offset_deg, alike, tuple(findings))


def _shift_text(shifts: NDArray[np.float64], rms: float) -> str:
    size = np.hypot(shifts[:, 0], shifts[:, 1])
    worst = np.argsort(size)[::-1][:_SHOWN]
    views = ", ".join(f"{i + 1} ({shifts[i, 0]:+.1f}, {shifts[i, 1]:+.1f})" for i in worst)
    return (
        f"views are shifted by {rms:.1f} pixels (root mean square), most of all {views} as (dy, dx): "
        "align them, or add these with check --apply"
    )
