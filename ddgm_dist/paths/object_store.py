"""Access to object stores, and the meaning of their errors.

Endpoint, region and credentials come from the environment alone, on every node that reads or writes.
They are never kept in a place, a store or a message.
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
    "keys_below",
    "kvstore",
    "kvstore_spec",
    "list_keys",
    "probe_bucket",
    "request_error",
    "strip_http_body",
    "wait_for",
]


DRIVERS = {"s3": "s3", "gs": "gcs"}
# The first request fails within seconds if the store cannot be reached; later ones are retried longer.
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
    """Tensorstore's specification of the key-value store below a place.

    Raises
    ------
    InputError
        The path is not UTF-8.
    """
    if isinstance(place, Path):
        path = utf8_path(place)
        if path is None:
            raise not_utf8_error(place, "path")
        # Each write goes to a temporary file of a unique name. With tensorstore's locks, writers share
        # one name, and a write would continue in the file of a killed writer.
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
        # Most servers ignore the region; without one tensorstore would ask for it.
        region = region or "us-east-1"
        # By default tensorstore sends conditions to Amazon only; the lease needs them.
        spec["use_conditional_write"] = True
    if region:
        spec["aws_region"] = region
    if environment.get("AWS_ACCESS_KEY_ID"):
        # The default chain would look for files first, and complain on standard error.
        spec["aws_credentials"] = {"type": "environment"}
    return spec


def kvstore(place: Place) -> ts.KvStore:
    """The key-value store below a place, opened by tensorstore.

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
    """Ask for one key, with few retries; a bucket that has answered is not asked again.

    Raises
    ------
    InputError
        The bucket does not exist, or refuses the credentials.
    StorageError
        It does not answer.
    """
    asked = (place.scheme, place.bucket, environment())
    if asked in _answered:
        return
    about = f"the bucket {place.bucket!r}"
    key = f"{place.key}/zarr.json".encode()
    used()
    try:
        store = ts.KvStore.open(_spec(ObjectPath(place.scheme, place.bucket, ""), _PROBE)).result()
        # S3 needs a listing: reading a missing key does not show whether the bucket exists. Google needs
        # a read: tensorstore takes a refusal to list (its answer is JSON) for an empty list.
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
        It failed, after retries where these could help.
    """
    try:
        return future.result()
    except (ValueError, OSError) as error:
        raise request_error(doing, place, error) from None


def request_error(doing: str, place: ObjectPath, error: Exception) -> StorageError:
    """The error of a request that failed, with advice."""
    return StorageError(
        f"{doing} {place} failed; check the network, the bucket and the credentials, then run again "
        f"({strip_http_body(error)})"
    )


def keys_below(folder: str) -> ts.KvStore.KeyRange:
    """The keys below a folder; all, if it has no name."""
    prefix = folder.rstrip("/").encode()
    # "0" follows "/".
    return ts.KvStore.KeyRange(prefix + b"/", prefix + b"0") if prefix else ts.KvStore.KeyRange()


def list_keys(place: ObjectPath) -> list[str]:
    """Keys below a place, relative to it."""
    within = keys_below(place.key)
    request = bucket_store(place).list(within, strip_prefix_length=len(within.inclusive_min))
    return [key.decode() for key in wait_for("listing", place, request)]
