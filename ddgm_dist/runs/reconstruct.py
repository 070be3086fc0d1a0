"""The main job: a tilt series in, a DDGM reconstruction in OME-Zarr out."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddgm_dist.engine.protocol import Engine
from ddgm_dist.engine.tally import Tally
from ddgm_dist.paths.files import exists
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.paths.store_name import check_store_name
from ddgm_dist.planning.config import Config, parse_config
from ddgm_dist.prior.denoisers import weight_files
from ddgm_dist.prior.restorers import restorer_files
from ddgm_dist.ray_engine.parallel_map import open_scheduler
from ddgm_dist.runs.build_problem import build_problem, keep_record
from ddgm_dist.runs.choose_engine import check_engine, choose_engine, goes_to_ray, joined
from ddgm_dist.runs.event_log import EventLog
from ddgm_dist.runs.expected_fit import warn_of_prior
from ddgm_dist.runs.output import Output
from ddgm_dist.runs.plan import plan_problem
from ddgm_dist.runs.progress import Bar
from ddgm_dist.runs.provenance import provenance
from ddgm_dist.runs.result import Result
from ddgm_dist.runs.verdict import judge_volume, warn_of_misfit
from ddgm_dist.tile.events import Event
from ddgm_dist.tile.job import Job

__all__ = ["reconstruct"]

log = logging.getLogger("ddgm_dist")


def reconstruct(
    tilts: str | Path,
    out: str | Path,
    config: Config | Mapping[str, Any] | None = None,
    engine: str | Engine = "auto",
    *,
    address: str | None = None,
    workers: int | None = None,
    memory: int | None = None,
    overwrite: bool = False,
    verify_input: bool = False,
    progress: bool = False,
) -> Result:
    """Reconstruct a tilt series; returns when the volume is whole.

    Run again on the same output with the same problem, it resumes where it stopped.

    Parameters
    ----------
    tilts
        Tilt-series store: a path, or a URL such as ``s3://bucket/path``.
    out
        OME-Zarr 0.5 group to write, path or URL; the record of the run lies in its folder ``ddgm_dist``.
    config
        Configuration keys; see :class:`ddgm_dist.planning.config.Config`.
    engine
        ``local``: in this process. ``ray``: on Ray. ``auto``: on Ray if ``address``, ``workers`` or
        ``RAY_ADDRESS`` asks for it, or if this process would take longer than about a minute. The
        result is the same. An engine object is used as it is.
    address
        Address of the Ray cluster: ``HOST:6379``, ``auto`` or ``local``; see
        :func:`ddgm_dist.ray_engine.cluster.connected`.
    workers
        Number of Ray workers; as many as fit by default.
    memory
        Bytes one worker may use.
    overwrite
        Replace what lies at ``out``: it stays there until the new volume is whole, and is then
        deleted. Interrupted and run again with the same problem, the run resumes.
    verify_input
        Read all pixels and compare their digests with those stored beside them.
    progress
        Draw a progress bar on standard error.

    Raises
    ------
    InputError
        If the input cannot be used, ``out`` holds another problem's result, or ``out`` is, contains
        or lies in an input.
    DdgmError
        Ray does not start, or the workers fail too often; finished tiles are kept.
    StorageError
        If a store cannot be read or written; finished tiles are kept.
    """
    started = time.monotonic()
    check_store_name(out)
    resolved = parse_config(config)
    check_engine(engine, address, workers)
    place, source = locate(out, "out"), locate(tilts, "tilts")
    networks = [*weight_files(resolved.denoiser), *restorer_files(resolved.restorer)]
    refuse_overlap(place, "out", [("tilts", source), *networks])
    # A cluster is joined first. Ray is started here last, when the input and the output have been
    # checked and something is to be done; or before a series is read that has no digests.
    with (
        joined(engine, address),
        Output.claim(place, overwrite=overwrite) as output,
        contextlib.ExitStack() as stack,
    ):
        # Of interest only to who waits for it; and not where there is nothing to open.
        if progress and exists(source):
            _announce(f"opening {source}", progress)
        on_ray = goes_to_ray(engine, address, workers)
        built = build_problem(
            source,
            resolved.problem(),
            verify_input=verify_input,
            earlier=output.earlier(),
            # For the time of the run: it need not start twice.
            readers=lambda: stack.enter_context(open_scheduler("ray", address)) if on_ray else None,
            progress=progress,
        )
        problem, series = built.problem, built.series
        output.check(problem)
        runner, why = choose_engine(
            engine, address, workers, memory, problem=problem, series=series, config=resolved
        )
        with runner.connected():
            budget = runner.budget(memory)
            how = plan_problem(problem, series, resolved, budget, workers=runner.workers)
            output.begin(problem, how, series.meta.pixel_size_nm)
            keep_record(built, output.record.folder.parent)
            done = output.finished()
            job = Job(
                problem,
                how,
                series.place,
                output.place,
                output.digest,
                checkpoint_every=resolved.checkpoint_every,
                state=resolved.state,
                memory=budget,
                reserve=memory,
                name=place.name,
                tilts_identity=series.identity,
                tilts_record=series.kept,
            )
            tally, left = Tally.begin(problem, how, done), how.units - len(done)
            if left:
                _announce(why + runner.announce(left), progress)
                warn_of_prior(built)
                output.reopen()
                _compute(runner, job, done, output, tally, progress)
            result = Result(
                path=str(out),
                problem=problem,
                plan=how,
                residuals=tally.residuals(),
                seconds=tally.seconds,
                wall_seconds=time.monotonic() - started,
                gradient_share=tally.gradient_share,
                fit=judge_volume(output.record, output.store.layout, problem, series.meta),
            )
            # A run may have ended between its last tile and this.
            todo = left or output.record.read_json("provenance") is None
            output.complete(
                provenance(result, resolved, runner, series) if todo else None,
                keep_samples=resolved.keep_samples,
            )
    warn_of_misfit(result.path, result.fit)
    return result


def _announce(line: str, progress: bool) -> None:
    """Say where the work is done: where the progress is shown, or else in the log."""
    if progress:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    else:
        log.info("%s", line)


def _compute(
    runner: Engine, job: Job, done: frozenset[str], output: Output, tally: Tally, progress: bool
) -> None:
    """Have the engine compute the unfinished tiles; show and record its events."""
    with (
        EventLog(output.record, output.lease.owner, tally) as log,
        runner.metrics(job, tally) as metrics,
        Bar(tally, shown=progress) as bar,
    ):

        def report(event: Event) -> None:
            output.lease.check()
            tally.add(event)
            for show in (log, metrics, bar):
                show(event)

        runner.run(job, done, report)
