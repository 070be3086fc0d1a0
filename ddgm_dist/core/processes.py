"""A function over many items in processes of this machine, with the results in the order of the items.

Each process is a fresh interpreter: libraries with threads do not survive a fork. The caller's main
module is not imported again, so a script needs no guard, and functions must be importable by name.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from ddgm_dist.errors import DdgmError, StorageError

__all__ = ["Processes", "serve"]

Common = TypeVar("Common")
Item = TypeVar("Item")
Result = TypeVar("Result")

# A worker is one core: libraries that it calls start no threads of their own.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# The parent decides when its workers end. Ctrl-C in a terminal goes to all of them at once.
_FOR_THE_PARENT = (signal.SIGINT, signal.SIGTERM)
# Items per process that are taken at most, while the result that is due first is awaited: those of
# later items are kept in memory.
_AHEAD = 4
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


class Processes:
    """So many worker processes; a context manager that ends them, and a `Runner` within its block.

    Parameters
    ----------
    count
        Number of processes.
    environment
        Variables of their environment, beside those of this process, which have precedence.
    """

    def __init__(self, count: int, environment: Mapping[str, str] | None = None) -> None:
        self._count, self._workers = count, list[_Worker]()
        self._environment = dict(environment or {})

    def __enter__(self) -> Processes:
        try:
            for _ in range(self._count):
                self._workers.append(_Worker(self._environment))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def _end(self) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def __call__(
        self, function: Callable[[Common, Item], Result], common: Common, items: Iterable[Item]
    ) -> Iterator[Result]:
        """Results in the order of the items; an error of a call is raised as it is.

        Function, common part, items and results must be picklable. An iteration that is not finished
        ends the workers.

        Raises
        ------
        StorageError
            A worker was ended from outside, for example by the system for want of memory.
        """
        todo, due, taken = enumerate(items), 0, 0
        results, running = dict[int, Result](), dict[Connection, tuple[_Worker, int]]()
        idle, shared = list(self._workers), pickle.dumps((function, common))
        for worker in idle:
            worker.send(shared)
        try:
            while True:
                room = min(len(idle), due + _AHEAD * self._count - taken)
                for number, item in itertools.islice(todo, room):
                    worker, taken = idle.pop(0), number + 1
                    running[worker.connection] = (worker, number)
                    worker.send(pickle.dumps(item))
                while due in results:
                    yield results.pop(due)
                    due += 1
                if not running:
                    if room:
                        break
                    continue
                for ended in wait(list(running)):
                    assert isinstance(ended, Connection), "nothing else is waited for"
                    worker, number = running.pop(ended)
                    results[number] = worker.result()
                    idle.append(worker)
            for worker in idle:
                worker.send(b"")  # the end of this function's items
        except BaseException:
            self._end()
            raise


class _Worker:
    """One process, and the connection to it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            code = (
                f"import sys; sys.path[:] = {sys.path!r}; "
                f"from {__name__} import serve; serve({theirs.fileno()}, {os.getpid()})"
            )
            # A process is born with the blocked signals of the thread that starts it.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={**environment, **dict.fromkeys(_ONE_THREAD, "1"), **os.environ},
                )
            except BaseException:
                ours.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.connection = Connection(ours.detach())

    def send(self, data: bytes) -> None:
        try:
            self.connection.send_bytes(data)
        except OSError:
            raise self._lost() from None

    def result(self) -> Any:
        """The result of the call under way, or its error, raised."""
        try:
            error, trace, result = self.connection.recv()
        except (EOFError, OSError):
            raise self._lost() from None
        if error is not None:
            error.add_note(f"In a worker process:\n{trace}")
            raise error
        return result

    def end(self) -> None:
        self.connection.close()
        self._process.kill()
        self._process.wait()

    def _lost(self) -> StorageError:
        status = self._process.wait()
        if status >= 0:
            how = f"has ended with status {status}; what it printed says why"
        else:
            name = signal.Signals(-status).name
            how = f"was ended by {name}"
            if -status == signal.SIGKILL:
                how += ", as the system does when memory is short; use fewer workers"
        return StorageError(
            f"worker process {self._process.pid} {how}; then run again: what is finished is kept"
        )


def serve(descriptor: int, parent: int) -> None:
    """Answer the calls of a parent process until it ends; the main function of a worker.

    Parameters
    ----------
    descriptor
        Open socket to the parent.
    parent
        Its process number.
    """
    # A worker in the middle of a call must not outlive a parent that was killed.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    connection = Connection(descriptor)
    # A closed connection is how a parent ends.
    with contextlib.suppress(EOFError, OSError):
        while os.getppid() == parent:
            function, common = pickle.loads(connection.recv_bytes())
            while item := connection.recv_bytes():
                connection.send(_answer(function, common, item))


def _answer(
    function: Callable[[Any, Any], Any], common: Any, item: bytes
) -> tuple[Exception | None, str, Any]:
    """Error, its traceback, and result of a call."""
    try:
        return None, "", function(common, pickle.loads(item))
    except Exception as error:
        trace = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an error of a class that cannot be restored
            return DdgmError(f"{type(error).__name__}: {error}"), trace, None
        return error, trace, None
