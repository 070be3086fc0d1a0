"""Where a store lies, a folder or a place in an object store, and what the package does there.

A *place* is a `pathlib.Path`, or an `ObjectPath` where the user gave a URL (``s3://bucket/path``,
``gs://bucket/path``). Both are immutable, can be pickled, are joined with ``/`` and know their
``name``. The functions here do with either what the package needs besides bulk data: whole small
files, listings, deletions. Those of a folder go through the file system, those of an object store
through tensorstore; an object is written whole or not at all, so no temporary file is needed there.

Endpoint, region and credentials come from the environment alone, on every node that reads or writes;
nothing of them is kept in a place, a store or a message.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import tensorstore as ts

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.exchange import bring_back
from ddgm_dist.file_lock import locked
from ddgm_dist.forks import used

__all__ = [
    "ObjectPath",
    "Place",
    "delete",
    "delete_folder",
    "exclusive",
    "exists",
    "files_below",
    "inner_name",
    "is_url",
    "is_zarr",
    "kvstore",
    "kvstore_spec",
    "locate",
    "names",
    "place_of",
    "plain",
    "read_all",
    "read_bytes",
    "read_stamped",
    "refuse_links",
    "write_bytes",
    "write_if",
]

_DRIVERS = {"s3": "s3", "gs": "gcs"}
# Whoever asks for a store that cannot be reached is told in seconds; a run that goes on has patience.
_PROBE = {"max_retries": 3, "initial_delay": "200ms", "max_delay": "1s"}
_PATIENT = {"max_retries": 10, "initial_delay": "500ms", "max_delay": "8s"}
_PROBE_SECONDS = 10.0
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}
_READ = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "TENSORSTORE_GCS_HTTP_URL",
)
_ENDPOINT = {"s3": "AWS_ENDPOINT_URL", "gs": "TENSORSTORE_GCS_HTTP_URL"}


@dataclass(frozen=True)
class ObjectPath:
    """A place in an object store.

    Attributes
    ----------
    scheme
        ``s3`` or ``gs``.
    bucket
        Its name.
    key
        Below the bucket, without slashes at its ends.
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
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return Path(self.name).stem

    @property
    def parent(self) -> ObjectPath:
        """The place that this one is in."""
        return ObjectPath(self.scheme, self.bucket, self.key.rpartition("/")[0])


Place = Path | ObjectPath


def is_url(path: str | Path | ObjectPath) -> bool:
    """Whether a path is a URL, rather than the name of a file."""
    return isinstance(path, ObjectPath) or "://" in str(path)


def locate(path: str | Path | ObjectPath, argument: str) -> Place:
    """The place that a user means; object stores are asked, once per process, whether they answer.

    A folder that a process put aside to replace it, and was killed, is returned to its place.

    Parameters
    ----------
    path
        A path, made absolute; or a URL: ``file://``, ``s3://bucket/path``, ``gs://bucket/path``.
    argument
        What the user calls it.

    Raises
    ------
    InputError
        The URL is malformed or of another kind; the bucket is not there, or refuses the credentials;
        a store has a name that is not UTF-8.
    StorageError
        The object store does not answer.
    """
    place = place_of(path, argument)
    # Other files, and folders of images, are not for tensorstore, and may have any name.
    if isinstance(place, Path) and _utf8(place) is None and (not place.exists() or is_zarr(place)):
        raise _not_utf8(place, argument)
    return place


def place_of(path: str | Path | ObjectPath, argument: str) -> Place:
    """The place of anything, also of what is no store, and raises as `locate` does."""
    place = path if isinstance(path, ObjectPath) else _parse(path, argument)
    if isinstance(place, ObjectPath):
        _probe(place, argument)
    elif not place.name:
        raise InputError(
            argument, str(path), "is the root of the file system", "name a folder in it"
        )
    elif not place.exists():
        bring_back(place)
    return place


def _utf8(path: Path) -> str | None:
    """A path's bytes as UTF-8, whatever the locale makes of them; None where they are not."""
    try:
        return os.fsencode(path).decode()
    except UnicodeDecodeError:
        return None


def _not_utf8(path: Path, argument: str) -> InputError:
    return InputError(
        argument,
        os.fsencode(path).decode(errors="backslashreplace"),
        "the path of a Zarr store must be UTF-8, and this one is not",
        "rename what is not, for example to plain letters (a link leads to the same name)",
    )


