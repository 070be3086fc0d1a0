"""The tilt axis in images that no transforms turn, by the options and the files of the source."""

from __future__ import annotations

from pathlib import Path

from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.source import Source
from ddgm_dist.tilts.provenance import Provenance

__all__ = ["find_axis", "is_aligned", "skip_axes"]


def is_aligned(source: Source) -> bool:
    """Return whether the stack is an aligned one by its name, if only coarsely."""
    beside = source.companions
    return beside is not None and (beside.aligned or beside.prealigned)


def find_axis(source: Source, options: IngestOptions, record: Provenance) -> tuple[float, str]:
    """Angle of the tilt axis from the vertical, degrees, and where it comes from.

    Parameters
    ----------
    source
        The open source and the files beside it.
    options
        Options of the ingest, which count before files.
    record
        Takes what is not used.
    """
    name = Path(source.path).name
    if options.tilt_axis_angle is not None:
        found = options.tilt_axis_angle, "--tilt-axis-angle"
    elif options.tilt_axis == "columns":
        found = -90.0, "--tilt-axis columns"
    elif options.xf == "none":
        found = 0.0, "--xf none"
    elif is_aligned(source):
        found = 0.0, f"name of {name}"
        if source.companions is not None and source.companions.prealigned:
            record.warnings.append(
                f"{name} is aligned coarsely, by its name: its tilt axis is not turned, and shifts "
                "remain; ingest the raw stack with its .xf instead"
            )
    elif source.mdoc is not None and source.mdoc.tilt_axis_deg is not None:
        return source.mdoc.tilt_axis_deg, f"{_mdoc_name(source)}, {source.mdoc.tilt_axis_from}"
    elif source.axis_deg is not None:
        return source.axis_deg, source.axis_from
    else:
        return 0.0, "assumed: no file says otherwise"
    skip_axes(source, record, f"{found[1]} counts")
    return found


def skip_axes(source: Source, record: Provenance, why: str) -> None:
    """Name the tilt axis that the files state as not used, and why."""
    if source.mdoc is not None and source.mdoc.tilt_axis_deg is not None:
        axis = source.mdoc.tilt_axis_deg
        record.skip(_mdoc_name(source), f"its tilt axis angle {axis:g}: {why}")
    elif source.axis_deg is not None:
        record.skip(source.axis_from, f"their tilt axis angle {source.axis_deg:g}: {why}")


def _mdoc_name(source: Source) -> str:
    return Path(source.path).name if source.mdoc is None else source.mdoc.path.name
