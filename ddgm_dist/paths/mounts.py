"""The position of files within their file systems, whatever folders these are mounted on.

Linux can mount one folder at several places. Its table of mounts says which folder of which file system
each of them shows, so two places that show the same folder are found. Other systems have no such table.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["Spot", "spot", "spots_below"]

_TABLE = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Spot:
    """A place within a file system.

    Attributes
    ----------
    device
        Major and minor number of the file system; empty without a table of mounts.
    path
        Path from the root of the file system.
    """

    device: str
    path: PurePosixPath

    def within(self, other: Spot) -> bool:
        """Return whether this spot is the other one or lies below it."""
        return self.device == other.device and self.path.is_relative_to(other.path)


@dataclass(frozen=True)
class _Mount:
    seen: Spot  # what is mounted
    point: Path  # and where


def spot(path: Path) -> Spot:
    """The spot of a path, which is absolute, without links, and need not exist."""
    mount = _mounts().get(_mount_of(path))
    if mount is None or not path.is_relative_to(mount.point):
        return Spot("", PurePosixPath(path))
    return Spot(mount.seen.device, mount.seen.path / path.relative_to(mount.point))


def spots_below(path: Path) -> list[Spot]:
    """Spots that are mounted within a folder, and so would be deleted with it."""
    return [m.seen for m in _mounts().values() if path in m.point.parents]


def _mount_of(path: Path) -> int:
    """The number of the mount that a path, or what exists of it, belongs to; -1 if it is not known."""
    flags = getattr(os, "O_PATH", None)
    if flags is None:
        return -1
    for place in (path, *path.parents):
        try:
            file = os.open(place, flags)
        except OSError:  # not there, or out of reach
            continue
        try:
            found = re.search(r"^mnt_id:\s*(\d+)", _text(Path(f"/proc/self/fdinfo/{file}")), re.M)
        finally:
            os.close(file)
        return int(found[1]) if found else -1
    return -1


def _mounts() -> dict[int, _Mount]:
    """The table by numbers; empty where there is none."""
    found = {}
    for line in _text(_TABLE).splitlines():
        number, _, device, root, point = line.split(" ")[:5]
        if root.startswith("/"):  # other roots are not folders
            seen = Spot(device, PurePosixPath(_unescape(root)))
            found[int(number)] = _Mount(seen, Path(_unescape(point)))
    return found


def _text(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes())
    except OSError:
        return ""


def _unescape(name: str) -> str:
    r"""A name in which blanks, tabs, line feeds and backslashes are written as ``\040`` and so on."""
    raw = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), os.fsencode(name))
    return os.fsdecode(raw)
