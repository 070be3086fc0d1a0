"""What Ray does not offer in public: each in one place, and harmless where it is missing."""

from __future__ import annotations

import ray

__all__ = ["draining_nodes", "has_token", "refresh_authentication"]


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


def refresh_authentication() -> None:
    """Have Ray read ``RAY_AUTH_MODE`` and the token again: it did when it was imported."""
    try:
        from ray._raylet import AuthenticationTokenLoader, Config
    except ImportError:
        return  # older than 2.52: no tokens
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def has_token() -> bool:
    """Whether Ray finds a token: in the environment, the file that it names, or ``~/.ray``.

    True where this Ray knows no tokens, for then there is none to be made.
    """
    try:
        from ray._raylet import AuthenticationTokenLoader
    except ImportError:
        return True
    loader = AuthenticationTokenLoader.instance()
    loader.reset_cache()
    return bool(loader.has_token(ignore_auth_mode=True))
