"""Findings about a series that was just ingested, when little is known of the specimen yet."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.pixels.findings import Finding, constant
from ddgm_dist.pixels.level import LevelCheck
from ddgm_dist.pixels.observations import Observations
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.tilts.reader import TiltSeries
from ddgm_dist.tilts.rows import repair

__all__ = ["advice_on_constant", "findings"]

_OUTCOME = "kept; reconstruct masks what is no measurement"
# Rows in which a constant is looked for, and the bytes that they may take. A field is taken to be so
# many times wider than thick where the thickness is unknown.
_LINES, _LINES_BYTES, _THICK = 16, 24 * 2**20, 8
_COUNTS = (
    "a specimen below 0 is the mark of counts, which fall with the tilt: give ingest --counts; or "
    "--counts none, if they are none"
)
# Logarithm of a factor that no beam is wrong by.
_MOST_LOG = 20


def findings(series: TiltSeries, observations: Observations, *, dark: float) -> tuple[Finding, ...]:
    """Findings about the pixels.

    Parameters
    ----------
    series
        Open store; it need have no record.
    observations
        Pixels that may be no measurement, as their writer saw them.
    dark
        Constant that was subtracted already.
    """
    height = series.shape[1]
    seen = observations.judge(_geometry(series, height), known=False)
    found = seen.findings(series.meta.views, masked=_OUTCOME, kept="kept")
    lines, good = _sample(series, seen.screen() or Screen())
    level = _constant(series, lines, good)
    if level is None:
        return found
    outcome = f"give --dark {dark + level[0]:.4g} if it is no signal"
    if series.meta.provenance is not None and series.meta.provenance.values_assumed:
        outcome += "; or --counts, if these are counts of a dose that rose with the tilt"
    return (*found, constant(*level, advice_on_constant(series.meta, *level, outcome)))


def advice_on_constant(meta: TiltSeriesMeta, level: float, specimen: float, otherwise: str) -> str:
    """Advice on a constant in every pixel, as a clause.

    Line integrals ``-log(counts / beam)`` all have ``log f`` too much if the beam is f times too high.

    Parameters
    ----------
    meta
        Metadata of the series, whose provenance says whether the logarithm was taken.
    level
        The constant, projection units.
    specimen
        The specimen's own mean at zero tilt, projection units. It is negative in counts, which fall with
        the tilt; a dark level is no remedy there.
    otherwise
        Advice where no logarithm was taken.
    """
    beam = None if meta.provenance is None else meta.provenance.beam
    if beam is None and specimen < 0:
        return _COUNTS
    if beam is None:
        return otherwise
    text = (
        f"the logarithm was taken of a beam of {beam.value} ({beam.origin}): check ingest --counts"
    )
    if abs(level) > _MOST_LOG:
        return text
    return f"{text}; a beam of {math.exp(-level):.3g} times as much would leave no constant"


def _sample(series: TiltSeries, screen: Screen) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Some rows from all over the series, and which of their pixels are measured."""
    tilts, height, field = series.shape
    count = max(1, min(_LINES, _LINES_BYTES // (4 * tilts * field)))
    rows = np.unique(np.linspace(0, height - 1, count).astype(int)).tolist()
    lines = np.empty((tilts, len(rows), field), dtype=np.float32)
    good = np.empty(lines.shape, dtype=bool)
    for k, row in enumerate(rows):
        here = slice(k, k + 1)
        lines[:, here] = series.read(slice(row, row + 1))
        # A row by itself: its neighbours are not here.
        good[:, here] = np.isfinite(lines[:, here])
        good[:, here] &= screen.good(lines[:, here], row, (0,) * tilts)
    return lines, good


def _constant(
    series: TiltSeries, lines: NDArray[np.float32], good: NDArray[np.bool_]
) -> tuple[float, float] | None:
    """A constant in some rows of the series, and the specimen's own mean."""
    tilts, rows, _ = lines.shape
    if not good.any():
        return None
    if not good.all():
        lines = repair(lines, good, np.full(tilts, np.median(lines[good]), np.float32))
    level = LevelCheck(None)
    level.add(torch.from_numpy(lines), _geometry(series, rows), torch.from_numpy(good))
    return level.constant()


def _geometry(series: TiltSeries, rows: int) -> Geometry:
    """Geometry of so many rows of a slab."""
    thickness = series.meta.thickness_px or max(1, series.shape[2] // _THICK)
    return series.geometry(thickness, rows=rows)
