"""The options of a reconstruction, written once for all commands that take them.

A command names a list as one parameter; :func:`with_options` gives the command line its fields.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from typer.models import OptionInfo

from ddgm_dist.cli.config import read_config
from ddgm_dist.cli.options import (
    ConfigFile,
    ImputeNonfinite,
    Memory,
    NoDespike,
    Overrides,
    PresetName,
    Thickness,
    VerifyInput,
    Workers,
)

__all__ = ["ProblemOptions", "WorkerOptions", "with_options"]

# A job finds its configuration elsewhere, and is given the overrides apart.
_APART = ("config", "overrides")


@dataclass(frozen=True)
class ProblemOptions:
    """The problem to solve: options of plan, tune, reconstruct, submit and manifest."""

    config: ConfigFile = None
    overrides: Overrides = None
    thickness: Thickness = None
    impute_nonfinite: ImputeNonfinite = False
    no_despike: NoDespike = False
    verify_input: VerifyInput = False
    preset: PresetName = None

    def keys(self) -> dict[str, Any]:
        """The configuration's keys; options that change the result override those of the file."""
        config = read_config(self.config, self.overrides or [])
        if self.preset is not None:
            config["preset"] = self.preset
        if self.thickness is not None:
            config["thickness"] = self.thickness
        if self.impute_nonfinite:
            config["impute_nonfinite"] = True
        if self.no_despike:
            config["despike"] = False
        return config

    def words(self) -> tuple[str, ...]:
        """The same options for another command line, without the configuration and overrides."""
        hints, words = get_type_hints(type(self), include_extras=True), list[str]()
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _APART or value == field.default:
                continue
            words.append(_flag(field.name, hints[field.name]))
            words += [] if value is True else [str(value)]
        return tuple(words)


@dataclass(frozen=True)
class WorkerOptions:
    """The workers to use: options of plan, reconstruct, submit and manifest."""

    workers: Workers = None
    memory: Memory = None


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command in whose signature each list of options is replaced by its fields."""
    signature = inspect.signature(command, eval_str=True)
    lists, parameters = dict[str, Any](), list[inspect.Parameter]()
    for parameter in signature.parameters.values():
        kind = parameter.annotation
        if not is_dataclass(kind):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        lists[parameter.name] = kind
        hints = get_type_hints(kind, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in fields(kind)
        ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, kind in lists.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _flag(name: str, annotation: Any) -> str:
    """An option as it is written: its first declaration, or its name with dashes."""
    (option,) = (each for each in annotation.__metadata__ if isinstance(each, OptionInfo))
    # typer takes the first declaration in Annotated for a default.
    first = option.default if isinstance(option.default, str) else f"--{name.replace('_', '-')}"
    return first
