"""The start of a problem, in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddgm_dist.planning.problem_changes import UNSAID

__all__ = ["start_in_words"]


def start_in_words(problem: Mapping[str, Any]) -> str:
    """Name what the iterations begin from, where that is a restored estimate; else empty.

    Parameters
    ----------
    problem
        The problem as :meth:`ddgm_dist.planning.problem.Problem.to_dict` has it, or a record of it.
    """
    match problem:
        case {"config": {**config}, "restored": {"restorer": {"digest": str(digest)}}}:
            name = config.get("restorer", UNSAID["config.restorer"])
            return f"restored by {name} (restorer {digest[:12]})"
    return ""
