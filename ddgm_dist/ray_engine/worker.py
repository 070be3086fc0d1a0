"""The Ray actor: a tile solver behind calls that overlap reading, computing and writing."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections import deque
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import ray
import torch

from ddgm_dist.engine.processors import processor
from ddgm_dist.engine.work import Task
from ddgm_dist.ray_engine.errors import last_line
from ddgm_dist.ray_engine.idempotent import IdempotentCalls
from ddgm_dist.tile.blending import Piece
from ddgm_dist.tile.events import Event, Receipt
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.solver import Paused, Stepped, TileSolver

__all__ = ["CONCURRENCY", "Handshake", "Heartbeat", "Worker", "versions"]

# Two calls at a time: while one computes, the other reads its input or writes its output.
CONCURRENCY = {"calls": 2, "control": 1}
_PACKAGES = ("ddgm-dist", "torch", "numpy", "zarr", "tensorstore")


@cache
def versions() -> dict[str, str]:
    """Versions that must agree between driver and workers, or the bits of results would differ."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


@dataclass(frozen=True)
class Handshake:
    """Report of a worker once its actor is up.

    Attributes
    ----------
    node, pid
        Ray's identifier of its node; its process.
    versions
        Versions of Python and of the packages that decide on the bits of a result.
    processor
        Kind of processor that it computes with: results of another kind round differently.
    error
        Reason why it cannot work; empty if it can.
    """

    node: str
    pid: int
    versions: dict[str, str]
    processor: str = ""
    error: str = ""


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life.

    Attributes
    ----------
    events
        Events since the last heartbeat.
    count
        Number of events that the worker has had in all.
    """

    events: list[Event]
    count: int


class Worker:
    """Ray actor that computes tiles of one job.

    Parameters
    ----------
    job, name
        Job to compute; the worker's name in receipts and events.
    threads
        Number of threads that torch computes with.
    """

    def __init__(self, job: Job, name: str, threads: int) -> None:
        self.threads = threads
        self._events: deque[Event] = deque()
        self._count = 0
        self._draining = threading.Event()
        torch.set_num_threads(threads)
        self._calls = IdempotentCalls()
        self._error, self._processor = "", ""
        # An actor whose constructor raises is gone, and Ray puts the next one in its place, on the
        # node that lacks something. This one stays, so that its handshake names the node.
        try:
            self.solver = TileSolver(job, name)
            self._processor = processor(self.solver.device)
        except Exception as error:
            self._error = last_line(error)

    @ray.method(concurrency_group="control")
    def handshake(self) -> Handshake:
        """Answer once the actor is up."""
        node = ray.get_runtime_context().get_node_id()
        return Handshake(node, os.getpid(), versions(), self._processor, self._error)

    @ray.method(concurrency_group="control")
    def heartbeat(self) -> Heartbeat:
        """Events of tiles that are running; answered while they run."""
        return Heartbeat(self._take_events(), self._count)

    @ray.method(concurrency_group="control")
    def drain(self) -> None:
        """Checkpoint running tiles and put them aside: the node is about to be removed."""
        self._draining.set()

    @ray.method(concurrency_group="calls")
    def drop(self, tiles: list[str]) -> None:
        """Forget the states of tiles that others solve now."""
        self.solver.drop(tiles)
        for tile in tiles:
            self._calls.forget(tile)

    # A driver that got no answer asks again, maybe while the call is running: calls are idempotent.

    @ray.method(concurrency_group="calls")
    def run(self, task: Task) -> tuple[Receipt | Paused, list[Event]]:
        """All iterations of an uncoupled tile, and those of its events that no heartbeat has sent."""
        answer = self._calls(task.tile.name, _identity(task), lambda: self._run(task))
        if isinstance(answer[0], Paused):
            self._calls.forget(task.tile.name)  # the same call may come again, to continue the tile
        return answer

    def _run(self, task: Task) -> tuple[Receipt | Paused, list[Event]]:
        self._set_threads()
        # A worker that was given up may have written the tile without an answer. A host that is cut
        # off from the others computes on for a minute.
        written = self.solver.written(task.tile) if task.retried else None
        if written is not None:
            return written, self._take_events()
        outcome: Receipt | Paused | None = None
        for event in self.solver.run(task.tile, task.load, self._draining.is_set):
            self._count += 1
            if isinstance(event, Receipt | Paused):
                outcome = event
            else:
                self._events.append(event)
        assert outcome is not None
        return outcome, self._take_events()

    @ray.method(concurrency_group="calls")
    def step(self, task: Task, *pieces: Piece) -> Any:
        """An iteration of a coupled tile: its outcome, then a piece for each receiver."""
        stepped = self._calls(task.tile.name, _identity(task), lambda: self._step(task, pieces))
        if not task.receivers:
            return stepped
        return [stepped, *self.solver.pieces(task.tile, task.n, task.receivers)]

    def _step(self, task: Task, pieces: tuple[Piece, ...]) -> Stepped:
        self._set_threads()
        stepped = self.solver.step(
            task.tile,
            task.n,
            dict(zip(task.senders, pieces, strict=True)),
            load=task.load,
            save=task.save,
            keep=task.keep,
        )
        self._count += 1
        return stepped

    @ray.method(concurrency_group="calls")
    def finish(self, task: Task, *pieces: Piece) -> Receipt:
        """Write a coupled tile."""
        return self._calls(task.tile.name, _identity(task), lambda: self._finish(task, pieces))

    def _finish(self, task: Task, pieces: tuple[Piece, ...]) -> Receipt:
        self._set_threads()
        receipt = self.solver.finish(
            task.tile, dict(zip(task.senders, pieces, strict=True)), task.load
        )
        self._count += 1
        return receipt

    @ray.method(concurrency_group="calls")
    def combine(self, task: Task) -> Receipt:
        """Write mean and deviation of a tile's samples."""
        return self._calls(task.tile.name, _identity(task), lambda: self._combine(task))

    def _combine(self, task: Task) -> Receipt:
        writer = self.solver.writer
        written = writer.written(task.tile, combined=True) if task.retried else None
        receipt = written or writer.combine(task.tile)
        self._count += 1
        return receipt

    def _take_events(self) -> list[Event]:
        found = []
        while self._events:
            with contextlib.suppress(IndexError):  # another thread took it
                found.append(self._events.popleft())
        return found

    def _set_threads(self) -> None:
        # OpenMP keeps the number per thread, and calls come in several.
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)


def _identity(task: Task) -> tuple[str, int, int]:
    """Identity of a call among those of one tile."""
    return task.kind, task.n, task.epoch
