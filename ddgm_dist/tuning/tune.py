"""Settings without ground truth: candidates compared by cross-validation on small blocks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddgm_dist.core.units import format_duration
from ddgm_dist.errors import InputError
from ddgm_dist.evaluation.ring_correlation import ring_correlation
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.planning.config import Config, parse_config
from ddgm_dist.planning.problem import Problem
from ddgm_dist.prior.denoisers import load_denoiser, weight_files
from ddgm_dist.runs.build_problem import build_problem, check_levels
from ddgm_dist.tilts.crop import Crop, crop, spread_places
from ddgm_dist.tilts.series import TiltSeries, open_tilt_series
from ddgm_dist.tuning.candidates import (
    DEFAULT_GRID,
    TUNABLE,
    Candidate,
    Grid,
    expand_grid,
    order_candidates,
)
from ddgm_dist.tuning.crossval import BlockScore, BlockSolver, HeldOut, make_fold, measured_share
from ddgm_dist.tuning.report import Row, Steps, check_target, show_steps, to_table, write_config
from ddgm_dist.tuning.successive_halving import choose, compare, rounds

__all__ = ["Tuning", "tune"]

# Two halves cease to correlate: their mean then correlates 0.5 with the truth (Rosenthal & Henderson
# 2003, J. Mol. Biol. 333, 721).
_THRESHOLD = 0.143
# Seeds of the halves' noise, apart from those of the blocks.
_HALVES = 2**32

Scores = dict[int, list[BlockScore]]


@dataclass(frozen=True)
class Tuning:
    """What was tried and what was chosen.

    Attributes
    ----------
    config
        The configuration given, with the chosen settings; only keys that were given or tuned.
    rows
        Of the table: those tried on most blocks first, then by error.
    tilts, blocks, folds, seed
        What it was tried on.
    share
        Share of all directions that the tilts cover.
    calls, seconds
        Denoiser calls it took; wall time.
    """

    config: Mapping[str, Any]
    rows: Sequence[Row]
    tilts: str
    blocks: int
    folds: int
    seed: int
    share: float
    calls: int
    seconds: float

    @property
    def chosen(self) -> Row:
        """The chosen candidate."""
        return next(row for row in self.rows if row.chosen)

    def describe(self) -> str:
        """The table, for people."""
        return "\n".join([to_table(self.rows), "", *self.notes()])

    def notes(self) -> list[str]:
        """What the figures mean."""
        row = self.chosen
        given = next(r for r in self.rows if not r.settings)
        lines = [
            f"chosen: {row.name}, score {row.error:.4f}, an estimate that ranks settings",
            f"({row.between:.4f} in the {self.share:.0%} of directions that were measured, "
            f"{row.beyond:.4f} next to the others)",
        ]
        if row is not given:
            spread = "" if given.deviation is None else f" +- {given.deviation:.4f}"
            lines.append(
                f"the settings as given differ from it by {given.difference:+.4f}{spread}, paired over "
                f"{given.blocks} blocks"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "tilts": self.tilts,
            "config": dict(self.config),
            "blocks": self.blocks,
            "folds": self.folds,
            "seed": self.seed,
            "measured_share": self.share,
            "denoiser_calls": self.calls,
            "seconds": self.seconds,
            "candidates": [row.to_dict() for row in self.rows],
        }

    def write(self, out: str | Path) -> None:
        """Write the configuration as YAML, for ``reconstruct --config``."""
        head = f"Chosen by ddgm-dist tune on {self.tilts}: {self.blocks} blocks, seed {self.seed}."
        write_config(Path(out), self.config, [head, *self.notes()])


def tune(
    tilts: str | Path,
    config: Config | Mapping[str, Any] | None = None,
    *,
    grid: Grid | None = None,
    blocks: int = 4,
    rows: int = 2,
    folds: int = 4,
    budget: float | None = None,
    seed: int = 0,
    verify_input: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Tuning:
    """Choose settings by how well held-out tilts are predicted; no ground truth is needed.

    Parameters
    ----------
    tilts
        Tilt-series store, path or URL, of at least 8 tilts.
    config
        Settings to start from; what the grid does not name stays.
    grid
        Values to try by key, whose product is taken, or a list of such, whose union is; see
        :mod:`ddgm_dist.tuning.candidates`.
    blocks, rows
        Blocks of the field that candidates are tried on, successively halved; rows of each.
    folds
        f: every f-th tilt is held out, another one in each block.
    budget
        Minutes: as many candidates as fit, drawn from the grid; all when None.
    seed
        Of the places of blocks, the order of candidates, the added noise.
    out, overwrite
        YAML file to write, when all is done; whether one that exists is replaced.
    progress
        Draw a progress bar on standard error.
    report
        Is told the cost before the work begins.

    Raises
    ------
    InputError
        If the input, the grid or an option cannot be used.
    """
    began = time.monotonic()
    for name, value in (("blocks", blocks), ("rows", rows)):
        if value < 1:
            raise InputError(name, value, "must be at least 1")
    if not 0 <= seed < _HALVES:
        raise InputError("seed", seed, f"must be 0 to {_HALVES - 1}")
    if budget is not None and not (budget > 0 and math.isfinite(budget)):
        raise InputError("budget", budget, "must be a positive number of minutes")
    base = parse_config(config)
    if out is not None:
        refuse_overlap(out, "out", [("tilts", tilts), *weight_files(base.denoiser)])
        check_target(Path(out), overwrite=overwrite)
    # Refused before the series is read through.
    make_fold(open_tilt_series(tilts).meta.angles_deg, folds, 0)
    drawn = order_candidates(expand_grid(DEFAULT_GRID if grid is None else grid, base), seed)
    loaded = load_denoiser(base.denoiser, precision=base.precision)
    for candidate in drawn:
        check_levels(candidate.config, loaded)
    built = build_problem(tilts, base.problem(), verify_input=verify_input)
    trials = _Trials(built.problem, built.series, blocks, rows, folds, seed)
    each = trials.seconds_per_call(base)
    candidates = _affordable(drawn, blocks, each, budget)
    report(trials.describe(candidates, blocks, each))
    with show_steps(_calls(candidates, blocks), shown=progress) as steps:
        scores = _halve(trials, candidates, blocks, steps)
        resolutions = _correlate(trials, candidates, scores, blocks, steps)
    found = _tuning(trials, candidates, scores, resolutions)
    found = replace(found, seconds=time.monotonic() - began)
    if out is not None:
        found.write(out)
    return found


class _Trials:
    """Blocks of one tilt series, read and prepared when they are first used."""

    def __init__(
        self,
        problem: Problem,
        series: TiltSeries,
        blocks: int,
        rows: int,
        folds: int,
        seed: int,
    ) -> None:
        self.problem, self.series, self.folds, self.seed = problem, series, folds, seed
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        config = problem.config
        self.denoiser = load_denoiser(
            config.denoiser, device=self.device, precision=config.precision
        ).denoiser
        self.angles = problem.geometry.angles_deg
        make_fold(self.angles, folds, 0)  # refused before anything is read
        self.places = spread_places(problem.geometry, blocks, rows, seed)
        self.calls = 0
        self._ready: dict[int, tuple[BlockSolver, HeldOut]] = {}

    def score(self, block: int, config: Config, steps: Callable[[], None]) -> BlockScore:
        """Solve a block without its held-out tilts, and predict them."""
        solver, held_out = self._prepared(block)
        self.calls += config.N
        return held_out(solver(config.problem(), self.seed + block, steps))

    def resolution(self, config: Config, steps: Callable[[], None]) -> float | None:
        """Where reconstructions of the first block from even and from odd tilts cease to correlate.

        In the measured directions, voxels; at least 2. None where nothing is left of the block away
        from its ends.
        """
        cut = self._cut(0)
        domain, reach, field = cut.geometry.domain, cut.geometry.reach, cut.geometry.field
        trim = reach if cut.geometry.boundary == "extended" else 0
        order = sorted(range(len(self.angles)), key=lambda t: (self.angles[t], t))
        halves = []
        for half in (0, 1):
            solver = self._solver(cut, order[half::2], domain)
            x = solver(config.problem(), self.seed + _HALVES + half, steps)
            self.calls += config.N
            halves.append(x[..., trim - domain[0] : field - trim - domain[0]].cpu().numpy())
        a, b = halves
        if min(a.shape[0], a.shape[2]) < 8 or not all(np.isfinite(h).all() for h in halves):
            return None
        found = ring_correlation(
            a, b, max_tilt_deg=max(abs(t) for t in self.angles), rings=min(32, a.shape[0] // 2)
        )
        return _crossing(found.frequency.tolist(), found.measured.tolist())

    def seconds_per_call(self, config: Config) -> float:
        """Of one iteration of a block: the second, as the first warms up."""
        solver, _ = self._prepared(0)
        times = [time.perf_counter()]
        two = config.problem().model_copy(update={"N": 2})
        solver(two, self.seed, lambda: times.append(time.perf_counter()))
        return times[2] - times[1]

    def describe(self, candidates: Sequence[Candidate], blocks: int, each: float) -> str:
        """The cost, before it is paid."""
        place, calls = self.places[0], _calls(candidates, blocks)
        thickness = self.problem.geometry.thickness
        return (
            f"{len(candidates)} candidates on up to {blocks} blocks of {thickness} x {place.rows} x "
            f"{place.columns} voxels: about {calls} denoiser calls, {format_duration(calls * each)}"
        )

    def _prepared(self, block: int) -> tuple[BlockSolver, HeldOut]:
        if block not in self._ready:
            cut = self._cut(block)
            fold = make_fold(self.angles, self.folds, block)
            domain = cut.geometry.domain
            self._ready[block] = (
                self._solver(cut, fold.kept, domain),
                HeldOut(cut, fold, domain, self.problem, self.device),
            )
        return self._ready[block]

    def _cut(self, block: int) -> Crop:
        problem = self.problem
        return crop(
            self.series,
            problem.geometry,
            problem.intensity,
            self.places[block],
            problem.screen,
        )

    def _solver(self, cut: Crop, tilts: Sequence[int], domain: tuple[int, int]) -> BlockSolver:
        return BlockSolver(cut.subset(tilts), domain, self.problem, self.denoiser, self.device)


def _halve(trials: _Trials, candidates: Sequence[Candidate], blocks: int, steps: Steps) -> Scores:
    """Scores by candidate, per block it was tried on."""
    share = measured_share(trials.angles)
    scores: Scores = {i: [] for i in range(len(candidates))}
    alive = list(scores)
    plan = rounds(len(candidates), blocks)
    for number, this in enumerate(plan):
        alive = _keep(alive, scores, share, this.candidates)
        steps.say(f"round {number + 1} of {len(plan)}, {len(alive)} candidates")
        steps.left(
            sum(candidates[i].config.N for i in alive) * len(this.blocks)
            + _calls(candidates, blocks, first=number + 1)
        )
        for block in this.blocks:
            for i in alive:
                scores[i].append(trials.score(block, candidates[i].config, steps))
    return scores


def _keep(alive: list[int], scores: Scores, share: float, count: int) -> list[int]:
    """The best so many, and the settings as given."""
    ranked = sorted(alive, key=lambda i: (_error(scores[i], share), i))[:count]
    return ranked if 0 in ranked else [0, *ranked[: count - 1]]


def _error(scores: Sequence[BlockScore], share: float) -> float:
    """Mean over blocks; 0 before any was tried."""
    return sum(s.error(share).mean for s in scores) / max(len(scores), 1)


def _correlate(
    trials: _Trials, candidates: Sequence[Candidate], scores: Scores, blocks: int, steps: Steps
) -> dict[int, float | None]:
    """Resolution by even and odd tilts, of those in the last round."""
    last = [i for i, own in scores.items() if len(own) == blocks]
    steps.say(f"even and odd tilts, {len(last)} candidates")
    steps.left(2 * sum(candidates[i].config.N for i in last))
    return {i: trials.resolution(candidates[i].config, steps) for i in last}


def _tuning(
    trials: _Trials,
    candidates: Sequence[Candidate],
    scores: Scores,
    resolutions: Mapping[int, float | None],
) -> Tuning:
    share = measured_share(trials.angles)
    errors = {i: [s.error(share) for s in own] for i, own in scores.items()}
    chosen = choose(errors, [c.config.N for c in candidates])
    rows = []
    for one in compare(errors, chosen):
        own, candidate = scores[one.index], candidates[one.index]
        misfits = [s.misfit for s in own if s.misfit is not None]
        rows.append(
            Row(
                name=candidate.name,
                settings=dict(candidate.settings),
                calls=candidate.config.N,
                blocks=one.blocks,
                error=one.error,
                between=_mean([s.error(1.0).mean for s in own]),
                beyond=_mean([s.error(0.0).mean for s in own]),
                misfit=_mean(misfits) if misfits else None,
                difference=one.difference,
                deviation=None if math.isnan(one.deviation) else one.deviation,
                resolution=resolutions.get(one.index),
                chosen=one.index == chosen,
            )
        )
    best, given = candidates[chosen].config, candidates[0].config
    tuned = {k for c in candidates for k, _ in c.settings}
    config = {
        **given.model_dump(mode="json", exclude_unset=True),
        **{k: getattr(best, k) for k in TUNABLE if k in tuned},
    }
    return Tuning(
        config=config,
        rows=rows,
        tilts=str(trials.series.path),
        blocks=len(trials.places),
        folds=trials.folds,
        seed=trials.seed,
        share=share,
        calls=trials.calls,
        seconds=0.0,
    )


def _calls(candidates: Sequence[Candidate], blocks: int, *, first: int = 0) -> int:
    """Denoiser calls of the rounds from ``first`` on and of the halves, as if all N were the mean."""
    plan = rounds(len(candidates), blocks)
    runs = sum(r.candidates * len(r.blocks) for r in plan[first:]) + 2 * plan[-1].candidates
    return round(runs * sum(c.config.N for c in candidates) / len(candidates))


def _affordable(
    candidates: Sequence[Candidate], blocks: int, each: float, budget: float | None
) -> Sequence[Candidate]:
    """The first so many candidates as fit the budget."""
    if budget is None:
        return candidates
    for count in range(len(candidates), 1, -1):
        if _calls(candidates[:count], blocks) * each <= 60 * budget:
            return candidates[:count]
    least = _calls(candidates[:2], blocks) * each
    raise InputError(
        "budget",
        budget,
        f"does not pay for two candidates, which take about {format_duration(least)}",
        "raise it, or take fewer blocks or rows",
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


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
