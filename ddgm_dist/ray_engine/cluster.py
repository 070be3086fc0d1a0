"""Connecting to a cluster, and what it can take."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray

from ddgm_dist.errors import InputError
from ddgm_dist.ray_engine.address import Address, find_address
from ddgm_dist.ray_engine.folder import check_folder, told_of_the_start
from ddgm_dist.ray_engine.private_api import has_token, refresh_authentication
from ddgm_dist.ray_engine.reachable import IS_IT_THERE, check_reachable

__all__ = ["Shares", "connected", "memory_per_worker", "nodes", "shares"]

_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to Ray for the time of a run, leaving one that exists as it is.

    Parameters
    ----------
    address
        Of a cluster, ``auto``, or ``local``. None uses the connection that there is, else
        the cluster that ``RAY_ADDRESS`` names, else starts Ray on this machine.

    Raises
    ------
    InputError
        Nothing answers at the address, or what answers is another version; or the folder where Ray
        would keep its files cannot be used. The message names where the address, or the folder, is from.
    DdgmError
        Ray does not start on this machine.
    """
    there = ray.is_initialized()
    cluster = None if there and address is None else find_address(address)
    if cluster is not None and cluster.looked_at is not None:
        check_reachable(cluster.looked_at, cluster.source, cluster.hint)
    if there:
        yield
        return
    if cluster is None:
        check_folder()
    before = dict(os.environ)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if cluster is None:
            _start()
        else:
            _join(cluster)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # ray.init takes it; a library must not
        yield
    finally:
        ray.shutdown()
        for key in set(os.environ) - set(before):
            del os.environ[key]
        os.environ.update(before)
        refresh_authentication()


def _start() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _authenticate(own=True)
    with told_of_the_start():
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
        # Ray tells nothing else of a token that is refused, but in what it prints meanwhile.
        why = f"no Ray cluster answers there, or none that takes our token ({_first_line(error)})"
        raise InputError(source, value, why, IS_IT_THERE) from error
    except (RuntimeError, ValueError) as error:
        raise InputError(source, value, _first_line(error)) from error
    except SystemExit as error:
        # Ray's way to give up after minutes; and to take SIGTERM, which it reads as the same.
        raise InputError(source, value, "Ray gave up connecting", IS_IT_THERE) from error


def _authenticate(*, own: bool) -> None:
    """Ask for a token where we start a cluster; show the one that the environment has where we join.

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
    refresh_authentication()


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


@dataclass(frozen=True)
class Shares:
    """How many workers, and what each asks of its node.

    Attributes
    ----------
    workers
        Count.
    threads
        Of torch, per worker.
    cpus, gpus
        Ray's resources per worker; fractions let more workers than CPUs start, if asked to.
    memory
        Bytes per worker; 0 asks for none.
    """

    workers: int
    threads: int
    cpus: float
    gpus: float
    memory: int


def shares(
    found: list[dict[str, float]], workers: int | None, useful: int, memory: int | None
) -> Shares:
    """Divide a cluster's nodes among workers.

    Parameters
    ----------
    found
        Resources by node.
    workers
        As asked; None takes one per GPU, or per CPU where there is none, up to ``useful``.
    useful
        Number of things that can be done at a time.
    memory
        Bytes that a worker is allowed; None when unknown.

    Raises
    ------
    InputError
        The cluster has too little.
    """
    gpus, cpus = (sum(node.get(kind, 0) for node in found) for kind in ("GPU", "CPU"))
    count = workers or max(1, min(int(gpus or cpus), useful))
    if cpus <= 0:
        raise InputError(
            "workers",
            count,
            "need at least a part of a CPU each, and the cluster has none for them "
            f"({_list(found)})",
            "start nodes with CPUs (--num-cpus of `ray start`)",
        )
    threads = max(1, int(cpus // count))
    while threads > 1 and _fit(found, "CPU", threads) < count:
        threads -= 1
    share = float(threads)
    while _fit(found, "CPU", share) < count:
        share /= 2
    gpu = 1.0 if gpus else 0.0
    while gpu and _fit(found, "GPU", gpu) < count:
        gpu /= 2
    if memory is not None and _fit(found, "memory", memory) < (count if workers else 1):
        raise InputError(
            "workers",
            count,
            f"of {memory / 2**30:.3g} GiB each do not fit the cluster ({_list(found)})",
            "ask for fewer workers or less --memory, or add nodes",
        )
    if memory is not None and workers is None:
        count = min(count, _fit(found, "memory", memory))
    return Shares(count, threads, share, gpu, memory or 0)


def memory_per_worker(found: list[dict[str, float]], workers: int) -> int | None:
    """Bytes that a worker may take when all nodes are shared evenly; None if Ray does not tell."""
    known = [node["memory"] for node in found if node.get("memory")]
    if not known:
        return None
    return int(min(known) / max(1, -(-workers // len(known))))


def _fit(found: list[dict[str, float]], kind: str, share: float) -> int:
    return sum(int(node.get(kind, 0) / share + 1e-9) for node in found)


def _list(found: list[dict[str, float]]) -> str:
    parts = [
        f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU, "
        f"{node.get('memory', 0) / 2**30:.3g} GiB"
        for node in found
    ]
    return f"{len(found)} nodes: " + "; ".join(parts[:8]) + ("; ..." if len(parts) > 8 else "")
