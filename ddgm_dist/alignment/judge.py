"""Findings about the alignment of a series, from its views at a coarse resolution."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddgm_dist.alignment.angle_offset import OffsetEstimate, estimate_offset
from ddgm_dist.alignment.correlation import prepare
from ddgm_dist.alignment.shifts import ShiftEstimate, estimate_shifts
from ddgm_dist.alignment.small_views import SmallViews
from ddgm_dist.alignment.tilt_axis import AxisEstimate, estimate_axis
from ddgm_dist.core.view_names import ViewNames
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.views.counts_evidence import looks_like_counts

__all__ = ["Check", "judge"]

# What is worth a remark: degrees of the axis and of the angles; pixels of small views.
_AXIS_DEG, _WRONG_AXIS_DEG = 5.0, 12.0
_OFFSET_DEG = 1.5
_SHIFT_PX = 1.0
# The centre of mass shows the axis better than correlation, which follows what is at some depth.
_AXIS_PX, _AXIS_PX_ISOLATED, _AXIS_ERRORS = 3.5, 1.0, 4.0
# Correlation of neighbours below which nothing can be said of shifts.
_ALIKE = 0.2
# Share of views that must be most like their neighbours, if views and angles belong together.
_ORDERED = 0.75
_SHOWN = 3


@dataclass(frozen=True)
class Check:
    """Result of a check; sizes are pixels of the series, angles degrees.

    Attributes
    ----------
    axis_deg
        Direction of the tilt axis from the vertical; None where it is not clear.
    shifts_px
        ``(dy, dx)`` of each view beyond those that the series states, without the offset of the axis;
        None where they are not clear.
    shift_rms_px
        Their root mean square, over views and both directions.
    axis_offset_px
        Offset of the tilt axis from the middle of the columns, beyond what the series states; None where
        it is not clear.
    angle_offset_deg
        To be added to all angles; None where there is none, or it is not clear.
    alike
        Median correlation of neighbouring views; None where they were not compared.
    findings
        One line for each thing that looks wrong, the most important first.
    shifts_found
        True if shifts or the offset of the axis are among the findings.
    applied
        True if shifts and angles were written.
    """

    axis_deg: float | None = None
    shifts_px: tuple[tuple[float, float], ...] | None = None
    shift_rms_px: float | None = None
    axis_offset_px: float | None = None
    angle_offset_deg: float | None = None
    alike: float | None = None
    findings: tuple[str, ...] = ()
    shifts_found: bool = False
    applied: bool = False

    @property
    def is_good(self) -> bool:
        """True if no estimate looks wrong; one that is not clear does not count."""
        return not self.findings

    @property
    def can_be_mended(self) -> bool:
        """True if some of what looks wrong can be written into the series."""
        return self.shifts_found or self.angle_offset_deg is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "good": self.is_good}


def judge(small: SmallViews, meta: TiltSeriesMeta) -> Check:
    """Estimate axis, shifts and offset of the angles, and say what looks wrong.

    Parameters
    ----------
    small
        Views of the series.
    meta
        Its metadata; shifts that it states are taken off first.
    """
    angles = list(meta.angles_deg)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # views without a pixel
        means = [float(m) for m in np.nanmean(small.images, axis=(1, 2))]
    stated = np.array(meta.shifts_px or [(0.0, 0.0)] * len(angles)) / small.block
    images = _moved_back(list(small.images), stated)
    axis = estimate_axis([prepare(image) for image in small.images], angles)
    found = _axis(Check(), axis)
    if found.axis_deg is None or abs(found.axis_deg) <= _WRONG_AXIS_DEG:
        # Otherwise shifts across the axis would be those along it.
        shifts = _refined(list(small.images), images, stated, angles)
        found = _shifts(found, shifts, small.block, meta.views)
    found = _offset(found, estimate_offset(means, angles))
    evidence = looks_like_counts(means, angles)
    if evidence is None:
        return found
    text = (
        f"values look like counts: their mean falls as exp(-{evidence.thickness:.2g} / cos); give "
        "ingest --counts auto"
    )
    return replace(found, findings=(text, *found.findings))


def _refined(
    images: list[NDArray[np.float64]],
    moved: list[NDArray[np.float64]],
    stated: NDArray[np.float64],
    angles: list[float],
) -> ShiftEstimate | None:
    """Shifts, estimated again from views that have been moved back by what was found first."""
    first = estimate_shifts(moved, angles)
    if first is None or float(np.sqrt(np.square(first.shifts).mean())) < _SHIFT_PX:
        return first
    more = first.shifts + np.array([0.0, first.axis_offset or 0.0])
    second = estimate_shifts(_moved_back(images, stated + more), angles)
    if second is None or np.median(second.quality) < np.median(first.quality):
        return first
    offset = None
    if first.axis_offset is not None and second.axis_offset is not None:
        offset = first.axis_offset + second.axis_offset
    return replace(
        second,
        shifts=first.shifts + second.shifts,
        axis_offset=offset,
        axis_error=max(first.axis_error, second.axis_error),
    )


def _moved_back(
    images: list[NDArray[np.float64]], shifts: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Views without their shifts."""
    moved = []
    for image, shift in zip(images, shifts, strict=True):
        if not shift.any():
            moved.append(image)
            continue
        known = np.isfinite(image)
        filled = np.where(known, image, float(np.mean(image[known])) if known.any() else 0.0)
        out = ndimage.shift(filled, -shift, order=3, mode="nearest")
        seen = ndimage.shift(known.astype(np.float64), -shift, order=1, mode="constant")
        moved.append(np.where(seen > 0.5, out, np.nan))
    return moved


