"""Share of a run that is done, when work may be repeated, resumed and rolled back."""

from __future__ import annotations

__all__ = ["Coverage"]


class Coverage:
    """Counts each iteration of each tile once, whatever order its events come in.

    A tile whose first event is of iteration n began from a checkpoint of n iterations. These were done
    by an earlier session and are credited, until an event shows that they were done again. When a tile
    is written, iterations without an event (lost with a worker) are credited too.

    Attributes
    ----------
    voxels
        Solved for in this session, iterations counted separately, none twice.
    resumed
        Credited: done, without an event in this session.
    repeated
        Solved for again.
    """

    def __init__(self) -> None:
        self.voxels = self.resumed = self.repeated = 0
        # By tile: where it began, and a bit per iteration seen. A few dozen bytes per tile.
        self._began: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._counted: dict[str, int] = {}
        self._finished: set[str] = set()

    @property
    def done(self) -> int:
        """Voxels times iterations that are done, of tiles that were begun."""
        return self.voxels + self.resumed

    def add(self, tile: str, iteration: int, voxels: int) -> bool:
        """Count an iteration of a tile.

        Parameters
        ----------
        tile, iteration
            Name of the tile; iterations count from 0.
        voxels
            Voxels solved for, the same in each iteration of a tile.

        Returns
        -------
        bool
            True if it was seen for the first time.
        """
        seen, bit = self._seen.get(tile, 0), 1 << iteration
        if seen & bit:
            self.repeated += voxels
            return False
        self._seen[tile] = seen | bit
        self.voxels += voxels
        began = self._began.setdefault(tile, iteration)
        credit = 0
        if tile in self._finished or (seen and iteration < began):
            credit = -voxels  # it was credited
        elif not seen:
            credit = began * voxels
        self.resumed += credit
        self._counted[tile] = self._counted.get(tile, 0) + voxels + credit
        return True

    def finish(self, tile: str, work: int) -> None:
        """Count a tile as done; ``work`` is its voxels times iterations, 0 when unknown."""
        if work:
            self.resumed += work - self._counted.get(tile, 0)
            self._counted[tile] = work
            self._finished.add(tile)
