"""Object stores: how they are reached, and what their errors mean.

Endpoint, region and credentials come from the environment alone, on every node that reads or writes.
Nothing of them is kept in a place, a store or a message.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import tensorstore as ts

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.forks import used
from ddgm_dist.paths.place import ObjectPath, Place, not_utf8_error, utf8_path

__all__ = [
    "CREDENTIALS",
    "DRIVERS",
    "bucket_store",
    "environment",
    "kvstore",
    "kvstore_spec",
    "list_keys",
    "probe_bucket",
    "strip_http_body",
    "wait_for",
]


DRIVERS = {"s3": "s3", "gs": "gcs"}


# Whoever asks for a store that cannot be reached is told in seconds; a run that goes on has patience.
_PROBE = {"max_retries": 3, "initial_delay": "200ms", "max_delay": "1s"}


_PATIENT = {"max_retries": 10, "initial_delay": "500ms", "max_delay": "8s"}


_PROBE_SECONDS = 10.0


CREDENTIALS = {
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


def kvstore_spec(place: Place) -> dict[str, Any]:
    """How tensorstore finds what lies below a place.

    Raises
    ------
    InputError
        Its path is not UTF-8.
    """
    if isinstance(place, Path):
        path = utf8_path(place)
        if path is None:
            raise not_utf8_error(place, "path")
        # Each write goes to a file of its own name, and is renamed when it is whole. tensorstore's own
        # way to lock shares one name among writers, and goes on in what a killed one has left there.
        spec: dict[str, Any] = {"driver": "file", "path": f"{path}/"}
        return spec | {"file_io_locking": {"mode": "none"}}
    return _spec(place, _PATIENT)


def _spec(place: ObjectPath, retries: dict[str, Any]) -> dict[str, Any]:
    driver = DRIVERS[place.scheme]
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


def bucket_store(place: ObjectPath) -> ts.KvStore:
    """The whole bucket; the environment may change between calls (in tests, in notebooks)."""
    used()
    return _bucket(place.scheme, place.bucket, environment())


def environment() -> tuple[str | None, ...]:
    return tuple(os.environ.get(key) for key in _READ)


_answered: set[tuple[str, str, tuple[str | None, ...]]] = set()


def probe_bucket(place: ObjectPath, argument: str) -> None:
    """Ask about one key, with little patience; a bucket that answered is not asked again."""
    asked = (place.scheme, place.bucket, environment())
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
        text = strip_http_body(error)
        if "PERMISSION_DENIED" in text or "UNAUTHENTICATED" in text:
            raise InputError(
                argument,
                str(place),
                f"{about} refuses access ({text})",
                f"check the credentials ({CREDENTIALS[place.scheme]}); they must allow listing, "
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


def strip_http_body(error: Exception) -> str:
    """An error's text without the server's answer, which may quote what was sent."""
    return str(error).partition(" [http_response_body=")[0]


def wait_for(doing: str, place: ObjectPath, future: Any) -> Any:
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
            f"again ({strip_http_body(error)})"
        ) from None


def list_keys(place: ObjectPath) -> list[str]:
    """Keys below a place, relative to it."""
    prefix = f"{place.key}/".encode() if place.key else b""
    # "0" follows "/": this is the range of all keys with the prefix.
    within = ts.KvStore.KeyRange(prefix, prefix[:-1] + b"0" if prefix else b"")
    found = wait_for(
        "listing", place, bucket_store(place).list(within, strip_prefix_length=len(prefix))
    )
    return [key.decode() for key in found]
