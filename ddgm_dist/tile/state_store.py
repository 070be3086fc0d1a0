"""The states of tiles in the store: checkpoints that are written, read back and resumed from."""

from __future__ import annotations

import time

from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.records.checkpoint import CheckpointDamagedError, Checkpoints, Generation
from ddgm_dist.tile.blending import Piece
from ddgm_dist.tile.events import FaultEvent, SaveEvent
from ddgm_dist.tile.grid import TileGrid
from ddgm_dist.tile.history import unit_name
from ddgm_dist.tile.job import Job

__all__ = ["StateStore"]


class StateStore:
    """Reads and writes the states of one job's tiles.

    Parameters
    ----------
    job
        Gives the output store and the problem's hash.
    grid
        Neighbourhoods of the job's tiles.
    worker
        Name that goes into events.
    """

    def __init__(self, job: Job, grid: TileGrid, worker: str) -> None:
        self.job, self.grid, self.worker = job, grid, worker
        self.checkpoints = Checkpoints(job.out, grid.layout, job.digest)

    def box(self, tile: Tile) -> Box:
        """Voxels of a tile's state: the rows it owns, over the support of its blending window."""
        (z0, y0, _), (z1, y1, _) = tile.write_box.start, tile.write_box.stop
        start, stop = self.grid.support(tile)
        return Box((z0, y0, start), (z1, y1, stop))

    def read(self, tile: Tile, generation: Generation) -> dict[str, Piece]:
        """Pieces of the tiles around, and of the tile itself, by name of the tile.

        Raises
        ------
        CheckpointDamagedError
            The generation cannot be loaded.
        """
        pieces = {}
        for sender in self.grid.senders(tile):
            state = self.box(sender)
            box = state.intersection(tile.read_box)
            if box is not None:
                _, rows, columns = box.slices((0, 0, state.start[2]))
                values = self.checkpoints.read(
                    generation, self.grid.slot(sender), rows.start, rows.stop, columns
                )
                pieces[sender.name] = Piece(box, values)
        return pieces

    def write(self, tile: Tile, state: Tensor, n: int) -> tuple[SaveEvent, dict[str, str]]:
        """Write a state after n iterations; returns the event, and the digests of its chunks.

        Raises
        ------
        OutputReplacedError
            The output belongs to another problem.
        StorageError
            The store is full or fails.
        """
        began, clock = time.time(), time.perf_counter()
        self.checkpoints.record.check(self.job.digest)
        values = state.cpu().numpy()
        digests = self.checkpoints.write(n, self.grid.slot(tile), tile.write_box.start[1], values)
        seconds = time.perf_counter() - clock
        return SaveEvent(tile.name, n, values.nbytes, seconds, self.worker, began), digests

    # -- uncoupled tiles, whose worker commits them ---------------------------------------------

    def commit(self, tile: Tile, state: Tensor, n: int) -> SaveEvent:
        """Write and commit the state of an uncoupled tile after n iterations."""
        event, digests = self.write(tile, state, n)
        self.checkpoints.commit(unit_name([tile]), Generation(n, digests))
        return event

    def forget(self, tile: Tile) -> None:
        """Delete the checkpoints of an uncoupled tile that is written."""
        self.checkpoints.forget(unit_name([tile]))

    def resume(
        self, tile: Tile, hint: Generation | None
    ) -> tuple[int, dict[str, Piece], list[FaultEvent]]:
        """Generation from which an uncoupled tile resumes: the newest one that can be read.

        Parameters
        ----------
        tile
            An uncoupled tile.
        hint
            A committed generation that covers it, from a run that was cut otherwise.

        Returns
        -------
        n
            Number of iterations done.
        pieces
            The state after them; none when n is 0.
        faults
            Newer generations that are damaged.
        """
        known = self.checkpoints.generations(unit_name([tile]))
        if hint is not None and all(hint.iteration != g.iteration for g in known):
            known.append(hint)
        faults = list[FaultEvent]()
        for generation in sorted(known, key=lambda g: -g.iteration):
            try:
                return generation.iteration, self.read(tile, generation), faults
            except CheckpointDamagedError as error:
                faults.append(FaultEvent.checkpoint_damaged(self.worker, tile.name, error))
        return 0, {}, faults