def _parse(path: str | Path, argument: str) -> Place:
    text = str(path)
    if isinstance(path, Path) and re.match(r"[a-z][a-z0-9]+:/", text):
        raise InputError(argument, text, "was a URL before it became a Path", "give it as text")
    if not is_url(text):
        return _absolute(path, argument)
    scheme, _, rest = text.partition("://")
    if scheme == "file":
        return _parse_file(text, argument)
    if scheme not in _DRIVERS:
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
            f"give them through the environment ({_CREDENTIALS[scheme]})",
        )
    # Both are dropped on the way to the server: two names of one place would not look the same.
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
        Its links lead in a circle, a name is too long or has a zero byte, or ``~NAME`` is nobody.
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


# -- what a store may lead to ----------------------------------------------------------------------


def inner_name(name: str, argument: str, store: str | Path | ObjectPath) -> str:
    """The name of something within a store, as its metadata have it, if it cannot lead out of it.

    Raises
    ------
    InputError
        It is absolute, or has ``..`` in it.
    """
    if re.fullmatch(r"[^/\\\0]+(/[^/\\\0]+)*", name) and not {".", ".."} & set(name.split("/")):
        return name
    raise InputError(
        argument,
        str(store),
        f"its metadata name a part {name!r}, which leads out of it",
        "do not trust it: whoever wrote it did so on purpose",
    )


def refuse_links(place: Place, argument: str) -> None:
    """Refuse a store in which a link leads out of it, or that holds what is neither file nor folder.

    The store itself may be a link. Names are looked at, no file is opened. Object stores have no links.

    Raises
    ------
    InputError
        Names the link and where it leads.
    """
    if isinstance(place, ObjectPath):
        return
    root = os.path.realpath(place)
    folders = [root]
    while folders:
        try:
            found = os.scandir(folders.pop())
        except OSError:
            continue  # gone meanwhile, or unreadable: whoever reads it says so
        with found as entries:
            for entry in entries:
                if entry.is_symlink():
                    _check_link(entry.path, root, argument)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not entry.is_file(follow_symlinks=False) and Path(entry.path).exists():
                    inside = os.path.relpath(entry.path, root)
                    why = f"holds {inside}, which is neither a file nor a folder"
                    raise InputError(argument, root, why, "remove it")


def _check_link(path: str, root: str, argument: str) -> None:
    to = os.path.realpath(path)
    if not to.startswith(f"{root}{os.sep}"):
        raise InputError(
            argument,
            root,
            f"the link {os.path.relpath(path, root)} in it leads out of it, to {to}",
            "put there what it leads to, or make the whole store a link",
        )


# -- the object store -----------------------------------------------------------------------------


def kvstore_spec(place: Place) -> dict[str, Any]:
    """How tensorstore finds what lies below a place.

    Raises
    ------
    InputError
        Its path is not UTF-8.
    """
    if isinstance(place, Path):
        path = _utf8(place)
        if path is None:
            raise _not_utf8(place, "path")
        # Each write goes to a file of its own name, and is renamed when it is whole. tensorstore's own
        # way to lock shares one name among writers, and goes on in what a killed one has left there.
        spec: dict[str, Any] = {"driver": "file", "path": f"{path}/"}
        return spec | {"file_io_locking": {"mode": "none"}}
    return _spec(place, _PATIENT)


def _spec(place: ObjectPath, retries: dict[str, Any]) -> dict[str, Any]:
    driver = _DRIVERS[place.scheme]
    path = f"{place.key}/" if place.key else ""
    spec: dict[str, Any] = {"driver": driver, "bucket": place.bucket, "path": path}
    spec[f"{driver}_request_retries"] = retries
    if driver != "s3":
        return spec
    environment = os.environ
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if endpoint:
        spec["endpoint"] = endpoint
        # Servers of one's own rarely mind; without it each one would be asked.
        region = region or "us-east-1"
        # By default tensorstore trusts nobody but Amazon with conditions; the lease needs them.
        spec["use_conditional_write"] = True
    if region:
        spec["aws_region"] = region
    if environment.get("AWS_ACCESS_KEY_ID"):
        # The default chain would look for files first, and complain on standard error.
        spec["aws_credentials"] = {"type": "environment"}
    return spec


def kvstore(place: Place) -> ts.KvStore:
    """What lies below a place, as tensorstore sees it.

    Raises
    ------
    ForkedError
        This process was forked after stores had been used.
    """
    used()
    return ts.KvStore.open(kvstore_spec(place)).result()


