"""Exit statuses of the command line, and its global settings."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["INTERRUPTED", "NOT_EXPLAINED", "TERMINATED", "Settings"]


# The volume is complete, but does not explain its data, and --strict was given.
NOT_EXPLAINED = 4
INTERRUPTED, TERMINATED = 130, 143  # 128 + the signal, as shells have it


@dataclass
class Settings:
    """Global options, which precede the command, and the command's name."""

    traceback: bool = False
    command: str | None = None
