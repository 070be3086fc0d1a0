"""The command line: input, then output, then options. Each command is one library call."""

from ddgm_dist.cli.entry import main

__all__ = ["main"]
