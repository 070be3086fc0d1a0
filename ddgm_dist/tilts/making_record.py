"""The record of a series that has just been written."""

from __future__ import annotations

import contextlib
import uuid
from typing import get_args

from ddgm_dist.core.geometry import Boundary
from ddgm_dist.errors import InputError
from ddgm_dist.pixels.observations import Observations
from ddgm_dist.tilts.estimate import estimate
from ddgm_dist.tilts.reader import TiltSeries
from ddgm_dist.tilts.record import Record
from ddgm_dist.tilts.recorded_estimate import Estimate
from ddgm_dist.tilts.survey import Survey

__all__ = ["make_record"]


def make_record(series: TiltSeries, seen: Survey) -> Record:
    """Record of a series, with a new identity and with the survey of all its pixels."""
    return Record(
        # A name that no other series has distinguishes two of one shape.
        identity=uuid.uuid4().hex,
        shape=series.shape,
        dtype=str(series.dtype),
        meta=series.meta,
        fingerprint=seen.fingerprint,
        bad=seen.bad,
        observations=seen.observations,
        estimates=_estimates(series, seen.observations),
    )


def _estimates(series: TiltSeries, observations: Observations) -> dict[str, Estimate]:
    """Estimates by boundary, for the stored thickness."""
    meta, found = series.meta, dict[str, Estimate]()
    if meta.thickness_px is None:
        return found
    for boundary in get_args(Boundary):
        geometry = series.geometry(meta.thickness_px, boundary=boundary)
        # Where nothing can be estimated, the run says so.
        with contextlib.suppress(InputError):
            found[boundary] = estimate(series, geometry, observations.judge(geometry).screen())
    return found
