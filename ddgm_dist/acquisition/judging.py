"""A look at a series whose pixels are all written, before the store is whole."""

from __future__ import annotations

from typing import Protocol

import zarr

from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.pixels.observations import Observations
from ddgm_dist.tilts.metadata import ARRAY, TiltSeriesMeta, dump_meta, parse_meta
from ddgm_dist.tilts.series import TiltSeries, open_series_at
from ddgm_dist.tilts.survey import Survey
from ddgm_dist.tilts.writer import TiltSeriesWriter

__all__ = ["Judge", "judge_written"]


class Judge(Protocol):
    """Looks at a series before it becomes whole, and raises an error where it must not."""

    def __call__(self, series: TiltSeries, seen: Observations, *, kept: bool) -> None:
        """Judge a series by its pixels and by what its writer saw of them.

        Parameters
        ----------
        series
            The series at the place where it is written; it has no record yet.
        seen
            Pixels that may be no measurement.
        kept
            What was written stays when an error is raised, and the next writer goes on from there.
        """
        ...


def judge_written(
    judge: Judge, writer: TiltSeriesWriter, meta: TiltSeriesMeta, seen: Survey | None, *, kept: bool
) -> None:
    """Have a series judged that is being written; raises what the judge raises.

    Parameters
    ----------
    judge
        Who judges it.
    writer
        Its writer, which has written all pixels.
    meta
        Metadata of the series.
    seen
        Survey of its pixels; None where an earlier writer left the store whole, with a record.
    kept
        See `Judge`.
    """
    if seen is not None:
        group = zarr.open_group(zarr_store(writer.work), mode="r")
        array = group[ARRAY]
        assert isinstance(array, zarr.Array)
        # As it is read again: whole numbers have become floats.
        meta = parse_meta(dump_meta(meta), writer.path)
        judge(TiltSeries(writer.work, writer.work, array, meta), seen.observations, kept=kept)
        return
    series = open_series_at(writer.work)
    assert series.record is not None, "our writer leaves one"
    judge(series, series.record.observations, kept=kept)
