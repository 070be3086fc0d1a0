"""Looking at a series while it is written, when little is known of the specimen yet."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.hot_pixels import HotThreshold
from ddgm_dist.core.screen import Screen
from ddgm_dist.engine.measurements import repair
from ddgm_dist.findings import Finding
from ddgm_dist.inspection import Scan
from ddgm_dist.level import LevelCheck
from ddgm_dist.storage.tilt_series import TiltSeriesMeta

__all__ = ["Look"]

_OUTCOME = "kept; reconstruct masks what is no measurement"
# Rows of a block that the level is told from, and parts of the field when the thickness is unknown.
_LEVEL_ROWS, _THICK = 8, 8


class Look:
    """Collects the blocks of rows of a series, and says what is the matter with them.

    The first block that has contrast tells how far a hot pixel stands out.

    Parameters
    ----------
    shape
        ``(tilt, y, u)``.
    meta
        What is known of the tilts.
    """

    def __init__(self, shape: tuple[int, int, int], meta: TiltSeriesMeta) -> None:
        self._shape, self._meta = shape, meta
        self._scan = Scan(shape, None)
        self._probes: HotThreshold | None = None
        self._level = LevelCheck(None)

    def add(self, row: int, block: NDArray[np.float32]) -> None:
        """Whole rows ``(tilt, rows, u)`` from ``row`` on, in their order; pixels may be NaN."""
        if self._scan.threshold is None:
            self._probes = HotThreshold(1)
            self._probes.add(block)
            self._scan.threshold = self._probes.value()
        self._scan.add((0, row, 0), block)
        rows = np.unique(np.linspace(0, block.shape[1] - 1, _LEVEL_ROWS).astype(int))
        self._add_level(np.ascontiguousarray(block[:, rows]))

    def findings(self, *, dark: float) -> tuple[Finding, ...]:
        """What was noticed in all of it.

        Parameters
        ----------
        dark
            What was subtracted already.
        """
        assert self._probes is not None, "blocks come first"
        seen = self._scan.result(self._probes.probes, None)
        found = seen.findings(self._meta.angles_deg, masked=_OUTCOME, kept="kept")
        constant = self._level.finding("give --dark {level} if it is no signal", already=dark)
        return found if constant is None else (*found, constant)

    def _add_level(self, block: NDArray[np.float32]) -> None:
        """A few rows, in which rows beside each other need not have been so."""
        good = np.isfinite(block)
        if not good.any():
            return
        if self._scan.threshold is not None:
            # Rows that were far apart: what stands out in its own row is left out, if too much is.
            for line in range(block.shape[1]):
                good[:, line : line + 1] &= Screen(self._scan.threshold).good(
                    block[:, line : line + 1], 0, (0,) * len(block)
                )
        if not good.all():
            block = repair(block, good, np.full(len(block), np.median(block[good]), np.float32))
        _, rows, field = block.shape
        geometry = Geometry(
            angles_deg=self._meta.angles_deg,
            thickness=self._meta.thickness_px or max(1, field // _THICK),
            rows=rows,
            field=field,
            shifts_px=self._meta.shifts_px or (),
        )
        self._level.add(torch.from_numpy(block), geometry, torch.from_numpy(good))
