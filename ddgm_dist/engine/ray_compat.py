"""What Ray does not offer in public: each in one place, and harmless where it is missing."""

from __future__ import annotations

import ray

__all__ = ["draining_nodes"]


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
