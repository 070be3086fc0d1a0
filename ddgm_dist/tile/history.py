"""Generations from which groups of tiles resume: the newest committed for all their chunks."""

from __future__ import annotations

from collections.abc import Sequence

from ddgm_dist.planning.tiling import Tile
from ddgm_dist.records.checkpoint import CheckpointDamagedError, Checkpoints, Generation
from ddgm_dist.tile.grid import TileGrid

__all__ = ["History", "unit_name"]


def unit_name(tiles: Sequence[Tile]) -> str:
    """Name under which a group's checkpoints are committed; other cuts along y have other names."""
    rows = max(tile.write_box.stop[1] for tile in tiles)
    return f"{tiles[0].name}-y{rows:06d}"


class History:
    """Committed chunks by generation, whichever unit they were committed for.

    Parameters
    ----------
    checkpoints
        Checkpoints of the run.
    grid
        Gives the chunks of a tile.
    """

    def __init__(self, checkpoints: Checkpoints, grid: TileGrid) -> None:
        self.checkpoints, self.grid = checkpoints, grid
        self._digests: dict[int, dict[str, str]] = {}
        for generation in checkpoints.committed():
            self._add(generation)

    def _add(self, generation: Generation) -> None:
        self._digests.setdefault(generation.iteration, {}).update(generation.digests)

    def newest(self, tiles: Sequence[Tile]) -> Generation | None:
        """The newest generation that holds all these tiles; None when there is none."""
        keys = [key for tile in tiles for key in self.grid.chunks(tile)]
        for iteration in sorted(self._digests, reverse=True):
            digests = self._digests[iteration]
            if all(key in digests for key in keys):
                return Generation(iteration, {key: digests[key] for key in keys})
        return None

    def commit(self, unit: str, generation: Generation) -> None:
        """Commit a generation of a unit; only the one before it is kept besides."""
        dropped = self.checkpoints.commit(unit, generation)
        self._add(generation)
        self._remove(dropped)

    def damaged(self, error: CheckpointDamagedError) -> None:
        """Forget a chunk that could not be loaded."""
        self.checkpoints.damaged(error.iteration, error.chunk)  # a worker found it
        self._digests.get(error.iteration, {}).pop(error.chunk, None)

    def forget(self, unit: str) -> None:
        """Delete the checkpoints of a unit that is finished."""
        self._remove(self.checkpoints.forget(unit))

    def _remove(self, dropped: Sequence[Generation]) -> None:
        for old in dropped:
            for key in old.digests:
                self._digests.get(old.iteration, {}).pop(key, None)
