"""The address of a cluster: its source, and its syntax."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ddgm_dist.errors import InputError
from ddgm_dist.ray_engine.private_api import found_automatically

__all__ = ["Address", "endpoint", "find_address", "no_spaces"]

_VARIABLE = "RAY_ADDRESS"
_WRITE = "write HOST:6379, the address of the cluster's head"


@dataclass(frozen=True)
class Address:
    """An address that a run is to connect to.

    Attributes
    ----------
    given
        What Ray is given: ``HOST:PORT``, ``ray://HOST:PORT`` or ``auto``.
    looked_at
        The same without ``auto``: the cluster that Ray would find. None where it would find none.
    source
        Origin: ``address``, the variable ``RAY_ADDRESS``, or the file that ``auto`` reads.
    hint
        Advice if it is wrong; empty for an address that the user has typed.
    """

    given: str
    looked_at: str | None
    source: str
    hint: str = ""


def find_address(given: str | None) -> Address | None:
    """The cluster that is meant, or None where one is to be started on this machine.

    Ray prefers ``RAY_ADDRESS`` to ``auto``. A job of a cluster finds its address there, and must not
    start a cluster inside it. So the variable also counts if no address was given.

    Parameters
    ----------
    given
        The option or argument: an address, ``auto``, ``local``, or None.

    Raises
    ------
    InputError
        The address is empty.
    """
    if given is not None and not given.strip():
        raise InputError("address", given, "is empty", f"{_WRITE}, or leave it out")
    source, address, hint = "address", given, ""
    set_there = os.environ.get(_VARIABLE, "")
    if address in (None, "auto") and set_there:
        source, address = _VARIABLE, set_there
        hint = f"{_VARIABLE} comes from the environment: correct it, or unset it"
    if address is None or address == "local":
        return None
    if address != "auto":
        return Address(address, address, source, hint)
    found, file = found_automatically()
    if file is None:
        hint = "`auto` found it among the processes of this machine: give the address"
        return Address(address, found, source, hint)
    left = f"`auto` reads {file}, which a cluster that has ended leaves behind: give the address"
    return Address(address, found, file, left)


def endpoint(address: str, source: str = "address") -> tuple[str, int]:
    """Host and port of an address.

    Parameters
    ----------
    address
        ``HOST:PORT`` or ``ray://HOST:PORT``; an IPv6 host stands in brackets.
    source
        Origin of the address, for messages.

    Raises
    ------
    InputError
        It is no such address; the message says why.
    """
    no_spaces(address, source)
    if address.startswith(("http://", "https://")):
        raise InputError(
            source,
            address,
            "is the URL of a dashboard, where jobs are handed in",
            "use ddgm-dist submit, or give HOST:6379, the address of the cluster's head",
        )
    rest = address.removeprefix("ray://")
    if "://" in rest:
        raise InputError(source, address, "is a URL of an unknown kind", _WRITE)
    host, colon, port = rest.rpartition(":")
    if rest.count(":") > 1 and not re.fullmatch(r"\[[^\[\]]+\](:[^:]*)?", rest):
        raise InputError(
            source,
            address,
            "has several colons and no brackets, so its port is ambiguous",
            "put an IPv6 host in brackets: [::1]:6379",
        )
    if not colon or rest.endswith("]"):
        raise InputError(source, address, "has no port", _WRITE)
    if not host:
        raise InputError(source, address, "has no host", _WRITE)
    if not re.fullmatch(r"[0-9]{1,9}", port) or not 1 <= int(port) <= 65535:
        raise InputError(source, address, f"its port {port!r} is not within 1..65535", _WRITE)
    return host.strip("[]"), int(port)


def no_spaces(address: str, source: str) -> None:
    """Refuse an address with white space in it, which copying often adds.

    Raises
    ------
    InputError
        There is white space.
    """
    if re.search(r"\s", address) or not address.isprintable():
        raise InputError(source, repr(address), "has white space in it", "take it out")
