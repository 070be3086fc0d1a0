"""Jobs of a cluster that is reached by the URL of its dashboard (Ray Jobs API).

All requests are HTTP, so the versions here and there need not be the same for a request to work;
:func:`ddgm_dist.remote.submit.submit` compares them for the sake of the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import requests
from ray.job_submission import JobStatus, JobSubmissionClient

from ddgm_dist.errors import DdgmError, InputError
from ddgm_dist.ray_engine.dashboard import (
    DIRECTLY,
    LOOPBACK,
    as_told,
    checked_url,
    find_dashboard,
    proxy_for,
)

__all__ = ["JobServer", "Outcome"]

_PATIENCE = 10.0  # seconds for an answer
_LOST_FOR = 120.0  # seconds that the connection may be lost while a job is followed
_STOPPING = 60.0  # seconds for a job to end
_AUTHORIZATION, _BEHIND = "Authorization", "X-Ray-Authorization"

log = logging.getLogger("ddgm_dist")


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    status
        ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
    exit_status
        Of its process, as shells have it (128 + signal); 1 where it failed before it had one.
    message
        Ray's word on it.
    """

    status: str
    exit_status: int
    message: str


class JobServer:
    """The jobs of one cluster.

    Parameters
    ----------
    address
        URL of the dashboard: ``http://HOST:8265``, or ``https://`` where something before it
        ends TLS. None takes that of the environment
        (:func:`ddgm_dist.ray_engine.dashboard.find_dashboard`).
    headers
        More headers for each request, such as a gateway before the dashboard asks for.
    ca_file
        Certificates to trust instead of the machine's.

    Raises
    ------
    InputError
        The address is none of a dashboard; nothing answers there within seconds; it wants another
        token.
    """

    def __init__(
        self,
        address: str | None,
        *,
        headers: Mapping[str, str] | None = None,
        ca_file: Path | None = None,
    ) -> None:
        url, self._source = find_dashboard(address)
        self.address = checked_url(url, self._source)
        if ca_file is not None and not ca_file.is_file():
            raise InputError("ca_file", str(ca_file), "there is no such file")
        self._headers = _with_token(dict(headers or {}), self.address)
        self._verify: str | bool = True if ca_file is None else str(ca_file)
        answer = self._ask("/api/version")
        self.versions: dict[str, str] = {"ray": str(answer["ray_version"])}
        with contextlib.suppress(InputError, KeyError, TypeError):  # an older Ray does not tell
            data = self._ask("/api/v0/cluster_metadata")["data"]
            self.versions["python"] = str(data["pythonVersion"])
        with as_told():
            self._client = JobSubmissionClient(
                self.address, headers=dict(self._headers), verify=self._verify
            )

    def _ask(self, path: str) -> dict[str, Any]:
        """A small JSON answer, soon.

        Raises
        ------
        InputError
            There is none.
        """
        try:
            with as_told():
                answer = requests.get(
                    self.address + path,
                    headers=self._headers,
                    verify=self._verify,
                    timeout=_PATIENCE,
                    allow_redirects=False,
                )
        except requests.exceptions.SSLError as error:
            raise self._refuse(
                f"its certificate is not trusted ({_short(error)})",
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
                f"no dashboard answers there within {_PATIENCE:g} s ({_short(error)})",
                f"is the cluster up, and its dashboard's port (8265) forwarded to here? {DIRECTLY}",
            ) from None
        code = answer.status_code
        if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            shown = any(name in self._headers for name in (_AUTHORIZATION, _BEHIND))
            raise self._refuse(
                "it refuses the token that it was shown" if shown else "it asks for a token",
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
        """How to go without a proxy."""
        host = urlsplit(self.address).hostname
        return f"export no_proxy={host} to go there directly, or correct the variable"

    def _refuse(self, why: str, hint: str) -> InputError:
        name = proxy_for(self.address)
        if name is not None and "no_proxy" not in hint:
            hint = f"it was asked through the proxy that {name} names: {self._around()}; {hint}"
        return InputError(self._source, self.address, why, hint)

    def submit(self, job: str, entrypoint: str, folder: Path | None) -> None:
        """Start a job.

        Parameters
        ----------
        job
            Its name.
        entrypoint
            A shell's command.
        folder
            Sent along: where the job runs, and first on its ``PYTHONPATH``.

        Raises
        ------
        DdgmError
            The cluster does not take it.
        """
        environment: dict[str, Any] = {} if folder is None else {"working_dir": str(folder)}
        with self._telling("submitting"):
            self._client.submit_job(
                entrypoint=entrypoint, submission_id=job, runtime_env=environment
            )

    def follow(self, job: str, write: Callable[[str], None]) -> Outcome:
        """Pass on what a job prints, from its beginning, until it ends.

        A connection that is lost is taken up again, for two minutes; leaving this (Ctrl-C) leaves the
        job as it is.

        Raises
        ------
        InputError
            There is no such job.
        DdgmError
            The cluster is out of reach.
        """
        self._info(job)
        passed, lost = 0, None

        async def tail() -> None:
            nonlocal passed, lost
            seen = 0
            async for text in self._client.tail_job_logs(job):
                lost = None
                fresh = text[max(0, passed - seen) :]
                seen += len(text)
                passed = max(passed, seen)
                if fresh:
                    write(fresh)

        while True:
            error: Exception | None = None
            try:
                asyncio.run(tail())
                outcome = self.outcome(job)
                if outcome is not None:
                    # What a job prints last may come after the server has stopped to look.
                    with as_told():
                        rest = self._client.get_job_logs(job)[passed:]
                    if rest:
                        write(rest)
                    return outcome
                lost = None  # it answers, and has nothing to tell
            except (RuntimeError, OSError, aiohttp.ClientError, DdgmError) as problem:
                error = problem
            now = time.monotonic()
            lost = now if lost is None else lost
            if now - lost > _LOST_FOR:
                raise DdgmError(
                    f"{self.address}: the job's log is out of reach for {_LOST_FOR:g} s "
                    f"({'it ended' if error is None else _short(error)}); the job may go on"
                )
            time.sleep(1.0)

    def outcome(self, job: str) -> Outcome | None:
        """How a job ended; None while it has not.

        Raises
        ------
        InputError
            There is no such job.
        """
        info = self._info(job)
        if not info.status.is_terminal():
            return None
        code = info.driver_exit_code
        if info.status == JobStatus.SUCCEEDED:
            status = 0
        elif info.status == JobStatus.STOPPED:
            status = 143  # as after SIGTERM; Ray tells none
        else:
            status = 1 if not code else code if code > 0 else 128 - code
        return Outcome(info.status.value, status, info.message or "")

    def cancel(self, job: str) -> Outcome:
        """Stop a job, if it runs, and wait until it has ended.

        Raises
        ------
        InputError
            There is no such job.
        DdgmError
            It does not end.
        """
        self._info(job)
        with self._telling("stopping"):
            self._client.stop_job(job)
        end = time.monotonic() + _STOPPING
        while (outcome := self.outcome(job)) is None:
            if time.monotonic() > end:
                raise DdgmError(f"{job}: has not ended in {_STOPPING:g} s; cancel it again")
            time.sleep(0.2)
        return outcome

    def forget(self, job: str) -> None:
        """Strike a job that has ended off the list."""
        with self._telling("deleting"):
            self._client.delete_job(job)

    def _info(self, job: str) -> Any:
        try:
            with self._telling("asking for"):
                return self._client.get_job_info(job)
        except DdgmError as error:
            if "status code 404" in str(error):
                hint = f"`ray job list --address {self.address}` lists them"
                raise InputError("job", job, "the cluster knows no such job", hint) from None
            raise

    @contextlib.contextmanager
    def _telling(self, doing: str) -> Iterator[None]:
        """Errors of Ray's client, in one line."""
        try:
            with as_told():
                yield
        except (RuntimeError, ValueError, OSError) as error:
            raise DdgmError(f"{self.address}: {doing} the job failed: {_short(error)}") from error


def _with_token(headers: dict[str, str], address: str) -> dict[str, str]:
    """Headers with the token that the environment has; beside a gateway's own, by Ray's other name.

    The environment is read here, not by Ray, which reads it once, when it is imported.
    """
    given = os.environ.get("RAY_AUTH_TOKEN"), os.environ.get("RAY_AUTH_TOKEN_PATH")
    # As for Ray: a token that was named is meant; that of ~/.ray is shown where token mode is on.
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


def _short(error: Exception) -> str:
    """An error in one line; what the server answered is JSON, or text with a stack in it."""
    text = " ".join(str(error).split()) or type(error).__name__
    with contextlib.suppress(ValueError):
        text = str(json.loads(text))
    return text if len(text) <= 300 else f"{text[:140]} ... {text[-150:]}"
