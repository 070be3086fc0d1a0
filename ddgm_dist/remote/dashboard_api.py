"""Requests to the dashboard of a cluster: its URL, the token, and what is wrong with the answer."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from ddgm_dist.errors import InputError
from ddgm_dist.ray_engine.dashboard import (
    DIRECTLY,
    LOOPBACK,
    checked_url,
    environment_for_requests,
    find_dashboard,
    proxy_for,
)

__all__ = ["DashboardApi", "one_line"]

_ANSWER_SECONDS = 10.0  # for an answer
_AUTHORIZATION, _BEHIND = "Authorization", "X-Ray-Authorization"

log = logging.getLogger("ddgm_dist")


class DashboardApi:
    """The HTTP interface of one dashboard.

    Parameters
    ----------
    address, headers, ca_file
        As for :class:`ddgm_dist.remote.job_server.JobServer`.

    Attributes
    ----------
    address
        URL without a slash at its end.
    headers
        Headers of each request, the token included.
    verify
        Whether certificates are checked, or the file of those to trust.
    """

    def __init__(
        self, address: str | None, headers: Mapping[str, str] | None, ca_file: Path | None
    ) -> None:
        url, self._source = find_dashboard(address)
        self.address = checked_url(url, self._source)
        if ca_file is not None and not ca_file.is_file():
            raise InputError("ca_file", str(ca_file), "there is no such file")
        self.headers = _with_token(dict(headers or {}), self.address)
        self.verify: str | bool = True if ca_file is None else str(ca_file)

    def ask(self, path: str) -> dict[str, Any]:
        """The JSON object at a path of the dashboard.

        Raises
        ------
        InputError
            There is no answer within seconds, or not such a one; the message says why.
        """
        try:
            with environment_for_requests():
                answer = requests.get(
                    self.address + path,
                    headers=self.headers,
                    verify=self.verify,
                    timeout=_ANSWER_SECONDS,
                    allow_redirects=False,
                )
        except requests.exceptions.SSLError as error:
            raise self._refuse(
                f"its certificate is not trusted ({one_line(error)})",
                "give the authority's certificate with --ca-file, or write http:// if there is no TLS",
            ) from None
        except (requests.exceptions.ProxyError, requests.exceptions.InvalidProxyURL):
            # The proxy's own address may have a password in it: it is not shown.
            raise self._refuse(
                f"the proxy that {proxy_for(self.address)} names does not lead there",
                self._around(),
            ) from None
        except (requests.exceptions.RequestException, OSError, UnicodeError) as error:
            raise self._refuse(
                f"no dashboard answers there within {_ANSWER_SECONDS:g} s ({one_line(error)})",
                f"is the cluster up, and its dashboard's port (8265) forwarded to here? {DIRECTLY}",
            ) from None
        code = answer.status_code
        if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            sent = any(name in self.headers for name in (_AUTHORIZATION, _BEHIND))
            raise self._refuse(
                "it refuses the token that was sent" if sent else "it asks for a token",
                "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file that holds its token",
            )
        if 300 <= code < 400:
            raise self._refuse(
                f"it sends elsewhere, to {answer.headers.get('Location', 'nowhere')!r}",
                "a log-in before the dashboard wants a --header, or a forwarded port",
            )
        try:
            found = answer.json()
        except ValueError:
            found = None
        if code != HTTPStatus.OK or not isinstance(found, dict):
            raise self._refuse(
                f"what answers there ({path}: HTTP {code}) is no dashboard of Ray",
                f"the dashboard's port is 8265 by default; {DIRECTLY}",
            )
        return found

    def _around(self) -> str:
        """Advice on bypassing a proxy."""
        host = urlsplit(self.address).hostname
        return f"export no_proxy={host} to go there directly, or correct the variable"

    def _refuse(self, why: str, hint: str) -> InputError:
        name = proxy_for(self.address)
        if name is not None and "no_proxy" not in hint:
            hint = f"it was asked through the proxy that {name} names: {self._around()}; {hint}"
        return InputError(self._source, self.address, why, hint)


def _with_token(headers: dict[str, str], address: str) -> dict[str, str]:
    """Headers with the token of the environment; beside a gateway's own, by Ray's other name.

    The environment is read here, not by Ray, which reads it once, when it is imported.
    """
    given = os.environ.get("RAY_AUTH_TOKEN"), os.environ.get("RAY_AUTH_TOKEN_PATH")
    # As in Ray: a token that is set is used; that of ~/.ray only where token mode is on.
    mode = os.environ.get("RAY_AUTH_MODE", "token" if any(given) else "disabled")
    if mode.lower() != "token":
        return headers
    token, path = given
    if not token:
        file = Path(path) if path else Path.home() / ".ray" / "auth_token"
        try:
            token = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InputError(
                "RAY_AUTH_TOKEN_PATH",
                str(file),
                f"the token cannot be read ({error.strerror})",
                "RAY_AUTH_MODE is token: name the file that holds the cluster's token",
            ) from None
    taken = any(name.lower() == _AUTHORIZATION.lower() for name in headers)
    headers[_BEHIND if taken else _AUTHORIZATION] = f"Bearer {token}"
    parts = urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        log.warning(
            "the token goes to %s unencrypted; forward the port (ssh -L, kubectl port-forward) or "
            "put TLS before the dashboard",
            parts.hostname,
        )
    return headers


def one_line(error: Exception) -> str:
    """An error in one line; what the server answered is JSON, or text with a stack in it."""
    text = " ".join(str(error).split()) or type(error).__name__
    with contextlib.suppress(ValueError):
        text = str(json.loads(text))
    return text if len(text) <= 300 else f"{text[:140]} ... {text[-150:]}"