@functools.lru_cache(maxsize=64)
def _bucket(scheme: str, bucket: str, environment: tuple[str | None, ...]) -> ts.KvStore:
    return kvstore(ObjectPath(scheme, bucket, ""))


def _store(place: ObjectPath) -> ts.KvStore:
    """The whole bucket; the environment may change between calls (in tests, in notebooks)."""
    used()
    return _bucket(place.scheme, place.bucket, _environment())


def _environment() -> tuple[str | None, ...]:
    return tuple(os.environ.get(key) for key in _READ)


_answered: set[tuple[str, str, tuple[str | None, ...]]] = set()


def _probe(place: ObjectPath, argument: str) -> None:
    """Ask about one key, with little patience; a bucket that answered is not asked again."""
    asked = (place.scheme, place.bucket, _environment())
    if asked in _answered:
        return
    about = f"the bucket {place.bucket!r}"
    key = f"{place.key}/zarr.json".encode()
    used()
    try:
        store = ts.KvStore.open(_spec(ObjectPath(place.scheme, place.bucket, ""), _PROBE)).result()
        # A listing, for S3: a read of what is not there does not tell whether the bucket is. And a
        # read, for Google: tensorstore takes a refusal to list (its answer is JSON) for an empty list.
        store.list(ts.KvStore.KeyRange(key, key + b"\0")).result(timeout=_PROBE_SECONDS)
        store.read(key).result(timeout=_PROBE_SECONDS)
    except TimeoutError:
        raise StorageError(
            f"{argument} = {place}: no answer within {_PROBE_SECONDS:.0f} s; check the network and "
            f"the endpoint ({_ENDPOINT[place.scheme]})"
        ) from None
    except (ValueError, OSError) as error:
        text = plain(error)
        if "PERMISSION_DENIED" in text or "UNAUTHENTICATED" in text:
            raise InputError(
                argument,
                str(place),
                f"{about} refuses access ({text})",
                f"check the credentials ({_CREDENTIALS[place.scheme]}); they must allow listing, "
                "reading, writing and deleting",
            ) from None
        if "NOT_FOUND" in text:
            raise InputError(
                argument, str(place), f"{about} does not exist", "make it, or correct its name"
            ) from None
        raise StorageError(
            f"{argument} = {place}: the object store cannot be reached; check the network and the "
            f"endpoint ({_ENDPOINT[place.scheme]}) ({text})"
        ) from None
    _answered.add(asked)


def plain(error: Exception) -> str:
    """An error's text without the server's answer, which may quote what was sent."""
    return str(error).partition(" [http_response_body=")[0]


def _ask(doing: str, place: ObjectPath, future: Any) -> Any:
    """The result of a request.

    Raises
    ------
    StorageError
        It failed, many times over if that could have helped.
    """
    try:
        return future.result()
    except (ValueError, OSError) as error:
        raise StorageError(
            f"{doing} {place} failed; check the network, the bucket and the credentials, then run "
            f"again ({plain(error)})"
        ) from None


def _listed(place: ObjectPath) -> list[str]:
    """Keys below a place, relative to it."""
    prefix = f"{place.key}/".encode() if place.key else b""
    # "0" follows "/": this is the range of all keys with the prefix.
    within = ts.KvStore.KeyRange(prefix, prefix[:-1] + b"0" if prefix else b"")
    found = _ask("listing", place, _store(place).list(within, strip_prefix_length=len(prefix)))
    return [key.decode() for key in found]


# -- files and folders ----------------------------------------------------------------------------


def read_bytes(place: Place) -> bytes | None:
    """A whole file, or None.

    Raises
    ------
    OSError, StorageError
        It cannot be read; the former of files, the latter of objects, here and below.
    """
    if isinstance(place, Path):
        try:
            return place.read_bytes()
        except FileNotFoundError:
            return None
    return _value(place, _store(place).read(place.key))


def read_all(places: Sequence[Place]) -> list[bytes | None]:
    """Many small files, objects all at a time; raises as `read_bytes` does."""
    asked = [p if isinstance(p, Path) else (p, _store(p).read(p.key)) for p in places]
    return [read_bytes(p) if isinstance(p, Path) else _value(*p) for p in asked]


