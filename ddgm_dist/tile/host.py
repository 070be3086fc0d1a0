"""Memory of this machine: how much is available, and how workers allocate it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

__all__ = ["ALLOCATION", "allocate_as_workers", "available_memory", "give_back_memory"]

# How memory is allocated in a worker, by environment variables that are read when a process starts. An
# iteration takes and frees the same large blocks again and again, 64 bytes aligned. On a heap these
# leave holes that nothing fits: it grows to twice what is live, by chance to more. So blocks of 8 MiB
# and more are mapped, and given back when they are freed: what is resident is what is live. That costs
# page faults, of which huge pages make few (with "always" or "madvise" in the kernel's
# transparent_hugepage/enabled). Smaller ones stay on one heap for all threads, or each keeps its own.
_MAPPED = 8 * 2**20
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # torch's
ALLOCATION = {
    _HUGE_PAGES: "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(_MAPPED),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}
# The rest is for the page cache and for other processes.
_SHARE = 0.8


def available_memory() -> int | None:
    """Bytes that a process here may take: of the memory that is free, and of its cgroup's limit.

    None where the system does not say.
    """
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:")]
        limit = Path("/sys/fs/cgroup/memory.max")
        if limit.exists() and (text := limit.read_text(encoding="ascii").strip()) != "max":
            found.append(int(text))
    except (OSError, ValueError):
        return None
    return int(_SHARE * min(found)) if found else None


def allocate_as_workers() -> None:
    """Apply `ALLOCATION` to this process from now on, if its C library is glibc.

    For programs, not for libraries; before the first tensor is made.
    """
    os.environ[_HUGE_PAGES] = ALLOCATION[_HUGE_PAGES]
    arena_max, mmap_threshold, trim_threshold = -8, -3, -1  # of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(arena_max, 1)
    mallopt(mmap_threshold, _MAPPED)
    mallopt(trim_threshold, 2**31 - 1)


def give_back_memory() -> None:
    """Return to the system what is free on the heap; nothing where the C library is not glibc.

    A heap that is never given back grows with every block that no hole fits, rarely but for ever.
    Given back once per tile it cannot, and the pages cost little to take again.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    trim(0)
