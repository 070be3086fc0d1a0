"""Reading all pixels of a series, where no record of them is to be had or they are to be verified."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

from ddgm_dist.core.parallel import Runner
from ddgm_dist.ray_engine.reachable import is_connected
from ddgm_dist.tilts.progress import show_reading
from ddgm_dist.tilts.series import TiltSeries
from ddgm_dist.tilts.survey import Survey, survey, verify

__all__ = ["SeriesReading", "default_readers"]

log = logging.getLogger("ddgm_dist")


def default_readers() -> Runner | None:
    """On Ray, if this process is connected to it."""
    if not is_connected():
        return None
    from ddgm_dist.ray_engine.parallel_map import on_ray

    return on_ray


@dataclass(frozen=True)
class SeriesReading:
    """Reads all pixels of a series, and shows how far it is.

    Attributes
    ----------
    series
        The open store.
    readers
        Asked for where pixels are read, when they are.
    progress
        Show on standard error how far it is; it is logged otherwise.
    """

    series: TiltSeries
    readers: Callable[[], Runner | None]
    _: KW_ONLY
    progress: bool

    def survey(self) -> Survey:
        """Survey of all pixels."""
        series = self.series
        log.info("%s: its writer left no record of its pixels, so all are read", series.path)
        what = f"reading {series.place.name} (written without digests)"
        with show_reading(what, shown=self.progress) as report:
            return survey(series, run=self.readers(), report=report)

    def verify(self) -> None:
        """Compare all pixels with the record; refuse where it is lost, and warn where none was made."""
        if self.series.record is None:
            verify(self.series)
            return
        with show_reading(f"verifying {self.series.place.name}", shown=self.progress) as report:
            verify(self.series, run=self.readers(), report=report)
