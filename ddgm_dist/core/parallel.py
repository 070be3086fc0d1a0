"""A function over many items in threads, with the results in the order of the items."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

__all__ = ["Runner", "map_in_threads", "one_by_one"]

Common = TypeVar("Common")
Item = TypeVar("Item")
Result = TypeVar("Result")

# Calls per thread: one that runs, and one that waits or whose result does.
_PER_THREAD = 2


class Runner(Protocol):
    """Calls ``function(common, item)`` for each item, in parallel."""

    def __call__(
        self, function: Callable[[Common, Item], Result], common: Common, items: Iterable[Item]
    ) -> Iterator[Result]:
        """The results in the order of the items; an error of a call is raised as it is.

        Calls start in the order of the items, so neighbours follow each other. An item is taken when
        there is room for its call.
        """
        ...


def one_by_one(
    function: Callable[[Common, Item], Result], common: Common, items: Iterable[Item]
) -> Iterator[Result]:
    """A `Runner` in this thread."""
    return (function(common, item) for item in items)


def map_in_threads(
    function: Callable[[Common, Item], Result],
    common: Common,
    items: Iterable[Item],
    threads: int,
) -> Iterator[Result]:
    """A `Runner` in so many threads of this process."""
    todo, calls = iter(items), deque[Future[Result]]()
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                for item in itertools.islice(todo, _PER_THREAD * threads - len(calls)):
                    calls.append(pool.submit(function, common, item))
                if not calls:
                    return
                yield calls.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
