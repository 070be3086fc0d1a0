"""The main job: a tilt series in, a DDGM reconstruction in OME-Zarr out."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.engine.protocol import Engine
from ddgm_dist.engine.tally import Tally
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import period
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.paths.store_name import check_store_name
from ddgm_dist.planning.config import Config, PlanConfig, parse_config
from ddgm_dist.planning.make_plan import make_plan
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.tiling import widest_read
from ddgm_dist.prior.denoisers import load_denoiser, weight_files
from ddgm_dist.records.result import What, open_result
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.runs.event_log import EventLog
from ddgm_dist.runs.output import Output
from ddgm_dist.runs.progress import Bar
from ddgm_dist.tile.events import Event
from ddgm_dist.tile.host import available_memory
from ddgm_dist.tile.job import Job
from ddgm_dist.tilts.series import TiltSeries
from ddgm_dist.volumes.store import VolumeStore

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["Result", "plan", "reconstruct"]

_PACKAGES = ("ddgm-dist", "torch", "ray", "zarr", "tensorstore", "numpy", "numcodecs")


@dataclass(frozen=True)
class Result:
    """A finished reconstruction.

    Attributes
    ----------
    path
        Of the output store.
    problem, plan
        What was solved, and how.
    residuals
        Per iteration done in this call: n, sigma, steps, root-mean-square residual.
    seconds
        Worker time per phase in this call, added over workers.
    wall_seconds
        Time this call took.
    gradient_share
        Gradient phase as a fraction of the iteration time; 0 when nothing was left to do.
    """

    path: str
    problem: Problem
    plan: Plan
    residuals: list[dict[str, float]]
    seconds: dict[str, float]
    wall_seconds: float
    gradient_share: float

    def volume(self) -> VolumeStore:
        """The volume, open for reading."""
        return open_result(self.path)

    def std(self) -> VolumeStore:
        """The standard deviation of the samples at each voxel, open for reading.

        Raises
        ------
        InputError
            There is one sample.
        """
        return open_result(self.path, what="std")

    def to_dask(self, what: What = "mean") -> da.Array:
        """The volume as a lazy dask array ``(z, y, x)``, in the data's unit.

        Parameters
        ----------
        what
            As of :func:`ddgm_dist.open_result`: ``mean``, ``std`` or a kept sample.
        """
        return open_result(self.path, what=what).to_dask()

    def describe(self) -> str:
        """The timing summary, for people."""
        intensity = self.problem.intensity
        lines = [
            f"written         {self.path}",
            f"intensity       mean {intensity.mean:.5g}, std {intensity.std:.5g} per voxel; noise "
            f"sigma_y {intensity.sigma_y:.4g} per pixel",
            f"wall time       {self.wall_seconds:.1f} s",
        ]
        if self.residuals:
            last = self.residuals[-1]
            spent = ", ".join(f"{k} {v:.1f}" for k, v in sorted(self.seconds.items()) if v >= 0.05)
            lines += [
                f"residual        {last['residual']:.4g} per pixel (root mean square)",
                f"worker seconds  {spent}",
                f"gradient phase  {100 * self.gradient_share:.1f} % of the iteration time",
            ]
        else:
            lines.append("nothing was left to do: every tile had been finished before")
        return "\n".join(lines)


def plan(
    tilts: str | Path,
    config: Config | Mapping[str, Any] | None = None,
    *,
    workers: int | None = None,
    memory: int | None = None,
    calibrate: bool = False,
) -> Plan:
    """What a reconstruction would take.

    Without calibration nothing is computed; the data are read only where their writer left no record.

    Parameters
    ----------
    tilts
        Tilt-series store.
    config
        Configuration keys; see :class:`ddgm_dist.planning.config.Config`.
    workers
        How many workers share the tiles.
    memory
        Bytes one worker may use; unbounded when None, or its share of this machine with
        ``calibrate``.
    calibrate
        Try the steps on this machine, for a few seconds, and say how long the run would take
        (:attr:`ddgm_dist.planning.plan.Plan.expected`).

    Raises
    ------
    InputError
        If the input or the configuration cannot be used, or no plan fits the memory.
    """
    resolved = parse_config(config)
    began = time.perf_counter()
    built = build_problem(locate(tilts, "tilts"), resolved.problem())
    problem, series = built.problem, built.series
    posing = time.perf_counter() - began
    if calibrate and memory is None and (free := available_memory()) is not None:
        memory = free // (workers or 1)  # as a run here would have it
    found = plan_problem(problem, series, resolved, memory, workers=workers)
    found = replace(found, findings=built.findings)
    if not calibrate:
        return found
    from ddgm_dist.runs.calibrate import expect

    return replace(found, expected=expect(problem, found, series, posing=posing))


def reconstruct(
    tilts: str | Path,
    out: str | Path,
    config: Config | Mapping[str, Any] | None = None,
    engine: str | Engine = "ray",
    *,
    address: str | None = None,
    workers: int | None = None,
    memory: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Reconstruct a tilt series; returns when the volume is whole.

    Run again on the same output with the same problem, it goes on where it stopped.

    Parameters
    ----------
    tilts
        Tilt-series store: a path, or a URL such as ``s3://bucket/path``.
    out
        OME-Zarr 0.5 group to write, path or URL; the record of the run lies in its folder ``ddgm_dist``.
    config
        Configuration keys; see :class:`ddgm_dist.planning.config.Config`.
    engine
        ``local``, ``ray`` or an engine object.
    address, workers
        Of the Ray cluster; number of actors. Only for ``ray``.
    memory
        Bytes one worker may use.
    overwrite
        Replace what lies at ``out``: it stays there until the new volume is whole, and is then
        deleted. Interrupted and run again with the same problem, it goes on.
    progress
        Draw a progress bar on standard error.

    Raises
    ------
    InputError
        If the input cannot be used, ``out`` holds another problem's result, or ``out`` is, contains
        or lies in an input.
    StorageError
        If a store cannot be read or written; finished tiles are kept.
    """
    check_store_name(out)
    started = time.monotonic()
    resolved = parse_config(config)
    runner = _engine(engine, address, workers)
    place, source = locate(out, "out"), locate(tilts, "tilts")
    refuse_overlap(place, "out", [("tilts", source), *weight_files(resolved.denoiser)])
    # First of all, so that a cluster that is not there is told before any work.
    with runner.connected():
        budget = runner.budget(memory)
        built = build_problem(source, resolved.problem())
        problem, series = built.problem, built.series
        how = plan_problem(problem, series, resolved, budget, workers=runner.workers)
        with Output.claim(
            place, problem, how, series.meta.pixel_size_nm, overwrite=overwrite
        ) as output:
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
            )
            tally = Tally.begin(problem, how, done)
            if len(done) < how.units:
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
            )
            # A run may have ended between its last tile and this.
            todo = len(done) < how.units or output.record.read_json("provenance") is None
            output.complete(
                _provenance(result, resolved, runner, series) if todo else None,
                keep_samples=resolved.keep_samples,
            )
    return result


