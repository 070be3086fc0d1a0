"""Functions of users in the place of a network: imported by name, called, and their answers checked."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddgm_dist.errors import InputError
from ddgm_dist.prior.users_code import passes, raised

__all__ = ["UsersFunction", "import_function"]


class UsersFunction:
    """A user's function, whose errors and wrong answers are reported as the user's.

    Parameters
    ----------
    function
        The function.
    argument, name
        The key of the configuration that names it, and its name.
    called
        How it is called, for messages.
    """

    def __init__(self, function: Callable[..., Any], argument: str, name: str, called: str) -> None:
        self.function, self.argument, self.name, self.called = function, argument, name, called

    def whole_number(self, attribute: str, default: int, least: int) -> int:
        """An attribute of the function, or its default.

        Raises
        ------
        InputError
            It is no whole number, or below ``least``.
        """
        value = getattr(self.function, attribute, default)
        if isinstance(value, int) and value >= least:
            return value
        raise self.error(
            f"its attribute {attribute} is {value!r}, not a whole number of at least {least}"
        )

    def __call__(self, *given: Any, shape: tuple[int, ...], when: str) -> Tensor:
        """Call it; returns its answer, float32 on the device of the first argument.

        Parameters
        ----------
        given
            Arguments, the first of which is a tensor.
        shape
            Shape that it has to return.
        when
            Circumstance of the call, for messages, such as ``at sigma = 1``.

        Raises
        ------
        InputError
            The function raised an error (with its place in the code), or returned what cannot be used.
        MemoryError
            The function reported that memory is lacking. Other errors of memory and device pass through.
        """
        try:
            out = self.function(*given)
        except BaseException as error:
            if passes(error):
                raise
            raise raised(error, self.name, when, self.called, argument=self.argument) from error
        if not isinstance(out, Tensor) or out.shape != shape:
            got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            same = "the shape it is given, " if given[0].shape == shape else "shape "
            raise self.error(f"must return a tensor of {same}{shape}; it gave {got}", self.called)
        if not out.is_floating_point() or out.layout != torch.strided:
            raise self.error(
                f"must return a dense tensor of real floating-point numbers; it gave {out.dtype}, "
                f"{out.layout}"
            )
        out = out.to(device=given[0].device, dtype=torch.float32)
        if not bool(torch.isfinite(out).all()):
            raise self.error(f"gave NaN or infinity {when}")
        return out

    def error(self, why: str, hint: str = "") -> InputError:
        """An error of the argument that names the function."""
        return InputError(self.argument, self.name, why, hint)


def import_function(argument: str, name: str) -> tuple[Callable[..., Any], str]:
    """Import a user's function.

    Parameters
    ----------
    argument, name
        The key of the configuration, and ``module:callable``.

    Returns
    -------
    function, digest
        The function, and the SHA-256 of its module's source.

    Raises
    ------
    InputError
        It cannot be imported, or is not callable.
    """
    module_name, _, attribute = name.partition(":")
    hint = "write module:callable without folders and .py; the folder has to be on PYTHONPATH"
    if not module_name or not attribute or module_name.startswith("."):
        raise InputError(argument, name, "names no module and callable", hint)
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:
        if passes(error):
            raise
        if isinstance(error, ModuleNotFoundError) and _leads_to(error.name, module_name):
            file = "/" in module_name or module_name.endswith(".py")
            hint = hint if file else "is its folder on PYTHONPATH?"
            raise InputError(argument, name, f"cannot be imported: {error}", hint) from error
        raise raised(error, name, "when imported", argument=argument) from error
    try:
        function = getattr(module, attribute)
    except AttributeError as error:
        raise InputError(argument, name, f"cannot be imported: {error}") from error
    if not callable(function):
        raise InputError(argument, name, "is not callable")
    try:
        source = inspect.getsource(inspect.getmodule(function) or function)
    except (OSError, TypeError):
        source = name
    return function, hashlib.sha256(source.encode()).hexdigest()


def _leads_to(missing: str | None, module: str) -> bool:
    """Return whether the module that is missing is the wanted one, or a package around it."""
    return missing is not None and f"{module}.".startswith(f"{missing}.")
