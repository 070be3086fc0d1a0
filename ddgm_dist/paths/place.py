"""Places: a path on a disk, or a bucket and a key in an object store.

A *place* is a `pathlib.Path`, or an `ObjectPath` where the user gave a URL (``s3://bucket/path``,
``gs://bucket/path``). `ddgm_dist.paths.locate` makes it. Both kinds are immutable, can be pickled, are
joined with ``/`` and have a ``name``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ddgm_dist.errors import InputError

__all__ = ["ObjectPath", "Place", "is_url", "not_utf8_error", "utf8_path"]


@dataclass(frozen=True)
class ObjectPath:
    """A place in an object store.

    Attributes
    ----------
    scheme
        ``s3`` or ``gs``.
    bucket
        Name of the bucket.
    key
        Path within the bucket, without slashes at its ends.
    """

    scheme: str
    bucket: str
    key: str

    def __truediv__(self, part: str) -> ObjectPath:
        return ObjectPath(self.scheme, self.bucket, f"{self.key}/{part}".strip("/"))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part of the key without its suffix."""
        return Path(self.name).stem

    @property
    def parent(self) -> ObjectPath:
        """The place that this one is in."""
        return ObjectPath(self.scheme, self.bucket, self.key.rpartition("/")[0])


Place = Path | ObjectPath


def is_url(path: str | Path | ObjectPath) -> bool:
    """Return whether a path is a URL, rather than the name of a file."""
    return isinstance(path, ObjectPath) or "://" in str(path)


def utf8_path(path: Path) -> str | None:
    """A path's bytes as UTF-8, whatever the locale makes of them; None where they are not."""
    try:
        return os.fsencode(path).decode()
    except UnicodeDecodeError:
        return None


def not_utf8_error(path: Path, argument: str) -> InputError:
    return InputError(
        argument,
        os.fsencode(path).decode(errors="backslashreplace"),
        "the path of a Zarr store must be UTF-8, and this one is not",
        "rename what is not, for example to plain letters (a link leads to the same name)",
    )
