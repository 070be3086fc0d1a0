"""A coarse check of a tilt series before it is reconstructed, and what it would mend."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from ddgm_dist.alignment.judge import Check, judge
from ddgm_dist.alignment.small_views import read_small_views
from ddgm_dist.errors import InputError
from ddgm_dist.paths.locate import locate
from ddgm_dist.tilts.amend import amend_series
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.tilts.progress import show_reading
from ddgm_dist.tilts.provenance import Provenance
from ddgm_dist.tilts.series import open_series_at

__all__ = ["Check", "check", "mended"]


def check(tilts: str | Path, *, apply: bool = False, progress: bool = False) -> Check:
    """Estimate from a series itself how well it is aligned.

    Nothing is changed without ``apply``. The estimates are coarse: to about a degree and a pixel, or a
    pixel of images of 256 columns if the series is larger.

    Parameters
    ----------
    tilts
        Tilt-series store.
    apply
        Add shifts, the offset of the axis and that of the angles to what the store says, where they are
        among the findings. A series without findings is left as it is. The direction of the axis cannot
        be mended there: `ddgm_dist.ingest` turns the images.
    progress
        Show on standard error how far the series is read.

    Raises
    ------
    InputError
        The store cannot be read, nothing that looks wrong can be mended there, or another process writes
        to it.
    StorageError
        Pixels are damaged, or the store cannot be written.
    """
    place = locate(tilts, "tilts")
    series = open_series_at(place)
    with show_reading(f"reading {place.name}", shown=progress) as report:
        small = read_small_views(series, report=report)
    found = judge(small, series.meta)
    if not apply or found.is_good:
        return found
    if not found.can_be_mended:
        raise InputError(
            "apply",
            "true",
            f"nothing that looks wrong with {series.path} can be mended there, so nothing is written",
            "; ".join(found.findings),
        )
    amend_series(series, mended(series.meta, found))
    return replace(found, applied=True)


def mended(meta: TiltSeriesMeta, found: Check) -> TiltSeriesMeta:
    """The metadata with what a check found wrong with shifts and angles."""
    shifts, said = meta.shifts_px, list[str]()
    if found.shifts_found and found.shifts_px is not None:
        axis = found.axis_offset_px or 0.0
        shifts = tuple(
            (dy + more_y, dx + more_x + axis)
            for (dy, dx), (more_y, more_x) in zip(
                meta.shifts_px or ((0.0, 0.0),) * len(meta.angles_deg), found.shifts_px, strict=True
            )
        )
        said.append(f"shifts of {found.shift_rms_px or 0:.2f} pixels rms, axis {axis:+.2f} pixels")
    offset = found.angle_offset_deg or 0.0
    if offset:
        said.append(f"{offset:+.1f} degrees to all angles")
    record = copy.deepcopy(meta.provenance) or Provenance()
    record.say("geometry added", "; ".join(said), "check --apply")
    return replace(
        meta,
        provenance=record,
        angles_deg=tuple(angle + offset for angle in meta.angles_deg),
        shifts_px=shifts,
    )