def _value(place: ObjectPath, future: Any) -> bytes | None:
    found = _ask("reading", place, future)
    return bytes(found.value) if found.state == "value" else None


def write_bytes(place: Place, data: bytes) -> None:
    """Write a small file, durably and so that readers see all of it or nothing.

    Folders are made on the way. Raises as `read_bytes` does.
    """
    if isinstance(place, ObjectPath):
        _ask(f"writing {len(data)} bytes to", place, _store(place).write(place.key, data))
        return
    temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
        _sync_folder(place.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_stamped(place: Place) -> tuple[bytes | None, bytes]:
    """A whole file, or None, and a stamp that no other content at any other time has.

    Raises as `read_bytes` does.
    """
    store, key = _conditional(place)
    found = _asked("reading", place, store.read(key))
    return bytes(found.value) if found.state == "value" else None, found.stamp.generation


def write_if(place: Place, data: bytes, stamp: bytes) -> bool:
    """Write as `write_bytes` does, if the file is still the one of the stamp; tells whether it was.

    A server may have written what it says it has not, if its first answer was lost: look again.
    """
    store, key = _conditional(place)
    doing = f"writing {len(data)} bytes to"
    with exclusive(place):
        written = _asked(doing, place, store.write(key, data, if_equal=stamp))
    return bool(written.generation)


def exclusive(place: Place) -> AbstractContextManager[None]:
    """Look at a file and replace it with nobody in between who does so as well; servers see to that.

    Raises as :func:`ddgm_dist.file_lock.locked` does.
    """
    return contextlib.nullcontext() if isinstance(place, ObjectPath) else locked(place.parent)


def _conditional(place: Place) -> tuple[ts.KvStore, str]:
    """Where a file can be replaced on a condition, and its key there."""
    if isinstance(place, Path):
        return kvstore(place.parent), place.name
    return _store(place), place.key


def _asked(doing: str, place: Place, future: Any) -> Any:
    """The result of a request about a file or an object."""
    if isinstance(place, ObjectPath):
        return _ask(doing, place, future)
    try:
        return future.result()
    except ValueError as error:  # tensorstore's word for errors of files
        raise OSError(plain(error)) from None


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def exists(place: Place) -> bool:
    """Whether there is a file or a folder."""
    if isinstance(place, Path):
        return place.exists()
    return is_zarr(place) or read_bytes(place) is not None or bool(_listed(place))


def is_zarr(place: Place) -> bool:
    """Whether a folder carries Zarr metadata (version 2 or 3)."""
    files = [place / name for name in ("zarr.json", ".zgroup", ".zarray")]
    return any(f.is_file() if isinstance(f, Path) else read_bytes(f) is not None for f in files)


def names(place: Place) -> list[str]:
    """Names of the files and folders in a folder, sorted; none if it is not there."""
    if isinstance(place, Path):
        return sorted(name for (name,) in _walk(str(place), 1))
    return sorted({key.partition("/")[0] for key in _listed(place)})


def files_below(place: Place, depth: int) -> list[tuple[str, ...]]:
    """Relative paths, as parts, of all that lies so many levels below a folder."""
    if isinstance(place, Path):
        return list(_walk(str(place), depth))
    parts = [tuple(key.split("/")) for key in _listed(place)]
    return [part for part in parts if len(part) == depth]


def _walk(folder: str, depth: int) -> Iterator[tuple[str, ...]]:
    """What lies so many levels below a folder, without a Path for each: there may be millions."""
    try:
        found = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with found as entries:
        for entry in entries:
            if depth == 1:
                yield (entry.name,)
            else:
                for parts in _walk(entry.path, depth - 1):
                    yield (entry.name, *parts)


def delete(place: Place) -> None:
    """Delete a file, if it is there."""
    if isinstance(place, Path):
        place.unlink(missing_ok=True)
    else:
        _ask("deleting", place, _store(place).write(place.key, None))


def delete_folder(place: Place, *, ignore_errors: bool = False) -> None:
    """Delete a folder and all in it, if it is there; or what can be deleted of it."""
    if isinstance(place, Path):
        if place.exists():
            shutil.rmtree(place, ignore_errors)
        return
    prefix = f"{place.key}/".encode()
    within = ts.KvStore.KeyRange(prefix, prefix[:-1] + b"0")
    with contextlib.suppress(*[StorageError] * ignore_errors):
        _ask("deleting what is in", place, _store(place).delete_range(within))
