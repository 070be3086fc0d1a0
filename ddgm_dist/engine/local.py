"""The engine that is the specification: a for-loop in this process."""

from __future__ import annotations

from ddgm_dist.engine.base import Job, Receipt, Report
from ddgm_dist.engine.blending import Piece
from ddgm_dist.engine.tile import TileSolver
from ddgm_dist.plan.tiling import Tile

__all__ = ["LocalEngine"]


class LocalEngine:
    """Computes tile after tile in this process, with all of torch's threads."""

    name = "local"
    workers = 1

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        """Compute and write every tile not done; see :class:`ddgm_dist.engine.base.Engine`."""
        solver = TileSolver(job)
        for group in job.plan.groups:
            if len(group) == 1:
                for tile in group:
                    if tile.name not in done:
                        for event in solver.run(tile):
                            report(event)
            elif not all(tile.name in done for tile in group):
                _run_coupled(solver, job, group, report)


def _run_coupled(solver: TileSolver, job: Job, group: tuple[Tile, ...], report: Report) -> None:
    """Step-major: all tiles take iteration n, then exchange and blend, then n + 1."""
    for tile in group:
        solver.start(tile)
    for n in range(job.plan.iterations):
        mail: dict[str, dict[str, Piece]] = {tile.name: {} for tile in group}
        for tile in group:
            events, pieces = solver.step(tile, n)
            for event in events:
                report(event)
            for receiver, piece in pieces.items():
                mail[receiver][tile.name] = piece
        for tile in group:
            solver.exchange(tile, mail[tile.name])
    for tile in group:
        receipt: Receipt = solver.finish(tile)
        report(receipt)
