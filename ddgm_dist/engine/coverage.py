"""What of a run is done, when work may be redone, resumed and rolled back."""

from __future__ import annotations

__all__ = ["Coverage"]


class Coverage:
    """Counts each iteration of each tile once, whatever order its events come in.

    A tile whose first event is of iteration n began from a checkpoint of n iterations: these were
    done by an earlier session and are credited, until an event shows that they had to be redone.

    Attributes
    ----------
    voxels
        Solved for in this session, iterations counted separately, none twice.
    resumed
        Credited from checkpoints.
    repeated
        Solved for again.
    """

    def __init__(self) -> None:
        self.voxels = self.resumed = self.repeated = 0
        # By tile: where it began, and a bit per iteration seen. A few dozen bytes per tile.
        self._began: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    @property
    def done(self) -> int:
        """Voxels times iterations that need not be done any more, of tiles that were begun."""
        return self.voxels + self.resumed

    def add(self, tile: str, iteration: int, voxels: int) -> bool:
        """Count an iteration of a tile.

        Parameters
        ----------
        tile, iteration
            Which; iterations count from 0.
        voxels
            Solved for, the same in each iteration of a tile.

        Returns
        -------
        bool
            Whether it was seen for the first time.
        """
        seen, bit = self._seen.get(tile, 0), 1 << iteration
        if seen & bit:
            self.repeated += voxels
            return False
        self._seen[tile] = seen | bit
        self.voxels += voxels
        began = self._began.setdefault(tile, iteration)
        if not seen:
            self.resumed += began * voxels
        elif iteration < began:
            self.resumed -= voxels
        return True
