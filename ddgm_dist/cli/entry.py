"""Where the process starts and ends: arguments in, one clear line and an exit status out."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from ddgm_dist.errors import DdgmError

__all__ = ["Settings", "main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@dataclass
class Settings:
    """Global options; they precede the command."""

    traceback: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Parameters
    ----------
    arguments
        The words after the program's name; those of the process when None.

    Returns
    -------
    int
        0 when all went well; 2 when the input or the environment cannot be used (one line on
        stderr says why); 1 for a defect of the program (with the stack); 130 after Ctrl-C.
    """
    settings = Settings()
    try:
        from ddgm_dist.cli.app import create_app

        status = create_app()(
            args=None if arguments is None else list(arguments),
            prog_name="ddgm-dist",
            standalone_mode=False,
            obj=settings,
        )
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except typer.TyperException as error:  # the command line itself is wrong
        return _fail(f"error: {error.format_message()}", error.exit_code)
    except DdgmError as error:
        return _fail(f"error: {error}", error.exit_status, stack=settings.traceback)
    except OSError as error:
        return _fail(f"error: {error}", 2, stack=settings.traceback)
    except Exception as error:
        # A defect, not a mistake of the user's: the stack may be all there is after a long run.
        return _fail(f"internal error: {type(error).__name__}: {error}", 1, stack=True)
    if status == INTERRUPTED:
        return _fail("interrupted", INTERRUPTED)
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int, *, stack: bool = False) -> int:
    if stack:
        traceback.print_exc()
    sys.stderr.write(f"ddgm-dist: {' '.join(message.split())}\n")
    return status
