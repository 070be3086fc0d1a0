"""Trials of settings on blocks of one tilt series."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ddgm_dist.evaluation.ring_correlation import ring_correlation
from ddgm_dist.planning.config import Config
from ddgm_dist.planning.problem import Problem
from ddgm_dist.prior.denoisers import shared_denoiser
from ddgm_dist.tilts.crop import Crop, read_crop, spread_places
from ddgm_dist.tilts.series import TiltSeries
from ddgm_dist.tuning.candidates import Candidate
from ddgm_dist.tuning.cost import Cost, restorer_calls
from ddgm_dist.tuning.crossval import BlockScore, BlockSolver, HeldOut
from ddgm_dist.tuning.folds import make_fold

__all__ = ["HALVES", "Trials"]

# Two halves cease to correlate: their mean then correlates 0.5 with the truth (Rosenthal & Henderson
# 2003, J. Mol. Biol. 333, 721).
_THRESHOLD = 0.143
# Seeds of the halves' noise, apart from those of the blocks.
HALVES = 2**32


class Trials:
    """Blocks of one tilt series, read and prepared when they are first used."""

    def __init__(
        self, problem: Problem, series: TiltSeries, blocks: int, rows: int, folds: int, seed: int
    ) -> None:
        self.problem, self.series, self.folds, self.seed = problem, series, folds, seed
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        config = problem.config
        self.denoiser = shared_denoiser(
            config.denoiser, device=self.device, precision=config.precision
        ).denoiser
        self.angles = problem.geometry.angles_deg
        make_fold(self.angles, folds, 0)  # refused before anything is read
        self.places = spread_places(problem.geometry, blocks, rows, seed)
        self.calls = self.starts = 0
        self._ready: dict[int, tuple[BlockSolver, HeldOut]] = {}

    def score(self, block: int, config: Config, steps: Callable[[], None]) -> BlockScore:
        """Solve a block without its held-out tilts, and predict them."""
        solver, held_out = self._prepared(block)
        self._count(config)
        return held_out(solver(config.problem(), self.seed + block, steps))

    def resolution(self, config: Config, steps: Callable[[], None]) -> float | None:
        """Period at which reconstructions of the first block from even and odd tilts cease to correlate.

        In the measured directions, voxels; at least 2. None where nothing is left of the block away
        from its ends.
        """
        block = self._crop(0)
        domain, reach, field = block.geometry.domain, block.geometry.reach, block.geometry.field
        trim = reach if block.geometry.boundary == "extended" else 0
        order = sorted(range(len(self.angles)), key=lambda t: (self.angles[t], t))
        halves = []
        for half in (0, 1):
            solver = self._solver(block, order[half::2], domain)
            x = solver(config.problem(), self.seed + HALVES + half, steps)
            self._count(config)
            halves.append(x[..., trim - domain[0] : field - trim - domain[0]].cpu().numpy())
        a, b = halves
        if min(a.shape[0], a.shape[2]) < 8 or not all(np.isfinite(h).all() for h in halves):
            return None
        found = ring_correlation(
            a, b, max_tilt_deg=max(abs(t) for t in self.angles), rings=min(32, a.shape[0] // 2)
        )
        return _crossing(found.frequency.tolist(), found.measured.tolist())

    def seconds_per_call(self, config: Config) -> float:
        """Time of one iteration of a block: the second, as the first warms up."""
        solver, _ = self._prepared(0)
        times = [time.perf_counter()]
        two = config.problem().model_copy(update={"N": 2})
        solver(two, self.seed, lambda: times.append(time.perf_counter()))
        return times[2] - times[1]

    def seconds_per_start(self, config: Config) -> float:
        """Time of a block's restored start of one call: of the second, as the first warms up."""
        config = config.model_copy(update={"restorer_calls": 1})
        solver, _ = self._prepared(0)
        solver.begin(config.problem(), self.seed)
        began = time.perf_counter()
        solver.begin(config.problem(), self.seed)
        return time.perf_counter() - began

    def describe(self, candidates: Sequence[Candidate], blocks: int, cost: Cost) -> str:
        """Candidates and blocks in words, with their cost before it is paid."""
        place, thickness = self.places[0], self.problem.geometry.thickness
        return (
            f"{len(candidates)} candidates on up to {blocks} blocks of {thickness} x {place.rows} x "
            f"{place.columns} voxels: {cost.describe()}"
        )

    def _count(self, config: Config) -> None:
        self.calls += config.N
        self.starts += restorer_calls(config)

    def _prepared(self, block: int) -> tuple[BlockSolver, HeldOut]:
        if block not in self._ready:
            crop = self._crop(block)
            fold = make_fold(self.angles, self.folds, block)
            domain = crop.geometry.domain
            self._ready[block] = (
                self._solver(crop, fold.kept, domain),
                HeldOut(crop, fold, domain, self.problem, self.device),
            )
        return self._ready[block]

    def _crop(self, block: int) -> Crop:
        problem = self.problem
        return read_crop(
            self.series, problem.geometry, problem.intensity, self.places[block], problem.screen
        )

    def _solver(self, crop: Crop, tilts: Sequence[int], domain: tuple[int, int]) -> BlockSolver:
        return BlockSolver(crop.subset(tilts), domain, self.problem, self.denoiser, self.device)


def _crossing(frequency: Sequence[float], correlation: Sequence[float]) -> float:
    """Period at which the correlation falls below the threshold; 2 where it never does."""
    before: tuple[float, float] | None = None
    for f, c in zip(frequency, correlation, strict=True):
        if math.isnan(c):
            continue
        if c < _THRESHOLD:
            if before is None:
                return 1 / f
            f0, c0 = before
            return 1 / (f0 + (f - f0) * (c0 - _THRESHOLD) / (c0 - c))
        before = f, c
    return 2.0
