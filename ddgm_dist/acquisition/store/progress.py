"""The share of a series that is written."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Report", "Share"]

Report = Callable[[float], None]


class Share:
    """Reports the share of some pixels that are finished.

    Attributes
    ----------
    total
        Number of pixels; to be set before any is finished.
    """

    def __init__(self, report: Report | None) -> None:
        self._report, self.total, self._done = report, 1, 0

    def add(self, pixels: int) -> None:
        """Report so many pixels more."""
        self._done += pixels
        if self._report is not None:
            self._report(min(1.0, self._done / self.total))
