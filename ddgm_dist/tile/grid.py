"""The grid of a plan's tiles: finds the tiles around a tile without comparing all pairs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import cached_property
from itertools import takewhile

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.tiling import Tile, window_support
from ddgm_dist.records.checkpoint import CheckpointLayout

__all__ = ["TileGrid"]


class TileGrid:
    """Neighbourhoods of tiles, and the layout of their checkpoints.

    Parameters
    ----------
    plan
        Plan of the run. The tiles of a sample form a grid, row by row: every row is cut at the same
        columns.
    geometry
        Geometry of the tilt series.
    rows_per_call
        Rows of a block, which is what a checkpoint chunk holds.
    """

    def __init__(self, plan: Plan, geometry: Geometry, rows_per_call: int) -> None:
        self.plan, self.field, self.rows = plan, geometry.field, geometry.rows
        self.depth, self.block = geometry.thickness, rows_per_call
        # Only the first row and column are read: there may be a hundred thousand tiles.
        tiles, first = plan.tiles, plan.tiles[0]
        top = first.write_box.start[1], first.sample
        first_row = list(takewhile(lambda t: (t.write_box.start[1], t.sample) == top, tiles))
        self._samples = tiles[-1].sample + 1
        self._each = len(tiles) // self._samples
        self._xs = [tile.write_box.start[2] for tile in first_row]
        self._ys = [tiles[i].write_box.start[1] for i in range(0, self._each, len(first_row))]
        self._support = [window_support(tile, self.field, plan.margin) for tile in first_row]
        self._reads = [(t.read_box.start[2], t.read_box.stop[2]) for t in first_row]

    def column(self, tile: Tile) -> int:
        """Index of a tile along x."""
        return bisect_left(self._xs, tile.write_box.start[2])

    def slot(self, tile: Tile) -> int:
        """Index of a tile's column in checkpoints, where the columns of all samples are side by side."""
        return tile.sample * len(self._xs) + self.column(tile)

    def support(self, tile: Tile) -> tuple[int, int]:
        """Columns ``[start, stop)`` where the tile's blending window is not zero."""
        return self._support[self.column(tile)]

    def senders(self, tile: Tile) -> list[Tile]:
        """Tiles whose windows reach into a tile's read box, itself among them, by name."""
        x0, x1 = tile.read_box.start[2], tile.read_box.stop[2]
        columns = [i for i, (a, b) in enumerate(self._support) if a < x1 and x0 < b]
        rows = self._rows(tile.read_box.start[1], tile.read_box.stop[1])
        return self._pick(rows, columns, tile)

    def receivers(self, tile: Tile) -> list[Tile]:
        """Tiles into whose read boxes a tile's window reaches, itself among them, by name."""
        x0, x1 = self.support(tile)
        columns = [i for i, (a, b) in enumerate(self._reads) if a < x1 and x0 < b]
        own = tile.write_box.y
        reach = self._row_reach
        rows = [
            i
            for i in self._rows(max(0, own.start - reach), own.stop + reach)
            if self._touches(self._tile(i, 0, tile.sample), own.start, own.stop)
        ]
        return self._pick(rows, columns, tile)

    def _tile(self, row: int, column: int, sample: int = 0) -> Tile:
        return self.plan.tiles[sample * self._each + row * len(self._xs) + column]

    @cached_property
    def _row_reach(self) -> int:
        """Rows that tiles read beyond their own, at most."""
        return max(
            max(
                t.write_box.start[1] - t.read_box.start[1], t.read_box.stop[1] - t.write_box.stop[1]
            )
            for t in (self._tile(i, 0) for i in range(len(self._ys)))
        )

    @staticmethod
    def _touches(tile: Tile, start: int, stop: int) -> bool:
        return tile.read_box.start[1] < stop and start < tile.read_box.stop[1]

    def _rows(self, start: int, stop: int) -> range:
        """Rows of tiles that own a row in ``[start, stop)``."""
        return range(bisect_right(self._ys, start) - 1, bisect_left(self._ys, stop))

    def _pick(self, rows: range | list[int], columns: list[int], tile: Tile) -> list[Tile]:
        found = [self._tile(i, j, tile.sample) for i in rows for j in columns]
        return sorted((t for t in found if t.group == tile.group), key=lambda t: t.name)

    @cached_property
    def layout(self) -> CheckpointLayout:
        """Layout of the checkpoints: the same for any cut along y."""
        return CheckpointLayout(
            columns=self._samples * len(self._xs),
            depth=self.depth,
            rows=self.rows,
            support=max(b - a for a, b in self._support),
            block=self.block,
        )

    def chunks(self, tile: Tile, rows: slice | None = None) -> list[str]:
        """Keys of the checkpoint chunks that hold a tile's state, or some rows of it."""
        own = tile.write_box.y
        start, stop = own.start, own.stop
        if rows is not None:
            start, stop = max(start, rows.start), min(stop, rows.stop)
        return self.layout.keys(self.slot(tile), start, stop)
