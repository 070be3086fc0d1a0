"""What this machine has to give."""

from __future__ import annotations

import ctypes
from pathlib import Path

__all__ = ["ONE_HEAP", "available_memory", "give_back_memory", "keep_one_heap"]

# How glibc allocates in a worker, by environment variables that it reads when a process starts. An
# iteration frees and takes the same large blocks again and again: mapping them anew costs a fifth of
# the denoiser's time in page faults, so they stay on the heap; and one heap for all threads, or each
# would keep its own copy of what it once needed.
ONE_HEAP = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}
# The rest is for the page cache and for other processes.
_SHARE = 0.8


def available_memory() -> int | None:
    """Bytes that a process here may take: of the memory that is free, and of its cgroup's limit.

    None where the system does not tell.
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


def keep_one_heap() -> None:
    """What `ONE_HEAP` says, for this process from now on; nothing where the C library is not glibc.

    For programs, not for libraries: memory that the process has used once stays with it.
    """
    arena_max, mmap_max, trim_threshold = -8, -4, -1  # of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(arena_max, 1)
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)


def give_back_memory() -> None:
    """Return to the system what is free on the heap; nothing where the C library is not glibc.

    A heap that is never given back grows with every large block that no hole fits, rarely but for
    ever. Given back once per tile it cannot, and the pages cost little to take again.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    trim(0)
