"""Entry point of the command line: errors become one line and an exit status."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType

import typer

from ddgm_dist.cli.exit_codes import INTERRUPTED, TERMINATED, Settings
from ddgm_dist.errors import DdgmError

__all__ = ["main"]

# Commands that go on from what an interrupted run of the same command has kept.
_RESUMED = ("ingest", "reconstruct")
_RESUMES = "; run the same command again: it goes on from what was kept"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    An interrupted command releases what it holds, such as the lease of an output.

    Parameters
    ----------
    arguments
        The words after the program's name; those of the process when None.

    Returns
    -------
    int
        0 for success. 1 for a defect of the program, whose stack is printed. 2 for an input or an
        environment that cannot be used; one line on stderr says why. 4 for a volume that does not
        explain its data, with ``reconstruct --strict``. 130 after Ctrl-C, 143 after SIGTERM.
    """
    settings = Settings()
    _print_anything()
    try:
        with _terminable():
            status: object = _run(arguments, settings)
    except _Terminated:
        status = TERMINATED
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except typer.TyperException as error:  # the command line itself is wrong
        return _fail(f"error: {error.format_message()}", error.exit_code)
    except DdgmError as error:
        return _fail(f"error: {error}", error.exit_status, stack=settings.traceback)
    except OSError as error:
        return _fail(f"error: {error}", 2, stack=settings.traceback)
    except Exception as error:
        # A signal in the middle of Ray's own code comes out as a SystemError with the cause.
        if isinstance(error.__cause__, _Terminated):
            status = TERMINATED
        elif isinstance(error.__cause__, KeyboardInterrupt):
            status = INTERRUPTED
        else:
            return _unforeseen(error, settings)
    if status in (INTERRUPTED, TERMINATED):
        why = "interrupted" if status == INTERRUPTED else "terminated"
        return _fail(f"{why}{_RESUMES if settings.command in _RESUMED else ''}", status)
    return status if isinstance(status, int) else 0


def _print_anything() -> None:
    """Print names of files with escapes where the encoding of standard output lacks a character."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(arguments: Sequence[str] | None, settings: Settings) -> object:
    from ddgm_dist.cli.app import create_app

    return create_app()(
        args=None if arguments is None else list(arguments),
        prog_name="ddgm-dist",
        standalone_mode=False,
        obj=settings,
    )


class _Terminated(BaseException):
    """SIGTERM, as KeyboardInterrupt is SIGINT."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, unless the process already handles it."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        raise _Terminated

    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _unforeseen(error: Exception, settings: Settings) -> int:
    # By its name: the error is torch's, which may not have been imported.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        advice = "give less at a time, or use a machine with more; what is finished is kept"
        return _fail(f"error: out of memory ({error}); {advice}", 2, stack=settings.traceback)
    # A defect, not a mistake of the user's: the stack may be all there is after a long run.
    return _fail(f"internal error: {type(error).__name__}: {error}", 1, stack=True)


def _fail(message: str, status: int, *, stack: bool = False) -> int:
    if stack:
        traceback.print_exc()
    sys.stderr.write(f"ddgm-dist: {' '.join(message.split())}\n")
    return status
