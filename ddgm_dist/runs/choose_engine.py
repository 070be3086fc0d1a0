"""Choice of the engine of a run: this process, or Ray."""

from __future__ import annotations

import contextlib

from ddgm_dist.core.units import format_duration
from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.engine.protocol import Engine
from ddgm_dist.errors import InputError
from ddgm_dist.planning.config import Config
from ddgm_dist.planning.problem import Problem
from ddgm_dist.ray_engine.reachable import check_ray, is_connected, starts_here
from ddgm_dist.runs.calibrate import estimate_runtime
from ddgm_dist.runs.plan import plan_problem
from ddgm_dist.tile.host import available_memory
from ddgm_dist.tilts.series import TiltSeries

__all__ = ["check_engine", "choose_engine", "goes_to_ray", "joined"]

# Seconds of work in this process from which on Ray is started, which itself takes 5 to 20 s.
_WORTH_RAY = 60.0


def check_engine(engine: str | Engine, address: str | None, workers: int | None) -> None:
    """Refuse an engine that is unknown or cannot be had, before anything is read.

    Parameters
    ----------
    engine, address, workers
        As for :func:`ddgm_dist.runs.reconstruct.reconstruct`.

    Raises
    ------
    InputError
        The engine is unknown, takes no such option, or Ray cannot be reached or started.
    """
    if isinstance(engine, str) and engine in ("auto", "ray"):
        if workers is not None and workers < 1:
            raise InputError("workers", workers, "must be at least 1")
        if engine == "ray" or not starts_here(address):
            check_ray(address)
        return
    if address is not None or workers is not None:
        raise InputError(
            "engine", engine, "takes neither address nor workers", "use engine='ray' for these"
        )
    if isinstance(engine, str) and engine != "local":
        raise InputError("engine", engine, "is none of 'auto', 'local' and 'ray'")


def goes_to_ray(engine: str | Engine, address: str | None, workers: int | None) -> bool:
    """True if a run is known to be computed on Ray before its input is read.

    Parameters
    ----------
    engine, address, workers
        As for :func:`ddgm_dist.runs.reconstruct.reconstruct`.
    """
    if not isinstance(engine, str):
        return engine.name == "ray" and is_connected()
    if engine == "auto":
        return workers is not None or address is not None or not starts_here(address)
    return engine == "ray"


def joined(engine: str | Engine, address: str | None) -> contextlib.AbstractContextManager[None]:
    """A connection to a cluster that is there; Ray on this machine is started later.

    A cluster of another version, or one that refuses the token, is so found before the input is read.

    Parameters
    ----------
    engine, address
        As for :func:`ddgm_dist.runs.reconstruct.reconstruct`.

    Raises
    ------
    InputError
        The cluster cannot be joined.
    """
    if not isinstance(engine, str):
        return engine.connected()
    if engine == "local" or starts_here(address):
        return contextlib.nullcontext()
    from ddgm_dist.ray_engine.cluster import connected

    return connected(address)


def choose_engine(
    engine: str | Engine,
    address: str | None,
    workers: int | None,
    memory: int | None,
    *,
    problem: Problem,
    series: TiltSeries,
    config: Config,
) -> tuple[Engine, str]:
    """The engine of a run, and why, as the beginning of a line for people.

    ``auto`` takes Ray if an address, a number of workers or the environment asks for it. Otherwise it
    times the steps of the plan here for a few seconds, and takes Ray if the run would take more than a
    minute. The result does not depend on the engine.

    Parameters
    ----------
    engine, address, workers, memory
        As for :func:`ddgm_dist.runs.reconstruct.reconstruct`.
    problem, series, config
        The problem, its data, and the configuration with the plan keys.
    """
    if not isinstance(engine, str):
        return engine, ""
    if engine == "local":
        return LocalEngine(), ""
    why = ""
    if not goes_to_ray(engine, address, workers):
        plan = plan_problem(problem, series, config, memory or available_memory())
        found = estimate_runtime(problem, plan, series, enough=_WORTH_RAY)
        seconds = found.start + found.total
        if seconds < _WORTH_RAY:
            return LocalEngine(), f"about {format_duration(seconds)} of work: "
        why = f"more than {format_duration(_WORTH_RAY)} of work: "
    elif engine == "auto":
        asked = {"workers": workers, "address": address}
        given = " and ".join(name for name, value in asked.items() if value is not None)
        why = f"{given or 'a running cluster'} asked for: "
    from ddgm_dist.ray_engine.engine import RayEngine

    return RayEngine(address, workers), why