def _axis(found: Check, axis: AxisEstimate | None) -> Check:
    if axis is None or not axis.is_clear:
        return found
    found = replace(found, axis_deg=axis.degrees)
    if abs(axis.degrees) <= _AXIS_DEG:
        return found
    other = axis.degrees - 180 if axis.degrees > 0 else axis.degrees + 180
    return _with(
        found,
        f"the tilt axis is {axis.degrees:.1f} degrees from the vertical (or {other:.1f}, the opposite "
        f"way, which mirrors the volume): give ingest --tilt-axis-angle {axis.degrees:.1f}, or the .xf",
    )


def _shifts(found: Check, shifts: ShiftEstimate | None, block: int, names: ViewNames) -> Check:
    if shifts is None:
        return found
    found = replace(found, alike=float(np.median(shifts.quality)))
    if float(np.median(shifts.quality)) < _ALIKE:
        return _with(
            found,
            f"neighbouring views are hardly alike (correlation {found.alike:.2f}): noise, or views in "
            "another order than the angles",
        )
    if shifts.in_order < _ORDERED:
        return _with(
            found,
            f"only {shifts.in_order:.0%} of the views are more like their neighbours in angle than "
            "like views farther off: views and angles seem to be in different orders",
        )
    scaled = shifts.shifts * block
    rms = float(np.sqrt(np.square(scaled).mean()))
    found = replace(
        found, shifts_px=tuple((float(dy), float(dx)) for dy, dx in scaled), shift_rms_px=rms
    )
    if rms > _SHIFT_PX * block:
        found = replace(_with(found, _shift_text(scaled, rms, names)), shifts_found=True)
    if shifts.axis_offset is None:
        return found
    found = replace(found, axis_offset_px=shifts.axis_offset * block)
    least = _AXIS_PX_ISOLATED if shifts.isolated else _AXIS_PX
    if abs(shifts.axis_offset) > max(least, _AXIS_ERRORS * shifts.axis_error):
        text = (
            f"the tilt axis is about {shifts.axis_offset * block:+.1f} pixels off the middle of the "
            "columns: check --apply adds that, or give ingest --axis-column"
        )
        found = replace(_with(found, text), shifts_found=True)
    return found


def _offset(found: Check, offset: OffsetEstimate | None) -> Check:
    if offset is None or not offset.is_clear or abs(offset.degrees) <= _OFFSET_DEG:
        return found
    degrees = round(offset.degrees, 1)
    return _with(
        replace(found, angle_offset_deg=degrees),
        f"the mean is least at {-degrees:+.1f} degrees, so the slab is inclined: --angle-offset "
        f"{degrees:.1f} of ingest (or check --apply) makes it level",
    )


def _with(found: Check, text: str) -> Check:
    return replace(found, findings=(*found.findings, text))


def _shift_text(shifts: NDArray[np.float64], rms: float, names: ViewNames) -> str:
    size = np.hypot(shifts[:, 0], shifts[:, 1])
    worst = np.argsort(size)[::-1][:_SHOWN]
    views = ", ".join(f"{names.name(i)} by {shifts[i, 0]:+.1f}, {shifts[i, 1]:+.1f}" for i in worst)
    return (
        f"views are shifted by {rms:.1f} pixels (root mean square), most of all {views} (dy, dx): "
        "align them, or add these with check --apply"
    )
