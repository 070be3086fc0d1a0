"""Connecting to a cluster, or starting Ray on this machine; the nodes that are there."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from typing import Any

import ray

from ddgm_dist.errors import DdgmError, InputError
from ddgm_dist.ray_engine.address import Address
from ddgm_dist.ray_engine.folder import start_errors_in_one_line
from ddgm_dist.ray_engine.private_api import (
    has_token,
    refresh_settings,
    waiting_for_raylet,
)
from ddgm_dist.ray_engine.reachable import IS_IT_THERE, check_ray, is_connected

__all__ = ["alive", "connected", "nodes"]

_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
# A machine that is busy takes its time to start Ray's processes. Seconds for the raylet to register,
# and Ray's own settings of the same kind.
_START_SECONDS, _TRIES = 120, 3
_START_SETTINGS = {
    "RAY_gcs_server_request_timeout_seconds": str(_START_SECONDS),
    "RAY_gcs_rpc_server_connect_timeout_s": str(_START_SECONDS),
    "RAY_worker_register_timeout_seconds": str(_START_SECONDS),
}

log = logging.getLogger("ddgm_dist")


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to Ray for the time of a run, leaving one that exists as it is.

    Parameters
    ----------
    address
        Address of a cluster, ``auto``, or ``local``. None uses the connection that there is, else
        the cluster that ``RAY_ADDRESS`` names, else starts Ray on this machine.

    Raises
    ------
    InputError
        Nothing answers at the address, or what answers is another version; or the folder where Ray
        would keep its files cannot be used. The message names where the address, or the folder, is from.
    DdgmError
        Ray does not start on this machine.
    """
    cluster = check_ray(address)
    if is_connected():
        yield
        return
    before = dict(os.environ)
    try:
        with _handler_kept():
            if cluster is None:
                _start()
            else:
                _join(cluster)
        yield
    finally:
        ray.shutdown()
        for key in set(os.environ) - set(before):
            del os.environ[key]
        os.environ.update(before)
        refresh_settings()


@contextlib.contextmanager
def _handler_kept() -> Iterator[None]:
    """Keep the handler of SIGTERM, which ray.init replaces by its own: that exits with status 15."""
    handler, received = signal.getsignal(signal.SIGTERM), False
    try:
        yield
    except SystemExit as error:
        received = error.code == signal.SIGTERM
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
            if received and callable(handler):
                handler(signal.SIGTERM, None)


def _start() -> None:
    """Start Ray on this machine, again where that fails, as it may while much else runs."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for name, value in _START_SETTINGS.items():
        os.environ.setdefault(name, value)
    _authenticate(own=True)
    for _ in range(_TRIES - 1):
        try:
            return _start_once()
        except InputError:
            raise
        except DdgmError as error:
            log.warning("%s; trying again", error)
            ray.shutdown()
    return _start_once()


def _start_once() -> None:
    with start_errors_in_one_line(), waiting_for_raylet(_START_SECONDS):
        # Not None: Ray would join whatever cluster was started on this machine last.
        ray.init(
            address="local",
            include_dashboard=False,
            num_cpus=os.cpu_count(),
            configure_logging=False,
            log_to_driver=False,
        )


def _join(cluster: Address) -> None:
    source, value = cluster.source, cluster.looked_at or cluster.given
    _authenticate(own=False)
    try:
        ray.init(address=cluster.given, configure_logging=False, log_to_driver=False)
    except ray.exceptions.AuthenticationError as error:
        raise InputError(
            source,
            value,
            f"{_MODE} is token here, and there is no token",
            f"set {_TOKEN_PATH} to the file that holds the cluster's token",
        ) from error
    except (ConnectionError, ray.exceptions.RayError) as error:
        # Ray does not say that a token was refused, except in what it prints meanwhile.
        why = f"no Ray cluster answers there, or none that takes our token ({_first_line(error)})"
        raise InputError(source, value, why, IS_IT_THERE) from error
    except (RuntimeError, ValueError) as error:
        raise InputError(source, value, _first_line(error)) from error
    except SystemExit as error:
        if error.code == signal.SIGTERM:
            raise
        # Ray exits when it gives up after minutes.
        raise InputError(source, value, "Ray gave up connecting", IS_IT_THERE) from error


def _authenticate(*, own: bool) -> None:
    """Require a token of a cluster that we start; send that of the environment to one that we join.

    Left alone, Ray would print a notice, and write a token of its own into ``~/.ray``, readable by all
    users of the machine. One for the time of a run needs no file. ``RAY_AUTH_MODE=disabled`` is obeyed.
    """
    if own:
        if os.environ.setdefault(_MODE, "token").lower() != "token":
            return
        if not has_token():
            os.environ[_TOKEN] = secrets.token_hex(32)
    elif os.environ.get(_TOKEN) or os.environ.get(_TOKEN_PATH):
        # The token of ~/.ray may be for another cluster, so it is not shown to any address.
        os.environ.setdefault(_MODE, "token")
    refresh_settings()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def nodes() -> list[dict[str, float]]:
    """Resources of the nodes that are alive."""
    return [node.get("Resources", {}) for node in _alive()]


def alive() -> set[str]:
    """Names of the nodes that are alive."""
    return {node["NodeID"] for node in _alive()}


def _alive() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in found if node.get("Alive")]
