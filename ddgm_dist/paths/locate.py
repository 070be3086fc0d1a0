"""Make a place of a path or a URL that a user gives; done once, where the call comes in."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ddgm_dist.errors import InputError
from ddgm_dist.paths.exchange import bring_back
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.paths.object_store import CREDENTIALS, DRIVERS, probe_bucket
from ddgm_dist.paths.place import ObjectPath, Place, is_url, not_utf8_error, utf8_path

__all__ = ["locate", "place_of"]


def locate(path: str | Path | ObjectPath, argument: str) -> Place:
    """The place of a store that a user names.

    Once per process the bucket is asked whether it answers. A folder that a process put aside to
    replace it, and was then killed, is returned to its place.

    Parameters
    ----------
    path
        A path, made absolute; or a URL: ``file://``, ``s3://bucket/path``, ``gs://bucket/path``.
    argument
        Name of the argument, for messages.

    Raises
    ------
    InputError
        The URL is malformed or of another kind; the bucket does not exist, or refuses the
        credentials; the path of a store is not UTF-8.
    StorageError
        The object store does not answer.
    """
    place = place_of(path, argument)
    # Other files, and folders of images, are not opened by tensorstore, and may have any name.
    if (
        isinstance(place, Path)
        and utf8_path(place) is None
        and (not place.exists() or is_zarr(place))
    ):
        raise not_utf8_error(place, argument)
    return place


def place_of(path: str | Path | ObjectPath, argument: str) -> Place:
    """The place of any file or folder, as `locate` finds it; its name need not be UTF-8."""
    place = path if isinstance(path, ObjectPath) else _parse(path, argument)
    if isinstance(place, ObjectPath):
        probe_bucket(place, argument)
    elif not place.name:
        raise InputError(
            argument, str(path), "is the root of the file system", "name a folder in it"
        )
    elif not place.exists():
        bring_back(place)
    return place


def _parse(path: str | Path, argument: str) -> Place:
    text = str(path)
    if isinstance(path, Path) and re.match(r"[a-z][a-z0-9]+:/", text):
        raise InputError(argument, text, "was a URL before it became a Path", "give it as text")
    if not is_url(text):
        return _absolute(path, argument)
    scheme, _, rest = text.partition("://")
    if scheme == "file":
        return _parse_file(text, argument)
    if scheme not in DRIVERS:
        raise InputError(
            argument,
            _without_credentials(text),
            f"is a URL of an unknown kind, {scheme}://",
            "use s3://bucket/path, gs://bucket/path or file:///path, or copy it to a disk",
        )
    bucket, _, key = rest.partition("/")
    if "@" in bucket:
        raise InputError(
            argument,
            _without_credentials(text),
            "has credentials in it, which would end up in stores and logs",
            f"give them through the environment ({CREDENTIALS[scheme]})",
        )
    # The server ignores both, so two names of one place would look different.
    parts = [part for part in key.split("/") if part not in ("", ".")]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", bucket) or not parts or ".." in parts:
        raise InputError(
            argument, text, "does not name a place in a bucket", f"write {scheme}://bucket/path"
        )
    return ObjectPath(scheme, bucket, "/".join(parts))


def _parse_file(text: str, argument: str) -> Path:
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise InputError(
            argument, text, "names another host", "write file:///path, with three slashes"
        )
    return _absolute(unquote(parts.path), argument)


def _absolute(path: str | Path, argument: str) -> Path:
    """A path without links and ``..``, which tensorstore refuses.

    Raises
    ------
    InputError
        Its links form a circle, a name is too long or has a zero byte, or ``~NAME`` is no user.
    """
    try:
        found = Path(path).expanduser().resolve()
        found.lstat()
    except (RuntimeError, ValueError) as error:
        raise InputError(argument, str(path), f"names no place ({error})") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise InputError(argument, str(path), f"names no place ({error.strerror})") from error
    return found


def _without_credentials(text: str) -> str:
    return re.sub(r"://[^/@]*@", "://...@", text)
