"""Idempotent calls: one that is asked for again, because its answer was lost, is not computed again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["IdempotentCalls"]

T = TypeVar("T")


class IdempotentCalls:
    """Answers to the latest call of each tile; safe to call from several threads.

    Whoever asks while the call is being computed waits for it. An error is raised for all who wait, and
    is not kept.

    Parameters
    ----------
    kept
        Number of tiles whose answers are kept, the most recent ones.
    """

    def __init__(self, kept: int = 1024) -> None:
        self.kept = kept
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, tuple[Hashable, Future[Any]]] = OrderedDict()

    def __call__(self, tile: str, call: Hashable, compute: Callable[[], T]) -> T:
        """The answer to a tile's call.

        Parameters
        ----------
        tile, call
            Name of the tile; identity of the call. Another call of the tile replaces the one before.
        compute
            Gives the answer.
        """
        with self._lock:
            known = self._answers.get(tile)
            if known is not None and known[0] == call:
                future, mine = known[1], False
            else:
                future, mine = Future(), True
                self._answers[tile] = (call, future)
                self._answers.move_to_end(tile)
                while len(self._answers) > self.kept:
                    self._answers.popitem(last=False)
        if mine:
            try:
                future.set_result(compute())
            except BaseException as error:
                self._forget(tile, future)
                future.set_exception(error)
        answer: T = future.result()
        return answer

    def forget(self, tile: str) -> None:
        """Keep no answer of a tile; whoever waits for one still gets it."""
        with self._lock:
            self._answers.pop(tile, None)

    def _forget(self, tile: str, future: Future[Any]) -> None:
        with self._lock:
            if tile in self._answers and self._answers[tile][1] is future:
                del self._answers[tile]
