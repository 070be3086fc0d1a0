"""The configuration as the library takes it: a YAML file with ``--set`` on top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddgm_dist.errors import InputError
from ddgm_dist.readers import strict_yaml

__all__ = ["read_config", "read_yaml"]

Config = dict[str, Any]


def read_config(path: Path | None, overrides: Sequence[str]) -> Config:
    """Read a configuration and apply overrides to it; keys are checked by the library.

    Parameters
    ----------
    path
        YAML file; nothing when None.
    overrides
        ``key=value`` each, later ones win. The value is YAML, dots in the key descend into
        sections: ``solver.K=15``.

    Raises
    ------
    InputError
        If the file is missing, not YAML or not a mapping, or an override is not ``key=value``.
    """
    config = {} if path is None else _read_file(path)
    for override in overrides:
        key, equals, text = override.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names):
            raise InputError(
                "--set", override, "is not key=value", "write for example --set samples=8"
            )
        _section(config, names[:-1], override)[names[-1]] = _parse(text, "--set", override)
    return config


def read_yaml(path: Path, option: str) -> Any:
    """Read the value in a YAML file.

    Raises
    ------
    InputError
        If the file, given by ``option``, is missing or not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(option, str(path), "there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(option, str(path), f"cannot be read ({error})") from error
    return _parse(text, option, str(path))


def _read_file(path: Path) -> Config:
    config = read_yaml(path, "--config")
    if config is None:
        return {}
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise InputError(
            "--config",
            str(path),
            "is not a mapping of keys to values",
            "write one `key: value` a line",
        )
    return config


def _parse(text: str, argument: str, shown: str) -> Any:
    try:
        return strict_yaml.load(text)
    except strict_yaml.YamlError as error:
        raise InputError(argument, shown, str(error)) from error


def _section(config: Config, names: Sequence[str], override: str) -> Config:
    """The mapping that ``names`` lead to, made where it is missing."""
    for name in names:
        inner = config.setdefault(name, {})
        if not isinstance(inner, dict):
            raise InputError("--set", override, f"{name!r} is a value, not a section of keys")
        config = inner
    return config
