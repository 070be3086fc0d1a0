"""Where dask's tasks run: threads of this process, one after the other, or as tasks of Ray.

Ray brings a scheduler of its own, ``ray.util.dask``. It is not used: Ray 2.60 imports
``dask.dataframe`` with it, so that it cannot be imported where pandas and pyarrow are not installed;
``persist`` fails with dask 2026.8; and it submits a whole graph at once, so that results which nobody
has used yet fill the object store. `ray_get` is a loop over the graph that has a few tasks per CPU
under way.
"""

from __future__ import annotations

import contextlib
import heapq
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar, get_args

from ddgm_dist.errors import DdgmError, InputError

__all__ = ["Runner", "SchedulerName", "ray_get", "scheduler"]

SchedulerName = Literal["threads", "ray", "sync"]
Common = TypeVar("Common")
Item = TypeVar("Item")
Result = TypeVar("Result")

_Failure = tuple[Exception, str]

# Tasks under way per CPU of the cluster: one that runs and one that waits with its input at hand.
_PER_CPU = 2


class Runner(Protocol):
    """What `scheduler` yields: calls ``function(common, item)`` for each item, in parallel."""

    def __call__(
        self, function: Callable[[Common, Item], Result], common: Common, items: Sequence[Item]
    ) -> list[Result]:
        """The results in the order of the items; the first error is raised as it is.

        On Ray, ``common`` goes to each node once, everything must be picklable, and a task whose
        worker is lost runs again.
        """
        ...


