"""The same results from threads, from one task after the other, and from Ray."""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.errors import DdgmError, InputError
from ddgm_dist.ray_engine.parallel_map import open_scheduler


def scale(factor: np.ndarray, item: int) -> float:
    return float(factor.sum()) * item


def refuse(common: object, item: int) -> None:
    raise InputError("item", item, "is refused", "take another")


@pytest.mark.parametrize("name", ["threads", "sync"])
def test_results_come_in_the_order_of_the_items(name: str) -> None:
    with open_scheduler(name) as run:
        assert list(run(scale, np.ones(4), range(50))) == [4.0 * i for i in range(50)]
        assert list(run(scale, np.ones(4), [])) == []


def test_sync_is_in_this_thread_and_in_order() -> None:
    seen = []

    def note(common: None, item: int) -> None:
        seen.append((item, threading.get_ident()))

    with open_scheduler("sync") as run:
        list(run(note, None, range(1200)))
    assert seen == [(item, threading.get_ident()) for item in range(1200)]


def test_threads_work_side_by_side_and_stop_at_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dask.system.CPU_COUNT", 4)
    meet, done = threading.Barrier(2, timeout=30), []

    def call(common: None, item: int) -> None:
        if item < 2:
            meet.wait()
        if item == 3:
            raise InputError("item", item, "is refused")
        time.sleep(0.001)
        done.append(item)

    with open_scheduler("threads") as run, pytest.raises(InputError, match="item = 3"):
        list(run(call, None, range(2000)))
    assert len(done) < 1000


def test_tasks_are_given_the_common_object_itself() -> None:
    common = np.zeros(1)

    def add(array: np.ndarray, item: int) -> bool:
        return array is common

    with open_scheduler("threads") as run:
        assert list(run(add, common, range(10))) == [True] * 10


@pytest.mark.parametrize("name", ["threads", "sync"])
def test_an_error_is_told_as_it_is(name: str) -> None:
    with open_scheduler(name) as run, pytest.raises(InputError, match="is refused; take another"):
        list(run(refuse, None, range(10)))


@pytest.mark.parametrize(
    ("name", "address", "argument"),
    [("processes", None, "scheduler"), ("threads", "auto", "address")],
)
def test_what_cannot_be_is_refused(name: str, address: str | None, argument: str) -> None:
    with pytest.raises(InputError) as caught, open_scheduler(name, address):
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
def test_ray_runs_calls_in_order_and_tells_errors_as_they_are(capfd: Any) -> None:
    with open_scheduler("ray") as run:
        assert list(run(scale, np.ones(4), range(30))) == [4.0 * i for i in range(30)]
        with pytest.raises(InputError, match="is refused; take another") as caught:
            list(run(refuse, None, range(30)))
    assert "in refuse" in caught.value.__notes__[0]
    assert capfd.readouterr().err == ""  # nothing about the tasks that nobody asks about any more


@marked
def test_few_tasks_are_under_way(tmp_path: Path) -> None:
    """Items are taken when there is room for them: what waits would fill the object store."""
    import ray

    limit = 2 * int(ray.cluster_resources()["CPU"])

    class Items(Sequence[int]):
        def __len__(self) -> int:
            return 40

        def __getitem__(self, number: Any) -> Any:
            if number >= len(self):
                raise IndexError
            ended = len(list(tmp_path.iterdir()))
            assert number - ended < limit
            return number

    def touch(folder: Path, item: int) -> int:
        (folder / str(item)).touch()
        return item

    with open_scheduler("ray") as run:
        assert list(run(touch, tmp_path, Items())) == list(range(40))


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

    with open_scheduler("ray") as run:
        assert list(run(fatal, tmp_path, range(6))) == list(range(6))
    assert (tmp_path / "killed").exists()


@marked
def test_a_task_that_always_kills_its_worker_is_an_error() -> None:
    import os
    import signal

    def fatal(common: None, item: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with open_scheduler("ray") as run, pytest.raises(DdgmError, match="lost for good") as caught:
        list(run(fatal, None, [0]))
    assert "\n" not in str(caught.value)
