"""Refuse tensorstore in a process that was forked from one that had used it.

tensorstore has threads, which a fork does not copy. It aborts a child that calls it, by SIGABRT and
without an exception. A child that runs another program (``subprocess``) is not affected.
"""

from __future__ import annotations

import os

from ddgm_dist.errors import StorageError

__all__ = ["ForkedError", "used"]


class ForkedError(StorageError):
    """A store was used in a process that was forked after stores were used in its parent."""


_state = {"used": False, "forked": False}


def used() -> None:
    """Check before each call into tensorstore that it would not abort the process.

    Raises
    ------
    ForkedError
        This process was forked after the first use of a store.
    """
    if _state["forked"]:
        raise ForkedError(
            f"process {os.getpid()} was forked after its parent had used a store, and tensorstore does "
            "not work in such a child; start processes with "
            "multiprocessing.get_context('spawn') (DataLoader(multiprocessing_context='spawn')), or "
            "fork before the first store is opened"
        )
    _state["used"] = True


def _in_the_child() -> None:
    _state["forked"] = _state["used"]


os.register_at_fork(after_in_child=_in_the_child)
