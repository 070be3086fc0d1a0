"""A function over many items: in threads of this process, one after the other, or as tasks of Ray."""

from __future__ import annotations

import contextlib
import itertools
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar, get_args

from ddgm_dist.core.parallel import Runner, map_in_threads
from ddgm_dist.errors import DdgmError, InputError

__all__ = ["SchedulerName", "on_ray", "open_scheduler"]

SchedulerName = Literal["threads", "ray", "sync"]
Common = TypeVar("Common")
Item = TypeVar("Item")
Result = TypeVar("Result")

# Tasks under way per CPU of the cluster: one that runs and one that waits with its input at hand.
_PER_CPU = 2


@contextlib.contextmanager
def open_scheduler(name: str, address: str | None = None) -> Iterator[Runner]:
    """Choose where calls run.

    Parameters
    ----------
    name
        ``threads``: one per CPU of this process. ``sync``: one call after the other, in this thread.
        ``ray``: tasks of one CPU each on a Ray cluster.
    address
        Address of the cluster. None uses the Ray this process is connected to, or starts one on this
        machine for the time of the context.

    Raises
    ------
    InputError
        The name is unknown, an address is given without ``ray``, or no cluster answers there.
    """
    if name not in get_args(SchedulerName):
        raise InputError("scheduler", name, f"must be one of {', '.join(get_args(SchedulerName))}")
    if name != "ray":
        if address is not None:
            raise InputError("address", address, "is for the scheduler ray only")
        yield _in_threads if name == "threads" else _one_by_one
        return
    from ddgm_dist.ray_engine.cluster import connected

    with connected(address):
        yield on_ray


def _one_by_one(
    function: Callable[[Common, Item], Result], common: Common, items: Iterable[Item]
) -> Iterator[Result]:
    return (function(common, item) for item in items)


def _in_threads(
    function: Callable[[Common, Item], Result], common: Common, items: Iterable[Item]
) -> Iterator[Result]:
    from dask.system import CPU_COUNT  # it knows the limits of containers; 0.2 s

    return map_in_threads(function, common, items, CPU_COUNT)


def on_ray(
    function: Callable[[Common, Item], Result], common: Common, items: Iterable[Item]
) -> Iterator[Result]:
    """Tasks of Ray: ``common`` goes to each node once, and a call whose worker is lost runs again.

    Everything must be picklable.

    Raises
    ------
    DdgmError
        Ray has lost a call for good: its workers died, or memory ran out.
    """
    import ray

    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    limit = _PER_CPU * max(1, int(resources.get("CPU", 1)))
    shared = ray.put((function, common))
    task = ray.remote(num_cpus=1)(_call).options(name=getattr(function, "__name__", "call"))
    waiting, results, due = enumerate(items), dict[int, Result](), 0
    running: dict[Any, int] = {}
    try:
        while True:
            for number, item in itertools.islice(waiting, limit - len(running)):
                running[task.remote(shared, item)] = number
            while due in results:
                yield results.pop(due)
                due += 1
            if not running:
                return
            (ended, *_), _ = ray.wait(list(running), num_returns=1)
            error, trace, result = ray.get(ended)
            if error is not None:
                error.add_note(f"On the worker:\n{trace}")
                raise error
            results[running.pop(ended)] = result
    except ray.exceptions.RayError as error:
        raise DdgmError(f"a task on Ray was lost for good: {_first_line(error)}") from error
    finally:
        for call in running:
            ray.cancel(call)


def _call(
    shared: tuple[Callable[[Any, Any], Any], Any], item: Any
) -> tuple[Exception | None, str, Any]:
    """A call on a worker: the error with its traceback, and the result.

    An error is returned and not raised: Ray would log it for every call that is cancelled afterwards.
    """
    function, common = shared
    try:
        return None, "", function(common, item)
    except Exception as error:
        return error, traceback.format_exc(), None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
