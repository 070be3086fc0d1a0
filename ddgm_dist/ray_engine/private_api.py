"""What Ray does not offer in public: each in one place, and harmless where it is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray

__all__ = [
    "draining_nodes",
    "found_automatically",
    "has_token",
    "host_of",
    "refresh_authentication",
]


def draining_nodes() -> dict[str, float]:
    """Nodes that are about to be taken away, with their deadlines in seconds since the epoch.

    A deadline of 0 means none is known. Empty where this Ray cannot tell: then a node goes without
    a warning, which costs the work since the last checkpoint.
    """
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


def refresh_authentication() -> None:
    """Have Ray read ``RAY_AUTH_MODE`` and the token again: it did when it was imported."""
    config, loader = getattr(ray._raylet, "Config", None), _token_loader()
    if config is not None and loader is not None:
        config.initialize("")
        loader.reset_cache()


def has_token() -> bool:
    """Whether Ray finds a token: in the environment, the file that it names, or ``~/.ray``.

    True where this Ray knows no tokens (before 2.52), for then there is none to be made.
    """
    loader = _token_loader()
    if loader is None:
        return True
    loader.reset_cache()
    return bool(loader.has_token(ignore_auth_mode=True))


def _token_loader() -> Any | None:
    kind = getattr(ray._raylet, "AuthenticationTokenLoader", None)
    return None if kind is None else kind.instance()
