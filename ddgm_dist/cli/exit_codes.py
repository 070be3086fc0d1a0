"""Exit statuses of the command line, and its global settings."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["INTERRUPTED", "TERMINATED", "Settings"]


INTERRUPTED, TERMINATED = 130, 143  # 128 + the signal, as shells have it


@dataclass
class Settings:
    """Global options; they precede the command."""

    traceback: bool = False
