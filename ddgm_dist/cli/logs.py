"""Log records on standard error, as lines for people or as lines of JSON.

The library logs to ``logging.getLogger("ddgm_dist")`` and adds no handlers; only the command line does.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Literal

__all__ = ["JsonFormatter", "LogLevel", "TextFormatter", "set_up_logging"]

LogLevel = Literal["debug", "info", "warning", "error"]
FIELDS = ("tile", "iteration", "worker")


class TextFormatter(logging.Formatter):
    """Lines such as ``12:34:56 WARNING worker-lost: replace the worker [tile y0, worker worker-3]``."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line, with the stack below it if there is one."""
        about = ", ".join(f"{name} {value}" for name, value in _about(record).items())
        when = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{when} {record.levelname} {record.getMessage()}" + (f" [{about}]" if about else "")
        stack = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return line + stack


class JsonFormatter(logging.Formatter):
    """An object per line: time (UTC), level, logger, message, tile, iteration, worker."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line of JSON."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        value = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about(record),
        }
        if record.exc_info:
            value["stack"] = self.formatException(record.exc_info)
        return json.dumps(value, default=str)


def set_up_logging(level: LogLevel, *, as_json: bool) -> Callable[[], None]:
    """Send this package's records of a level and above to standard error.

    Returns
    -------
    Callable
        Leaves the logger as it was found.
    """
    log, handler = logging.getLogger("ddgm_dist"), _StandardError()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    before = log.level
    log.addHandler(handler)
    log.setLevel(level.upper())

    def undo() -> None:
        log.removeHandler(handler)
        log.setLevel(before)

    return undo


class _StandardError(logging.Handler):
    """Whatever ``sys.stderr`` is at the time: a progress bar puts lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; an error is reported and does not stop the program."""
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


def _about(record: logging.LogRecord) -> dict[str, object]:
    """Those of `FIELDS` that the record has, by name."""
    found = {name: getattr(record, name, None) for name in FIELDS}
    return {name: value for name, value in found.items() if value not in (None, "")}
