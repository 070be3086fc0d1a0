"""Object stores for zarr-python, which reads and writes metadata; tensorstore moves the bulk data.

zarr-python would use fsspec or obstore. This needs neither, and uses the same credentials and retries
as all other requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import tensorstore as ts
import zarr
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype

from ddgm_dist.errors import InputError
from ddgm_dist.paths.forks import used
from ddgm_dist.paths.object_store import keys_below, kvstore, probe_bucket, request_error
from ddgm_dist.paths.place import ObjectPath, Place

__all__ = ["ObjectZarr", "refuse_pickles", "zarr_store"]


def zarr_store(place: Place) -> str | ObjectZarr:
    """Argument by which zarr-python opens a place; a process asks once whether the bucket answers.

    Raises
    ------
    InputError, StorageError
        As of `probe_bucket`.
    """
    if isinstance(place, Path):
        return str(place)
    probe_bucket(place, "store")  # a worker got the place from another process
    return ObjectZarr(place)


def refuse_pickles(array: zarr.Array[Any], argument: str, name: str) -> None:
    """Refuse an array of Zarr version 2 whose chunks are pickles: opening one may run any program.

    Raises
    ------
    InputError
        The array is one.
    """
    metadata = array.metadata
    found = [getattr(metadata, "compressor", None), *(getattr(metadata, "filters", None) or ())]
    if "pickle" in {str(getattr(codec, "codec_id", "")) for codec in found}:
        raise InputError(
            argument, name, "is stored as pickles, which run whatever they say", "convert it"
        )


class ObjectZarr(Store):
    """The keys below a place in an object store.

    Every method that asks the server raises `StorageError` where it cannot do what is asked.
    """

    supports_writes = supports_deletes = supports_listing = True

    def __init__(self, place: ObjectPath, *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self.place, self._opened = place, kvstore(place)

    @property
    def _store(self) -> ts.KvStore:
        used()  # it may have been opened before a fork
        return self._opened

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _reopen, (self.place, self.read_only)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, ObjectZarr) and other.place == self.place
        return same and other.read_only == self.read_only  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((self.place, self.read_only))

    def __str__(self) -> str:
        return str(self.place)

    def with_read_only(self, read_only: bool = False) -> ObjectZarr:
        """The same store, for reading only or not."""
        return ObjectZarr(self.place, read_only=read_only)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of a key, or a part of it; None if there is none."""
        found = await self._ask("reading", self._store.read(key, byte_range=_slice(byte_range)))
        return prototype.buffer.from_bytes(found.value) if found.state == "value" else None

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Parts of values, one after the other."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Return whether a key has a value."""
        found = await self._ask("reading", self._store.read(key, byte_range=slice(0, 0)))
        return bool(found.state == "value")

    async def set(self, key: str, value: Buffer) -> None:
        """Write a value, whole or not at all."""
        self._check_writable()
        await self._ask("writing to", self._store.write(key, value.to_bytes()))

    async def delete(self, key: str) -> None:
        """Delete a value, if there is one."""
        self._check_writable()
        await self._ask("deleting in", self._store.write(key, None))

    async def delete_dir(self, prefix: str) -> None:
        """Delete all values below a prefix."""
        self._check_writable()
        await self._ask("deleting in", self._store.delete_range(keys_below(prefix)))

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        for key in await self._listed(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """All keys that begin with a prefix."""
        for key in await self._listed(prefix.rpartition("/")[0]):
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """First parts of the keys below a prefix."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        for name in sorted({key[len(start) :].split("/")[0] for key in await self._listed(prefix)}):
            yield name

    async def _listed(self, folder: str) -> Iterable[str]:
        keys = await self._ask("listing", self._store.list(keys_below(folder)))
        return sorted(key.decode() for key in keys)

    async def _ask(self, doing: str, future: Any) -> Any:
        try:
            return await future
        except (ValueError, OSError) as error:
            raise request_error(doing, self.place, error) from None


def _reopen(place: ObjectPath, read_only: bool) -> ObjectZarr:
    return ObjectZarr(place, read_only=read_only)


def _slice(part: ByteRequest | None) -> slice | None:
    match part:
        case None:
            return None
        case RangeByteRequest():
            return slice(part.start, part.end)
        case OffsetByteRequest():
            return slice(part.offset, None)
        case SuffixByteRequest():
            return slice(-part.suffix, None)
