"""Jobs of a cluster that is reached by the URL of its dashboard (Ray Jobs API).

All requests are HTTP, so they work between different versions of Ray. The run needs equal ones:
:func:`ddgm_dist.remote.submit.submit` compares them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from ray.job_submission import JobStatus, JobSubmissionClient

from ddgm_dist.errors import DdgmError, InputError
from ddgm_dist.ray_engine.dashboard import environment_for_requests
from ddgm_dist.remote.dashboard_api import DashboardApi, one_line

__all__ = ["JobServer", "Outcome"]

_LOST_FOR = 120.0  # seconds that the connection may be lost while a job is followed
_STOPPING = 60.0  # seconds for a job to end


@dataclass(frozen=True)
class Outcome:
    """The end of a job.

    Attributes
    ----------
    status
        ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
    exit_status
        Exit status of its process, as shells have it (128 + signal); 1 where it never started.
    message
        Ray's message.
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
        The address is not that of a dashboard, nothing answers there, or it wants another token.
    """

    def __init__(
        self,
        address: str | None,
        *,
        headers: Mapping[str, str] | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self._api = DashboardApi(address, headers, ca_file)
        self.address = self._api.address
        self.versions: dict[str, str] = {"ray": str(self._api.ask("/api/version")["ray_version"])}
        with contextlib.suppress(InputError, KeyError, TypeError):  # an older Ray does not know it
            data = self._api.ask("/api/v0/cluster_metadata")["data"]
            self.versions["python"] = str(data["pythonVersion"])
        with environment_for_requests():
            self._client = JobSubmissionClient(
                self.address, headers=dict(self._api.headers), verify=self._api.verify
            )

    def submit(self, job: str, entrypoint: str, folder: Path | None) -> None:
        """Start a job.

        Parameters
        ----------
        job
            Name of the job.
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
        with self._errors_in_one_line("submitting"):
            self._client.submit_job(
                entrypoint=entrypoint, submission_id=job, runtime_env=environment
            )

    def follow(self, job: str, write: Callable[[str], None]) -> Outcome:
        """Write what a job prints, from its beginning, until it ends.

        A lost connection is retried for two minutes. An interruption (Ctrl-C) leaves the job running.

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
                    # The last lines may come after the server has stopped reading.
                    with environment_for_requests():
                        rest = self._client.get_job_logs(job)[passed:]
                    if rest:
                        write(rest)
                    return outcome
                lost = None  # it answers, and there is no new text
            except (RuntimeError, OSError, aiohttp.ClientError, DdgmError) as problem:
                error = problem
            now = time.monotonic()
            lost = now if lost is None else lost
            if now - lost > _LOST_FOR:
                raise DdgmError(
                    f"{self.address}: the job's log is out of reach for {_LOST_FOR:g} s "
                    f"({'it ended' if error is None else one_line(error)}); the job may continue"
                )
            time.sleep(1.0)

    def outcome(self, job: str) -> Outcome | None:
        """Return the outcome of a job; None while it has not ended.

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
            status = 143  # as after SIGTERM; Ray gives no status
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
        with self._errors_in_one_line("stopping"):
            self._client.stop_job(job)
        end = time.monotonic() + _STOPPING
        while (outcome := self.outcome(job)) is None:
            if time.monotonic() > end:
                raise DdgmError(f"{job}: has not ended in {_STOPPING:g} s; cancel it again")
            time.sleep(0.2)
        return outcome

    def forget(self, job: str) -> None:
        """Delete a job that has ended from the list."""
        with self._errors_in_one_line("deleting"):
            self._client.delete_job(job)

    def _info(self, job: str) -> Any:
        try:
            with self._errors_in_one_line("asking for"):
                return self._client.get_job_info(job)
        except DdgmError as error:
            if "status code 404" in str(error):
                hint = f"`ray job list --address {self.address}` lists them"
                raise InputError("job", job, "the cluster knows no such job", hint) from None
            raise

    @contextlib.contextmanager
    def _errors_in_one_line(self, doing: str) -> Iterator[None]:
        """Errors of Ray's client, in one line."""
        try:
            with environment_for_requests():
                yield
        except (RuntimeError, ValueError, OSError) as error:
            raise DdgmError(f"{self.address}: {doing} the job failed: {one_line(error)}") from error
