"""The URL of a cluster's dashboard, and the environment in which requests reach it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies, select_proxy

from ddgm_dist.errors import InputError
from ddgm_dist.ray_engine.address import no_spaces

__all__ = [
    "DIRECTLY",
    "LOOPBACK",
    "checked_url",
    "environment_for_requests",
    "find_dashboard",
    "proxy_for",
]

DIRECTLY = "for a direct connection there is `ddgm-dist reconstruct --address HOST:6379`"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_DEFAULT = "http://127.0.0.1:8265"
_OURS, _RAYS = "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"
# Ray's client prefers these to the address that it is given.
_OVERRIDES = (_RAYS, _OURS)
_NETRC = "NETRC"
_NO_PROXY = ("no_proxy", "NO_PROXY")


def find_dashboard(given: str | None) -> tuple[str, str]:
    """The URL of a dashboard, and its source: ``address``, or an environment variable.

    Parameters
    ----------
    given
        The option or argument. None takes ``RAY_API_SERVER_ADDRESS``, then ``RAY_ADDRESS`` if it is a
        URL (else it is the head's, for ``reconstruct``), then port 8265 of this machine.
    """
    if given is not None:
        return given, "address"
    if url := os.environ.get(_OURS):
        return url, _OURS
    if (url := os.environ.get(_RAYS, "")).startswith(("http://", "https://")):
        return url, _RAYS
    return _DEFAULT, "address"


def checked_url(address: str, source: str) -> str:
    """The URL without a slash at its end.

    Parameters
    ----------
    address, source
        As `find_dashboard` returns them.

    Raises
    ------
    InputError
        It is not the URL of a dashboard, and why; it has credentials in it.
    """
    no_spaces(address, source)
    example = f"write for example http://HOST:8265; {DIRECTLY}"
    try:
        parts = urlsplit(address)
    except ValueError:
        raise InputError(
            source, address, "has a bracket without the other", "write http://[::1]:8265"
        ) from None
    if parts.scheme not in ("http", "https"):
        raise InputError(source, address, "is not the URL of a dashboard", example)
    if parts.username or parts.password:
        shown = f"{parts.scheme}://...@{parts.hostname}"
        raise InputError(
            source,
            shown,
            "has credentials in it, which would end up in logs",
            "use RAY_AUTH_TOKEN_PATH, or RAY_JOB_HEADERS for a gateway's",
        )
    if parts.netloc.count(":") > 1 and not parts.netloc.startswith("["):
        raise InputError(
            source,
            address,
            "has several colons and no brackets, so its port is ambiguous",
            "put an IPv6 host in brackets: http://[::1]:8265",
        )
    if not parts.hostname:
        raise InputError(source, address, "is not the URL of a dashboard: it has no host", example)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise InputError(source, address, "its port is not within 1..65535", example)
    return address.rstrip("/")


@contextlib.contextmanager
def environment_for_requests() -> Iterator[None]:
    """An environment in which Ray's client uses our address and our token.

    Otherwise ``RAY_ADDRESS`` replaces the address, and a password of ``~/.netrc`` the token. Loopback
    is never reached through a proxy, whose loopback is another.
    """
    names = (*_OVERRIDES, _NETRC, *_NO_PROXY)
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    direct = [kept[name] for name in _NO_PROXY if kept.get(name)][:1]  # the first counts
    os.environ[_NETRC] = os.devnull
    os.environ["no_proxy"] = ",".join([*direct, *LOOPBACK])
    try:
        yield
    finally:
        del os.environ[_NETRC], os.environ["no_proxy"]
        os.environ.update(kept)


def proxy_for(address: str) -> str | None:
    """The variable that sends requests to an address through a proxy; None where none does."""
    with environment_for_requests():
        if not select_proxy(address, get_environ_proxies(address)):
            return None
    scheme = urlsplit(address).scheme
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), f"{scheme}_proxy")
