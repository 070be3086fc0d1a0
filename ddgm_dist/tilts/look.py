"""Looking at a series while it is written, when little is known of the specimen yet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.pixels.findings import Finding
from ddgm_dist.pixels.hot_pixels import HotThreshold
from ddgm_dist.pixels.level import LevelCheck
from ddgm_dist.pixels.scan import Scan
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.tilts.rows import repair
from ddgm_dist.tilts.series import TiltSeriesMeta

__all__ = ["Look"]

_OUTCOME = "kept; reconstruct masks what is no measurement"
# Rows that a constant is told from, the bytes that they may take, and how many times wider than thick
# the field is taken to be where nobody has said so.
_LINES, _LINES_BYTES, _THICK = 16, 64 * 2**20, 8


class Look:
    """Collects the blocks of rows of a series, and says what is the matter with them.

    Some rows from all over the series tell how far a hot pixel stands out (`probe`), or else the first
    block that has contrast.

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
        tilts, height, field = shape
        count = max(1, min(_LINES, _LINES_BYTES // (4 * tilts * field)))
        self._rows = set(np.linspace(0, height - 1, count).astype(int).tolist())
        self._lines: dict[int, NDArray[np.float32]] = {}

    def probe(self, parts: Sequence[NDArray[np.float32]]) -> None:
        """Before all blocks: some rows ``(tilt, rows, u)`` from all over the series."""
        probes = HotThreshold(len(parts))
        for part in parts:
            probes.add(part)
        if parts:
            self._probes, self._scan.threshold = probes, probes.value()

    def add(self, row: int, block: NDArray[np.float32]) -> None:
        """Whole rows ``(tilt, rows, u)`` from ``row`` on, in their order; pixels may be NaN."""
        if self._scan.threshold is None:
            self._probes = HotThreshold(1)
            self._probes.add(block)
            self._scan.threshold = self._probes.value()
        self._scan.add((0, row, 0), block)
        for kept in self._rows.intersection(range(row, row + block.shape[1])):
            self._lines[kept] = block[:, kept - row].copy()

    def findings(self, *, dark: float) -> tuple[Finding, ...]:
        """What was noticed in all of it.

        Parameters
        ----------
        dark
            What was subtracted already.
        """
        assert self._probes is not None, "blocks come first"
        _, height, _ = self._shape
        seen = self._scan.result(self._probes.probes, self._geometry(height), known=False)
        found = seen.findings(self._meta.angles_deg, masked=_OUTCOME, kept="kept")
        constant = self._level(seen.screen() or Screen()).finding(
            "give --dark {level} if it is no signal", already=dark
        )
        return found if constant is None else (*found, constant)

    def _level(self, screen: Screen) -> LevelCheck:
        """What some of the rows tell of a constant."""
        level, (tilts, _, _) = LevelCheck(None), self._shape
        rows = sorted(self._lines)
        lines = np.stack([self._lines[row] for row in rows], axis=1)
        good = np.isfinite(lines)
        for k, row in enumerate(rows):
            # A row by itself: its neighbours are not here.
            good[:, k : k + 1] &= screen.good(lines[:, k : k + 1], row, (0,) * tilts)
        if not good.any():
            return level
        if not good.all():
            lines = repair(lines, good, np.full(tilts, np.median(lines[good]), np.float32))
        geometry = self._geometry(len(rows))
        level.add(torch.from_numpy(lines), geometry, torch.from_numpy(good))
        return level

    def _geometry(self, rows: int) -> Geometry:
        """Of so many rows of a slab."""
        field = self._shape[2]
        return Geometry(
            angles_deg=self._meta.angles_deg,
            thickness=self._meta.thickness_px or max(1, field // _THICK),
            rows=rows,
            field=field,
            shifts_px=self._meta.shifts_px or (),
        )
