"""Settings without ground truth: candidates compared by cross-validation on small blocks."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddgm_dist.core.units import format_duration
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.inverse import STEPS
from ddgm_dist.paths.locate import locate, place_of
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.planning.config import Config, parse_config
from ddgm_dist.prior.denoisers import shared_denoiser, weight_files
from ddgm_dist.prior.restorers import restorer_files
from ddgm_dist.runs.build_problem import build_problem, check_levels
from ddgm_dist.runs.expected_fit import expect
from ddgm_dist.tile.start import start_restorer
from ddgm_dist.tilts.series import open_series_at
from ddgm_dist.tuning.candidates import (
    DEFAULT_GRID,
    TUNABLE,
    Candidate,
    Grid,
    expand_grid,
    order_candidates,
)
from ddgm_dist.tuning.cost import Cost, network_calls, restorer_calls
from ddgm_dist.tuning.crossval import BlockScore
from ddgm_dist.tuning.folds import make_fold, measured_share
from ddgm_dist.tuning.model_error import Doubts, Leftover, mean_leftover
from ddgm_dist.tuning.report import Row, Steps, check_target, show_steps
from ddgm_dist.tuning.result import Tuning
from ddgm_dist.tuning.successive_halving import choose, compare, count_calls, rounds
from ddgm_dist.tuning.trials import HALVES, Trials

__all__ = ["tune"]

log = logging.getLogger("ddgm_dist")

Scores = dict[int, list[BlockScore]]


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
        Seed of the places of blocks, the order of candidates and the added noise.
    out, overwrite
        YAML file to write, when all is done; whether one that exists is replaced.
    progress
        Draw progress bars on standard error.
    report
        Called with the expected cost before the work begins.

    Raises
    ------
    InputError
        If the input, the grid or an option cannot be used.
    """
    began = time.monotonic()
    for name, value in (("blocks", blocks), ("rows", rows)):
        if value < 1:
            raise InputError(name, value, "must be at least 1")
    if not 0 <= seed < HALVES:
        raise InputError("seed", seed, f"must be 0 to {HALVES - 1}")
    if budget is not None and not (budget > 0 and math.isfinite(budget)):
        raise InputError("budget", budget, "must be a positive number of minutes")
    base = parse_config(config)
    source = locate(tilts, "tilts")
    if out is not None:
        inputs = [("tilts", source), *weight_files(base.denoiser)]
        inputs += restorer_files(base.restorer)
        refuse_overlap(place_of(out, "out"), "out", inputs)
        check_target(Path(out), overwrite=overwrite)
    # Refused before the series is read through.
    make_fold(open_series_at(source).meta.angles_deg, folds, 0)
    expanded = expand_grid(DEFAULT_GRID if grid is None else grid, base, _check)
    for each in expanded.left_out:
        report(str(each))
    drawn = order_candidates(expanded.candidates, seed)
    built = build_problem(source, base.problem(), verify_input=verify_input, progress=progress)
    trials = Trials(built.problem, built.series, blocks, rows, folds, seed)
    candidates, cost = _affordable(drawn, _pricing(trials, drawn, blocks), budget)
    report(trials.describe(candidates, blocks, cost))
    with show_steps(count_calls([c.config.N for c in candidates], blocks), shown=progress) as steps:
        scores = _halve(trials, candidates, blocks, steps)
        resolutions = _correlate(trials, candidates, scores, blocks, steps)
    found = _tuning(trials, candidates, scores, resolutions)
    found = replace(
        found,
        seconds=time.monotonic() - began,
        left_out=expanded.left_out,
        doubts=Doubts.of(
            [_leftover(own) for own in scores.values() if len(own) == blocks], expect(built)[0]
        ),
    )
    if found.doubts.warning is not None:
        log.warning("%s: %s", source, found.doubts.warning)
    if out is not None:
        found.write(out)
    return found


def _check(config: Config) -> None:
    """Refuse settings that no run would take."""
    check_levels(config, shared_denoiser(config.denoiser, precision=config.precision))
    start_restorer(config)


def _leftover(scores: Sequence[BlockScore]) -> Leftover:
    return mean_leftover(score.leftover for score in scores)


def _halve(trials: Trials, candidates: Sequence[Candidate], blocks: int, steps: Steps) -> Scores:
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
            + count_calls([c.config.N for c in candidates], blocks, first=number + 1)
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
    trials: Trials, candidates: Sequence[Candidate], scores: Scores, blocks: int, steps: Steps
) -> dict[int, float | None]:
    """Resolution by even and odd tilts, of those in the last round."""
    last = [i for i, own in scores.items() if len(own) == blocks]
    steps.say(f"even and odd tilts, {len(last)} candidates")
    steps.left(2 * sum(candidates[i].config.N for i in last))
    return {i: trials.resolution(candidates[i].config, steps) for i in last}


def _tuning(
    trials: Trials,
    candidates: Sequence[Candidate],
    scores: Scores,
    resolutions: Mapping[int, float | None],
) -> Tuning:
    share = measured_share(trials.angles)
    errors = {i: [s.error(share) for s in own] for i, own in scores.items()}
    chosen = choose(errors, [network_calls(c) for c in candidates])
    rows = []
    for one in compare(errors, chosen):
        own, candidate = scores[one.index], candidates[one.index]
        misfits = [s.misfit for s in own if s.misfit is not None]
        rows.append(
            Row(
                name=candidate.name,
                settings=dict(candidate.settings),
                calls=candidate.config.N,
                restorer_calls=restorer_calls(candidate.config),
                blocks=one.blocks,
                error=one.error,
                between=_mean([s.error(1.0).mean for s in own]),
                beyond=_mean([s.error(0.0).mean for s in own]),
                misfit=_mean(misfits) if misfits else None,
                ends=_leftover(own).excess,
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
    config.pop("preset", None)  # its values are there
    return Tuning(
        config=config,
        rows=rows,
        tilts=str(trials.series.path),
        blocks=len(trials.places),
        folds=trials.folds,
        seed=trials.seed,
        share=share,
        calls=trials.calls,
        restorer_calls=trials.starts,
        seconds=0.0,
    )


def _pricing(
    trials: Trials, drawn: Sequence[Candidate], blocks: int
) -> Callable[[Sequence[Candidate]], Cost]:
    """The expected cost of candidates, from one measured iteration and one measured start."""
    call, start = trials.seconds_per_call(drawn[0].config), 0.0
    restored = [c.config for c in drawn if restorer_calls(c.config)]
    if restored:
        start = trials.seconds_per_start(restored[0])

    def price(candidates: Sequence[Candidate]) -> Cost:
        return Cost.expected(candidates, blocks, call=call, start=start, inverse_steps=STEPS[-1][1])

    return price


def _affordable(
    candidates: Sequence[Candidate],
    price: Callable[[Sequence[Candidate]], Cost],
    budget: float | None,
) -> tuple[Sequence[Candidate], Cost]:
    """The first so many candidates as fit the budget, and their cost."""
    if budget is None:
        return candidates, price(candidates)
    for count in range(len(candidates), 1, -1):
        cost = price(candidates[:count])
        if cost.seconds <= 60 * budget:
            return candidates[:count], cost
    least = price(candidates[:2]).seconds
    raise InputError(
        "budget",
        budget,
        f"does not pay for two candidates, which take about {format_duration(least)}",
        "raise it, or take fewer blocks or rows",
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
