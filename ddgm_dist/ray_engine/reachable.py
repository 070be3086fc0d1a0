"""Check within seconds that a cluster can be reached, or Ray started here, before Ray is imported.

Ray itself would try for minutes to reach an address.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys

from ddgm_dist.errors import InputError
from ddgm_dist.ray_engine.address import Address, endpoint, find_address
from ddgm_dist.ray_engine.folder import check_folder
from ddgm_dist.ray_engine.private_api import host_of

__all__ = ["IS_IT_THERE", "check_ray", "check_reachable", "is_connected", "starts_here"]

IS_IT_THERE = (
    "is `ray start` running, is the address that of its head (port 6379), and where it asks for a token "
    "are RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH set?"
)
_PATIENCE = 10.0  # seconds for a connection
_SILENCE = 30.0  # seconds for the first word of a head, which may be busy
# What a client of HTTP/2, and so of gRPC, begins with; servers answer with a frame of the same kind.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
_SETTINGS = 4
_CERTIFICATES = "RAY_USE_TLS=1, RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY and RAY_TLS_CA_CERT"


def is_connected() -> bool:
    """Return whether this process is connected to Ray. Ray is not imported for the answer."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def starts_here(address: str | None) -> bool:
    """Return whether :func:`ddgm_dist.ray_engine.cluster.connected` would start Ray on this machine.

    Raises
    ------
    InputError
        The address is empty.
    """
    return not is_connected() and find_address(address) is None


def check_ray(address: str | None) -> Address | None:
    """Refuse an address that cannot be reached, or a folder in which Ray could not start.

    Parameters
    ----------
    address
        Address of a cluster, ``auto``, ``local`` or None.

    Returns
    -------
    Address
        The cluster to join; None where Ray is connected already, or is to be started here.

    Raises
    ------
    InputError
        The message names the argument, the variable or the file that is wrong.
    """
    there = is_connected()
    cluster = None if there and address is None else find_address(address)
    if cluster is not None and cluster.looked_at is not None:
        check_reachable(cluster.looked_at, cluster.source, cluster.hint)
    if cluster is None and not there:
        check_folder()
    return cluster


def check_reachable(address: str, source: str = "address", hint: str = "") -> None:
    """Refuse an address where nothing listens, or where one side encrypts and the other does not.

    Parameters
    ----------
    address
        ``HOST:PORT`` or ``ray://HOST:PORT``; an IPv6 host stands in brackets.
    source
        Origin of the address, for messages: an argument, an environment variable, a file.
    hint
        Further advice if the user did not type the address.

    Raises
    ------
    InputError
        It is no address, or it cannot be reached; the message says why.
    """
    try:
        _check(address)
    except InputError as error:
        if error.argument != "address":  # the certificate, not the address
            raise
        hints = "; ".join(filter(None, [hint, error.hint]))
        raise InputError(source, address, error.why, hints) from error.__cause__


def _check(address: str) -> None:
    given, port = endpoint(address)
    host = given if address.startswith("ray://") else host_of(given)
    there = "there" if host == given else f"at {host}, where Ray looks instead of {given}"
    try:
        with socket.create_connection((host, port), timeout=_PATIENCE) as connection:
            encrypted = _check_encryption(address, host, connection)
        if not encrypted:
            _check_language(address, host, port)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name that can be looked up
        raise InputError(
            "address", address, f"nothing answers {there} ({error})", IS_IT_THERE
        ) from error


def _check_language(address: str, host: str, port: int) -> None:
    """Refuse what speaks no gRPC: a dashboard, or whatever has got the port of a head that ended."""
    with socket.create_connection((host, port), timeout=_PATIENCE) as connection:
        connection.settimeout(_SILENCE)
        answer = b""
        try:
            connection.sendall(_GREETING)
            while len(answer) < 9 and (more := connection.recv(9)):
                answer += more
        except TimeoutError:
            raise InputError(
                "address",
                address,
                f"it takes connections and says nothing for {_SILENCE:g} s, unlike a head of Ray",
                IS_IT_THERE,
            ) from None
        except OSError:
            pass  # it broke off
    if len(answer) < 9 or answer[3] != _SETTINGS:
        raise InputError(
            "address",
            address,
            "what answers there is no head of Ray: it speaks no gRPC",
            "give the head's port, 6379 by default; 8265, the dashboard's, is for ddgm-dist submit",
        )


def _check_encryption(address: str, host: str, connection: socket.socket) -> bool:
    ours = os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")
    try:
        # A greeting, whatever the answer: servers without TLS break it off.
        with _context(ours).wrap_socket(connection, server_hostname=host):
            theirs = True
    except ssl.SSLCertVerificationError as error:
        raise InputError(
            "address",
            address,
            f"its certificate is not accepted here ({error.verify_message})",
            "RAY_TLS_CA_CERT is to be its authority's, and the certificate to name this address",
        ) from error
    except ssl.SSLError as error:
        # An alert is an answer: it wants a certificate, for example.
        theirs = "ALERT" in (error.reason or "")
    except OSError:
        theirs = False
    if theirs and not ours:
        raise InputError(
            "address",
            address,
            "its connections are encrypted, and there is no certificate here",
            f"set {_CERTIFICATES}",
        )
    if ours and not theirs:
        raise InputError(
            "address",
            address,
            "RAY_USE_TLS is set here, and it does not encrypt",
            "unset it, or set the same for `ray start`",
        )
    return theirs


def _context(ours: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if not ours:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # nothing is said there: it is only whether it encrypts
        return context
    names = ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY")
    authority, certificate, key = (os.environ.get(name, "") for name in names)
    try:
        context.load_verify_locations(authority)
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            "RAY_TLS_SERVER_CERT",
            certificate,
            f"it, its key ({key}) or the authority's ({authority}) cannot be used ({error})",
            f"with TLS set {_CERTIFICATES}",
        ) from error
    return context
