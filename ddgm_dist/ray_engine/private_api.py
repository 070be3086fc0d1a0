"""Uses of Ray that its public API lacks: each in one place, and harmless where it is missing.

Ray is imported where it is called, for its import takes seconds and an address is checked without it.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "RayletDiedError",
    "draining_nodes",
    "found_automatically",
    "has_token",
    "host_of",
    "refresh_settings",
    "waiting_for_raylet",
]

_ONE_QUESTION = "RAY_raylet_start_wait_time_s"


class RayletDiedError(Exception):
    """The raylet of a start has ended before it had registered."""


@contextlib.contextmanager
def waiting_for_raylet(seconds: float) -> Iterator[None]:
    """Have a start of Ray wait longer for its raylet to register, unless that has ended.

    Ray 2.60 waits 30 s in vain for a raylet that has ended. One ends by itself where its agents take
    longer than 15 s to start, for which there is no setting. The other processes of a start that
    failed would run until this one ends, so they are ended here.

    Parameters
    ----------
    seconds
        Time for the raylet to register.

    Raises
    ------
    RayletDiedError
        From within: the raylet has ended.
    """
    from ray._private import services

    ask = getattr(services, "get_node", None)
    start = getattr(services, "start_raylet", None)
    # How long one question waits for its answer: a little where it is asked again.
    os.environ[_ONE_QUESTION] = "1" if ask and start else f"{seconds:.0f}"
    refresh_settings()
    if ask is None or start is None:
        with _ending_failed_start():
            yield
        return
    started: list[Any] = []

    def start_and_remember(*arguments: Any, **options: Any) -> Any:
        started.append(start(*arguments, **options))
        return started[-1]

    def ask_patiently(*arguments: Any, **options: Any) -> Any:
        end = time.monotonic() + seconds
        while True:
            try:
                return ask(*arguments, **options)
            except RuntimeError:
                process = getattr(started[-1], "process", None) if started else None
                if process is not None and process.poll() is not None:
                    raise RayletDiedError(
                        f"its raylet ended with status {process.returncode}"
                    ) from None
                if time.monotonic() > end:
                    raise
            time.sleep(0.1)

    services.get_node, services.start_raylet = ask_patiently, start_and_remember
    try:
        with _ending_failed_start():
            yield
    finally:
        services.get_node, services.start_raylet = ask, start


@contextlib.contextmanager
def _ending_failed_start() -> Iterator[None]:
    """End the processes of Ray's node where its start raises; only the traceback knows the node."""
    try:
        yield
    except BaseException as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            node: Any = frame.f_locals.get("self")
            if type(node).__module__ == "ray._private.node":
                with contextlib.suppress(Exception):  # the error itself is to be seen
                    node.kill_all_processes(check_alive=False, allow_graceful=True, wait=True)
                break
        raise


def draining_nodes() -> dict[str, float]:
    """Nodes that are about to be taken away, with their deadlines in seconds since the epoch.

    A deadline of 0 means none is known. Empty where this Ray does not know: then a node goes without
    a warning, which costs the work since the last checkpoint.
    """
    import ray

    try:
        from ray._private.state import state

        found: dict[str, int] = state.get_draining_nodes()
    except (ImportError, AttributeError, ray.exceptions.RayError, RuntimeError):
        return {}
    return {node: deadline / 1000 for node, deadline in (found or {}).items()}


def found_automatically() -> tuple[str | None, str | None]:
    """The address that Ray takes for ``auto``, and the file that it is from.

    Ray prefers a cluster that runs here to the file that `ray start` wrote last; for one that runs
    there is no file. Both are None where Ray finds none, or cannot be asked.
    """
    try:
        from ray._common.utils import get_ray_address_file
        from ray._private import services
        from ray._private.utils import read_ray_address

        running = services.find_gcs_addresses()  # type: ignore[no-untyped-call]
        file, written = Path(get_ray_address_file(None)), read_ray_address(None)
    except (ImportError, AttributeError, OSError, ValueError):
        return None, None
    if running and (len(running) == 1 or not written):
        return next(iter(running)), None
    return (written, str(file)) if written else (None, None)


def host_of(host: str) -> str:
    """The host that Ray connects to: for a name of this machine's loopback, its other address.

    So a port of loopback that is forwarded to a head elsewhere is no way to it.
    """
    try:
        from ray._private.services import resolve_ip_for_localhost

        return str(resolve_ip_for_localhost(host))
    except (ImportError, AttributeError, OSError, ValueError):
        return host


def refresh_settings() -> None:
    """Have Ray read its environment variables again, and the token: it did when it was imported."""
    import ray

    config, loader = getattr(ray._raylet, "Config", None), _token_loader()
    if config is not None and loader is not None:
        config.initialize("")
        loader.reset_cache()


def has_token() -> bool:
    """Return whether Ray finds a token: in the environment, the file that it names, or ``~/.ray``.

    True where this Ray knows no tokens (before 2.52), for then there is none to be made.
    """
    loader = _token_loader()
    if loader is None:
        return True
    loader.reset_cache()
    return bool(loader.has_token(ignore_auth_mode=True))


def _token_loader() -> Any | None:
    import ray

    kind = getattr(ray._raylet, "AuthenticationTokenLoader", None)
    return None if kind is None else kind.instance()