def _compute(
    runner: Engine, job: Job, done: frozenset[str], output: Output, tally: Tally, progress: bool
) -> None:
    """Have the engine do what is not done, and show and record what it reports."""
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


def _engine(engine: str | Engine, address: str | None, workers: int | None) -> Engine:
    if engine == "ray":
        from ddgm_dist.ray_engine.engine import RayEngine

        return RayEngine(address, workers)
    if address is not None or workers is not None:
        raise InputError(
            "engine", engine, "takes neither address nor workers", "use engine='ray' for these"
        )
    if engine == "local":
        return LocalEngine()
    if isinstance(engine, str):
        raise InputError("engine", engine, "is neither 'local' nor 'ray'")
    return engine


def plan_problem(
    problem: Problem,
    series: TiltSeries,
    config: Config,
    memory: int | None,
    *,
    workers: int | None = None,
    calls: int = 2,
) -> Plan:
    """The plan of a problem that is posed; see :func:`ddgm_dist.planning.make_plan.make_plan`.

    Parameters
    ----------
    problem, series
        What is solved; its data.
    config
        Plan keys are taken from it.
    memory
        Bytes one worker may use; unbounded when None.
    workers, calls
        How many; calls that each takes at a time.
    """
    denoiser = load_denoiser(config.denoiser, precision=config.precision)
    return make_plan(
        problem,
        PlanConfig(**{k: getattr(config, k) for k in PlanConfig.model_fields}),
        length=period(problem.geometry, widest_read(problem.geometry, problem.config)),
        memory=memory,
        itemsize=series.dtype.itemsize,
        workers=workers or 1,
        calls=calls,
        activation=denoiser.activation,
    )


def _provenance(
    result: Result, config: Config, engine: Engine, series: TiltSeries
) -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return {
        "config": config.model_dump(),
        "problem": result.problem.digest(),
        "denoiser": {
            "name": config.denoiser,
            "sha256": result.problem.denoiser_digest,
        },
        "tilts": {"path": series.path, "sha256": result.problem.data_digest},
        "versions": versions,
        "engine": {"name": engine.name, "workers": engine.workers},
        "tiles": len(result.plan.tiles),
        "order": result.plan.order,
        "wall_seconds": result.wall_seconds,
        "worker_seconds": result.seconds,
        "gradient_share": result.gradient_share,
        "iterations": result.residuals,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
