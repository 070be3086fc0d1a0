"""Errors that teach: the argument, its value, the bound, why, and what to try next."""

from __future__ import annotations

__all__ = ["DdgmError", "InputError", "PlanError", "StorageError"]


class DdgmError(Exception):
    """Base of every error this package raises on purpose.

    ``exit_status`` is what the command line returns for it.
    """

    exit_status = 1


class InputError(DdgmError, ValueError):
    """The input (an argument, a file, a configuration key) cannot be used.

    Parameters
    ----------
    argument
        Name of the offending argument, key or file, as the user wrote it.
    value
        Its value.
    why
        What is wrong and the bound it violates, as a clause without a full stop.
    hint
        What to try next; empty when there is nothing better to say than ``why``.
    """

    exit_status = 2

    def __init__(self, argument: str, value: object, why: str, hint: str = "") -> None:
        self.argument, self.value, self.why, self.hint = argument, value, why, hint
        shown = str(value) if isinstance(value, (str, int, float)) else repr(value)
        if len(shown) > 200:
            shown = shown[:197] + "..."
        message = f"{argument} = {shown}: {why}"
        super().__init__(f"{message}; {hint}" if hint else message)

    def __reduce__(self) -> tuple[type, tuple[str, object, str, str]]:
        # Exceptions cross process borders (Ray); the default pickles only the message.
        return type(self), (self.argument, self.value, self.why, self.hint)


class PlanError(InputError):
    """The problem cannot be planned within the given bounds."""


class StorageError(DdgmError):
    """A store could not be read or written (disk full, checksum mismatch, lost chunk)."""

    exit_status = 2
