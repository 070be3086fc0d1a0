"""Whether a cluster can be reached at an address, told in seconds: Ray itself would try for minutes."""

from __future__ import annotations

import os
import socket
import ssl

from ddgm_dist.errors import InputError

__all__ = ["IS_IT_THERE", "check_reachable"]

IS_IT_THERE = (
    "is `ray start` running, is the address that of its head (port 6379), and where it asks for a token "
    "are RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH set?"
)
_PATIENCE = 10.0  # seconds for a connection
_CERTIFICATES = "RAY_USE_TLS=1, RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY and RAY_TLS_CA_CERT"


def check_reachable(address: str) -> None:
    """Refuse an address where nothing listens, or where one side encrypts and the other does not.

    Parameters
    ----------
    address
        ``HOST:PORT`` or ``ray://HOST:PORT``; nothing is checked of others (``auto``).

    Raises
    ------
    InputError
        It cannot be reached, and why.
    """
    if address.startswith(("http://", "https://")):
        raise InputError(
            "address",
            address,
            "is the URL of a dashboard, where jobs are handed in",
            "use ddgm-dist submit, or give HOST:6379, the address of the cluster's head",
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), timeout=_PATIENCE) as connection:
            _check_encryption(address, host, connection)
    except OSError as error:
        raise InputError(
            "address", address, f"nothing answers there ({error})", IS_IT_THERE
        ) from error


def _check_encryption(address: str, host: str, connection: socket.socket) -> None:
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
