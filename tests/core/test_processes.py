"""Calls in other processes: their results in order, their errors as they are, and no process left."""

import contextlib
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddgm_dist.core.processes import Processes
from ddgm_dist.errors import DdgmError, InputError, StorageError
from tests.core import calls


def test_results_come_in_the_order_of_the_items() -> None:
    with Processes(2) as run:
        delays = [0.2, 0.0, 0.1, 0.0, 0.0]
        assert list(run(calls.after, "x", enumerate(delays))) == [("x", k) for k in range(5)]
        # The same processes serve another function.
        assert list(run(operator.add, 1, range(20))) == list(range(1, 21))
        assert list(run(operator.add, 1, ())) == []
        places = set(run(calls.process, None, range(20)))
    assert len(places) <= 2
    assert os.getpid() not in places
    assert not any(is_running(pid) for pid in places)


def test_large_arguments_and_results() -> None:
    data = bytes(3 * 2**20)
    with Processes(2) as run:
        assert list(run(operator.add, data, [data] * 3)) == [data * 2] * 3


def test_an_item_is_taken_when_there_is_room() -> None:
    """However slow the first one is: the results of the others are kept until it is there."""
    taken = list[int]()

    def items() -> object:
        for k in range(30):
            taken.append(k)
            yield k, 0.0 if k else 0.5

    with Processes(2) as run:
        results = run(calls.after, "x", items())
        assert next(results) == ("x", 0)
        assert len(taken) <= 8
        assert list(results) == [("x", k) for k in range(1, 30)]


def test_an_error_is_raised_as_it_is() -> None:
    with Processes(2) as run:
        with pytest.raises(InputError, match="angles = 7: is odd") as raised:
            list(run(calls.refuse_odd, "angles", [2, 4, 7, 8]))
        assert raised.value.why == "is odd"
        assert "refuse_odd" in raised.value.__notes__[0]
    with Processes(1) as run, pytest.raises(DdgmError, match="Private: 1"):
        list(run(calls.fail_privately, None, [1]))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_is_ended_from_outside_is_an_error(number: signal.Signals) -> None:
    with Processes(2) as run:
        with pytest.raises(StorageError, match=f"was ended by {number.name}") as raised:
            list(run(calls.die, number, range(6)))
        assert ("use fewer workers" in str(raised.value)) == (number == signal.SIGKILL)


def test_a_worker_that_ends_by_itself_is_an_error() -> None:
    with Processes(1) as run, pytest.raises(StorageError, match="has ended with status 3"):
        list(run(calls.leave, 3, [0]))


def test_an_iteration_that_is_given_up_ends_the_workers() -> None:
    with Processes(2) as run:
        results = run(calls.after, "x", enumerate([0.0, 100.0, 100.0]))
        next(results)
        began = time.monotonic()
        results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 50


SCRIPT = """
import sys
from ddgm_dist.core.processes import Processes
from tests.core import calls
with Processes(2) as run:
    for pid in run(calls.process_then_wait, None, [0, 0, 100, 100]):
        print(pid, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_parent(number: signal.Signals) -> None:
    """A signal to the whole group, as a terminal sends; or to the parent alone."""
    # No guard against being imported again: the script is not.
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert parent.stdout is not None
    workers = {int(parent.stdout.readline()) for _ in range(2)}
    if number == signal.SIGKILL:
        parent.kill()
    else:
        os.killpg(parent.pid, number)
    _, told = parent.communicate(timeout=60)
    assert parent.returncode == -number
    # One traceback at most: that of the parent.
    assert told.count("Traceback") == (number == signal.SIGINT)
    for _ in range(300):
        if not any(map(is_running, workers)):
            break
        time.sleep(0.1)
    assert not any(map(is_running, workers))


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
