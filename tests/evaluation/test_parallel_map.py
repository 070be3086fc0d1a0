"""The same results from threads, from one task after the other, and from Ray."""

import threading
from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

from ddgm_dist.errors import DdgmError, InputError
from ddgm_dist.evaluation.parallel_map import ray_get, scheduler

X = da.from_array(np.random.default_rng(0).normal(size=(20, 30, 40)), chunks=(20, 8, 9))


def scale(factor: np.ndarray, item: int) -> float:
    return float(factor.sum()) * item


def refuse(common: object, item: int) -> None:
    raise InputError("item", item, "is refused", "take another")


@pytest.mark.parametrize("name", ["threads", "sync"])
def test_results_come_in_the_order_of_the_items(name: str) -> None:
    with scheduler(name) as run:
        assert run(scale, np.ones(4), range(50)) == [4.0 * i for i in range(50)]
        assert run(scale, np.ones(4), []) == []


def test_sync_is_in_this_thread_and_neighbours_follow_each_other() -> None:
    """In which direction is dask's choice."""
    seen = []

    def note(common: None, item: int) -> None:
        seen.append((item, threading.get_ident()))

    with scheduler("sync") as run:
        run(note, None, range(1200))
    order = [item for item, _ in seen]
    assert order in (list(range(1200)), list(range(1200))[::-1])
    assert {thread for _, thread in seen} == {threading.get_ident()}


def test_tasks_are_given_the_common_object_itself() -> None:
    common = np.zeros(1)

    def add(array: np.ndarray, item: int) -> bool:
        return array is common

    with scheduler("threads") as run:
        assert run(add, common, range(10)) == [True] * 10


@pytest.mark.parametrize("name", ["threads", "sync"])
def test_an_error_is_told_as_it_is(name: str) -> None:
    with scheduler(name) as run, pytest.raises(InputError, match="is refused; take another"):
        run(refuse, None, range(10))


@pytest.mark.parametrize(
    ("name", "address", "argument"),
    [("processes", None, "scheduler"), ("threads", "auto", "address")],
)
def test_what_cannot_be_is_refused(name: str, address: str | None, argument: str) -> None:
    with pytest.raises(InputError) as caught, scheduler(name, address):
        pass
    assert caught.value.argument == argument


# -- Ray ----------------------------------------------------------------------------------------

on_ray = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("cluster"),
]


def marked(test: Any) -> Any:
    for mark in on_ray:
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    from ddgm_dist.ray_engine.cluster import connected

    with connected(None):
        yield


@marked
@pytest.mark.parametrize(
    "lazy",
    [
        X,
        X.sum(),
        X[3:9, ::-2, 5],
        da.tensordot(X, X, axes=([0, 1], [0, 1])),
        X.map_overlap(lambda block: block[::-1] * 2, depth=1, boundary="reflect"),
        X.rechunk((5, 30, 7)).cumsum(axis=1),
        da.zeros((4, 4), chunks=2),
    ],
    ids=["plain", "sum", "slice", "product", "overlap", "rechunk", "zeros"],
)
def test_ray_computes_what_threads_compute(lazy: da.Array) -> None:
    # Products may differ in their last bits by how BLAS finds its input aligned.
    np.testing.assert_allclose(lazy.compute(scheduler=ray_get), lazy.compute(), rtol=1e-12)


@marked
def test_ray_takes_all_that_dask_makes() -> None:
    total = dask.delayed(sum)([dask.delayed(abs)(-i) for i in range(5)])
    assert dask.compute(total, total + 1, 7, scheduler=ray_get) == (10, 11, 7)
    assert float(X.persist(scheduler=ray_get).sum().compute()) == float(X.sum().compute())
    # Tuples as tasks, names for names, a value, and keys nested as dask allows.
    graph = {"a": 1, "b": (abs, -3), "c": (max, "a", "b"), "d": "c", "unused": (abs, "no number")}
    assert ray_get(graph, [["c", "d"], "a"]) == ((3, 3), 1)
    assert ray_get(graph, "d") == 3


@marked
def test_ray_runs_calls_in_order_and_tells_errors_as_they_are(capfd: Any) -> None:
    with scheduler("ray") as run:
        assert run(scale, np.ones(4), range(30)) == [4.0 * i for i in range(30)]
        with pytest.raises(InputError, match="is refused; take another") as caught:
            run(refuse, None, range(30))
    assert "in refuse" in caught.value.__notes__[0]
    assert capfd.readouterr().err == ""  # nothing about the tasks that nobody asks about any more


@marked
def test_few_tasks_are_under_way_and_what_is_used_is_released() -> None:
    """Of a long row of tasks that make and use something, few results are there at a time."""
    import ray

    @ray.remote(num_cpus=0)
    class Count:
        def __init__(self) -> None:
            self.now = self.most = 0

        def add(self, step: int) -> int:
            self.now += step
            self.most = max(self.most, self.now)
            return self.most

    count = Count.remote()

    def make(i: int) -> np.ndarray:
        ray.get(count.add.remote(1))
        return np.full(10, i)

    def use(made: np.ndarray) -> int:
        ray.get(count.add.remote(-1))
        return int(made[0])

    rows = [dask.delayed(use)(dask.delayed(make)(i)) for i in range(60)]
    done = dask.compute(*rows, scheduler=ray_get, num_workers=2, optimize_graph=False)
    assert done == tuple(range(60))
    assert ray.get(count.add.remote(0)) <= 5


@marked
def test_a_task_that_kills_its_worker_runs_again(tmp_path: Any) -> None:
    import os
    import signal

    def fatal(folder: Any, item: int) -> int:
        mark = folder / "killed"
        if item == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with scheduler("ray") as run:
        assert run(fatal, tmp_path, range(6)) == list(range(6))
    assert (tmp_path / "killed").exists()


@marked
def test_a_task_that_always_kills_its_worker_is_an_error() -> None:
    import os
    import signal

    def fatal(common: None, item: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with scheduler("ray") as run, pytest.raises(DdgmError, match="lost for good") as caught:
        run(fatal, None, [0])
    assert "\n" not in str(caught.value)
