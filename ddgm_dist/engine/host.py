"""What this machine has to give."""

from __future__ import annotations

from pathlib import Path

__all__ = ["available_memory"]

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