@contextlib.contextmanager
def scheduler(name: str, address: str | None = None) -> Iterator[Runner]:
    """Run dask's tasks in one of three places.

    Parameters
    ----------
    name
        ``threads``: dask's default, a thread per CPU of this process. ``sync``: one task after the
        other. ``ray``: tasks of one CPU each on a Ray cluster.
    address
        Of the cluster; None uses the Ray this process is connected to, or starts one on this machine
        for the time of the context.

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
        yield _runner(name)
        return
    from ddgm_dist.ray_engine.cluster import connected

    with connected(address):
        yield _runner(ray_get)


def _runner(where: str | Callable[..., Any]) -> Runner:
    from dask.base import compute  # 0.2 s
    from dask.delayed import delayed

    def run(
        function: Callable[[Common, Item], Result], common: Common, items: Sequence[Item]
    ) -> list[Result]:
        shared = delayed(common, traverse=False)
        call = delayed(function, pure=False, traverse=False)
        # Named in a row, as dask takes tasks that are alike by their names: neighbours follow each
        # other, and what they read is still at hand.
        name = f"{getattr(function, '__name__', 'call')}-{uuid.uuid4().hex}"
        calls = [call(shared, x, dask_key_name=f"{name}-{i:09d}") for i, x in enumerate(items)]
        # Optimisation would copy what is shared into every task.
        done = compute(*calls, scheduler=where, optimize_graph=False)  # type: ignore[no-untyped-call]
        return list(done)

    return run


def ray_get(graph: Any, keys: Any, num_workers: int | None = None, **_options: object) -> Any:
    """A dask scheduler (``array.compute(scheduler=ray_get)``): each task of the graph is one of Ray's.

    Tasks start in dask's order and not more than a few at a time; what no task needs any more is
    released. Only the results come here; what passes between tasks stays in the object store.

    Parameters
    ----------
    graph
        Of dask: a mapping, or an expression that has one.
    keys
        Of the results: a key, or a list of keys or of lists.
    num_workers
        Tasks to run at a time; the cluster's CPUs when None.
    _options
        Of other schedulers; ignored.

    Returns
    -------
    object
        The results, nested as the keys are; arrays among them are read-only.

    Raises
    ------
    Exception
        What a task raised, as it is.
    DdgmError
        Ray lost a task for good: workers died, or memory ran out.
    """
    import ray
    from dask.core import flatten

    if num_workers is None:
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        num_workers = max(1, int(resources.get("CPU", 1)))
    wanted = list(dict.fromkeys(flatten([keys])))  # type: ignore[no-untyped-call]
    state = _State(graph, wanted)
    running: dict[Any, Any] = {}  # what is ready when a task has ended -> its key
    try:
        while state.ready or running:
            while state.ready and len(running) < _PER_CPU * num_workers:
                ended, key = state.start()
                if ended is not None:
                    running[ended] = key
            if running:
                (ended, *_), _ = ray.wait(list(running), num_returns=1)
                if failed := ray.get(ended):
                    raise _told(*failed)
                state.finish(running.pop(ended))
        values = ray.get([state.values[key] for key in wanted])
    except ray.exceptions.RayError as error:
        raise DdgmError(f"a task on Ray was lost for good: {_first_line(error)}") from error
    finally:
        for ended in running:
            ray.cancel(ended)
    return _nested(keys, dict(zip(wanted, values, strict=True)))


class _State:
    """What of a graph is done, can start, and waits; values are references to Ray's objects."""

    def __init__(self, graph: Any, wanted: Sequence[Any]) -> None:
        # Private, but all schedulers outside dask start with it: a graph may hold tuples, as before
        # 2024.12, or tasks.
        from dask._task_spec import convert_legacy_graph, cull
        from dask.order import order

        mapping = graph if isinstance(graph, Mapping) else graph.__dask_graph__()
        self.tasks = cull(convert_legacy_graph(mapping), wanted)
        self.values: dict[Any, Any] = {}
        self._wanted = frozenset(wanted)
        self._rank = order(self.tasks)
        self._missing = {key: set(task.dependencies) for key, task in self.tasks.items()}
        self._users: dict[Any, set[Any]] = {key: set() for key in self.tasks}
        for key, needs in self._missing.items():
            for need in needs:
                self._users[need].add(key)
        self.ready = [(self._rank[key], key) for key, needs in self._missing.items() if not needs]
        heapq.heapify(self.ready)

    def start(self) -> tuple[Any | None, Any]:
        """Start the first task that can; what tells its end (None: it has ended), and its key."""
        import ray
        from dask._task_spec import Alias, DataNode

        _, key = heapq.heappop(self.ready)
        task = self.tasks[key]
        if isinstance(task, DataNode):
            self.values[key] = ray.put(task.value)
        elif isinstance(task, Alias):
            self.values[key] = self.values[task.target]
        else:
            needs = list(task.dependencies)
            remote = ray.remote(num_cpus=1, num_returns=2)(_run)
            ended, self.values[key] = remote.options(name=f"dask:{key}").remote(
                task, needs, *(self.values[need] for need in needs)
            )
            return ended, key
        self.finish(key)
        return None, key

    def finish(self, key: Any) -> None:
        """A task has ended: what waited for it can start, what only it needed is released."""
        for user in self._users[key]:
            self._missing[user].remove(key)
            if not self._missing[user]:
                heapq.heappush(self.ready, (self._rank[user], user))
        for need in self.tasks[key].dependencies:
            self._users[need].discard(key)
            if not self._users[need] and need not in self._wanted:
                del self.values[need]


def _run(task: Any, needs: Sequence[Any], *values: Any) -> tuple[_Failure | None, Any]:
    """A task, on a worker: what it raised, and its result, which need not move to see that.

    Ray would log what a task raises once for each task that nobody asks about any more.
    """
    try:
        return None, task(dict(zip(needs, values, strict=True)))
    except Exception as error:
        return (error, traceback.format_exc()), None


def _told(error: Exception, trace: str) -> Exception:
    error.add_note(f"On the worker:\n{trace}")
    return error


def _nested(keys: Any, values: Mapping[Any, Any]) -> Any:
    return tuple(_nested(k, values) for k in keys) if isinstance(keys, list) else values[keys]


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
