"""Death at any operation on files: an exception that nothing catches, and after it nothing works.

No clean-up code can then do what a killed process could not. Counted are the calls of the system that
rename, delete and make files and folders, and bulk writes, of which half can be done. The leases have
tests of their own: a process that was killed here has the number of the one that goes on.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ddgm_dist.evaluation import pyramid
from ddgm_dist.paths import exchange
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.paths.claim import SIDECAR
from ddgm_dist.records import lease, replacement
from ddgm_dist.runs import output
from ddgm_dist.tilts import claim as tilt_claim

WHENS = ("before", "half", "after")


class Killed(BaseException):
    pass


class Failing:
    """Counts operations; one of them fails, and all others are done, as are those that clean up."""

    def __init__(self, at: int | None = None, error: BaseException | None = None) -> None:
        self.at, self.error, self.paused, self.names = at, error, False, list[str]()

    @property
    def count(self) -> int:
        return len(self.names)

    def operation(self, whole: Callable[[], Any], half: Callable[[], Any], name: str = "") -> Any:
        if self.paused or threading.current_thread() is not threading.main_thread():
            return whole()
        self.names.append(name)
        if self.count - 1 == self.at and self.error is not None:
            raise self.error
        return whole()


class Mortal:
    """Counts operations; dies at one of them."""

    def __init__(self, at: int | None = None, when: str = "before") -> None:
        self.at, self.when, self.dead, self.names = at, when, False, list[str]()

    @property
    def count(self) -> int:
        return len(self.names)

    def operation(self, whole: Callable[[], Any], half: Callable[[], Any], name: str = "") -> Any:
        if self.dead:
            raise Killed
        self.names.append(name)
        if self.count - 1 != self.at:
            return whole()
        self.dead = True
        if self.when == "half":
            half()
        elif self.when == "after":
            whole()
        raise Killed


class NoLease:
    """Nobody else is there."""

    owner, lost = "session", False

    def __init__(self, out: Any) -> None:
        self.path = out

    def acquire(self) -> None:
        """The folder is made, as for a lease."""
        (self.path / SIDECAR).mkdir(parents=True, exist_ok=True)

    def check(self) -> None:
        pass

    def release(self) -> None:
        """Folders that nothing else is in are removed, as a lease removes those that it has made."""
        with suppress(OSError):
            (self.path / SIDECAR).rmdir()
            self.path.rmdir()

    @contextmanager
    def carried(self, folder: Path) -> Iterator[None]:
        yield

    def __enter__(self) -> "NoLease":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _paused(failing: Failing, call: Callable[..., Any]) -> Callable[..., Any]:
    def paused(*args: Any) -> Any:
        failing.paused = True
        try:
            return call(*args)
        finally:
            failing.paused = False

    return paused


def nothing() -> None:
    """Half of an operation that the system does in one step."""


def around_renames(names: list[str]) -> range:
    """The operations that take the place of the exchange of two names, and those beside them."""
    renames = [at for at, name in enumerate(names) if name == "rename"]
    return range(renames[0] - 1, renames[-1] + 3)


def strikes(names: list[str], first: int, ways: int) -> list[int]:
    """The operations to strike in one way of several, so that all ways together strike each once.

    Of the deletions one in three: they are many, and what they delete is no longer anybody's.
    """
    deletions, found = 0, list[int]()
    for at, name in enumerate(names):
        if name in ("unlink", "remove", "rmdir"):
            deletions += 1
            if deletions % 3:
                continue
            turn = deletions // 3
        else:
            turn = at - deletions
        if turn % ways == first % ways:
            found.append(at)
    return found


@contextmanager
def mortal_system(
    mortal: Mortal | Failing, *, exchanges: bool = True, leases: bool = False
) -> Iterator[None]:
    """Make every operation on files one of `mortal`'s.

    Parameters
    ----------
    mortal
        Dies at one of them.
    exchanges
        Whether the system can exchange two names in one step; else two renames are needed.
    leases
        Whether leases are taken: not by one that is killed.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (output, pyramid, replacement, tilt_claim):
            if not leases:
                patch.setattr(module, "Lease", NoLease)
        if isinstance(mortal, Failing):
            # A lease that cannot be given back is waited for, which is right, and takes half a minute.
            patch.setattr(lease.Lease, "acquire", _paused(mortal, lease.Lease.acquire))
            patch.setattr(lease.Lease, "release", _paused(mortal, lease.Lease.release))
        for name in ("rename", "replace", "unlink", "remove", "rmdir", "mkdir", "link"):
            call = getattr(os, name)

            def counted(*args: Any, call: Any = call, name: str = name, **more: Any) -> Any:
                if (
                    name == "mkdir"
                    and not getattr(mortal, "dead", False)
                    and Path(args[0]).is_dir()
                ):
                    return call(*args, **more)  # changes nothing
                return mortal.operation(lambda: call(*args, **more), nothing, name)

            patch.setattr(os, name, counted)
        # Processes die here, and not machines.
        patch.setattr(os, "fsync", lambda file: None)
        exchange_names = exchange._exchange

        def exchanged(a: Path, b: Path) -> bool:
            if not exchanges:
                return False
            return bool(mortal.operation(lambda: exchange_names(a, b), nothing))

        patch.setattr(exchange, "_exchange", exchanged)
        write = BulkArray.write

        def half_write(self: BulkArray, slices: Any, block: Any) -> None:
            """Some of the files; each is written whole or not at all."""
            z, y, x = slices
            unit = self._store.chunk_layout.write_chunk.shape[1]
            rows = (block.shape[1] - 1) // unit * unit
            start = y.start or 0
            if rows:
                write(self, (z, slice(start, start + rows), x), block[:, :rows])

        patch.setattr(
            BulkArray,
            "write",
            lambda self, *a: mortal.operation(
                lambda: write(self, *a), lambda: half_write(self, *a), "write"
            ),
        )
        yield
