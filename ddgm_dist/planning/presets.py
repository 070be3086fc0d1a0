"""Presets: named sets of values of configuration keys.

A key that is given beside a preset wins over it. Without a preset the values of `default` apply. The
problem holds the resolved values alone, so a preset and its values written out are the same problem.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ddgm_dist.errors import InputError

__all__ = ["DEFAULTS", "PRESETS", "Preset", "PresetUse", "preset_named", "with_preset"]


@dataclass(frozen=True)
class Preset:
    """A named set of values.

    Attributes
    ----------
    purpose
        What it is for, a clause.
    values
        Values by key. All presets have the same keys.
    """

    purpose: str
    values: Mapping[str, Any]


_CLASSIC: Mapping[str, Any] = {
    "start": "zero",
    "N": 50,
    "K": 100,
    "sigma_1": 5.0,
    "sigma_N": 0.2,
    "schedule": "karras",
    "added_noise": 0.3,
    "step_rule": "noise-aware",
    "data_weight_cap": 3.0,
    "samples": 1,
    "restorer_calls": 1,
    "start_share": 0.0,
}
_RESTORED: Mapping[str, Any] = {
    **_CLASSIC,
    "start": "restored",
    "sigma_N": 0.15,
    "added_noise": 0.0,
}
# The exact data step, whose result and the restored start err differently (docs/restorer.md).
_BEST: Mapping[str, Any] = {
    **_RESTORED,
    "step_rule": "proximal",
    "data_weight_cap": 4.0,
    "schedule": "exponential",
    "N": 12,
    "sigma_1": 0.5,
    "restorer_calls": 2,
    "start_share": 0.5,
}
_PAPER: Mapping[str, Any] = {
    **_CLASSIC,
    "step_rule": "paper",
    "schedule": "exponential",
    "K": 25,
    "sigma_1": 3.0,
    "sigma_N": 0.03,
    "added_noise": 1.0,
}

# What a user gets who names none is `default`.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fast": Preset("a first look", {**_RESTORED, "N": 3, "sigma_1": 0.4}),
        "default": Preset("without a preset", _CLASSIC),
        "best": Preset("less error, more calls", _BEST),
        "classic": Preset("from zero, without a restorer", _CLASSIC),
        "paper": Preset("the rule of the paper", _PAPER),
    }
)
DEFAULTS: Mapping[str, Any] = PRESETS["default"].values


@dataclass(frozen=True)
class PresetUse:
    """A preset that was given, and what was given beside it.

    Attributes
    ----------
    name
        Name of the preset.
    changed
        Keys with other values than the preset's, and these values; sorted by key.
    """

    name: str
    changed: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, name: str | None, values: Mapping[str, Any]) -> PresetUse | None:
        """The use of a preset by resolved values; None where none was given."""
        if name is None:
            return None
        preset = preset_named(name)
        changed = [(k, values[k]) for k, v in preset.values.items() if values[k] != v]
        return cls(name, tuple(sorted(changed)))

    @classmethod
    def from_dict(cls, found: object) -> PresetUse | None:
        """The use in a file; None where there is none, or it is damaged."""
        if not isinstance(found, Mapping) or not isinstance(found.get("name"), str):
            return None
        changed = found.get("changed")
        items = changed.items() if isinstance(changed, Mapping) else ()
        return cls(found["name"], tuple(sorted(items)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": self.name, "changed": dict(self.changed)}

    def describe(self) -> str:
        """The name, and what differs from it."""
        if not self.changed:
            return self.name
        return f"{self.name}, but {', '.join(f'{k} = {_shown(v)}' for k, v in self.changed)}"


def preset_named(name: object) -> Preset:
    """The preset of a name.

    Raises
    ------
    InputError
        There is no such preset; the known ones are named.
    """
    if isinstance(name, str) and name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(str(name).lower(), PRESETS, n=1)
    raise InputError(
        "preset",
        name,
        f"is no preset; there are {', '.join(PRESETS)}",
        f"did you mean {near[0]}?" if near else "leave it out for the default",
    )


def with_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a configuration with those of the preset that they name.

    Parameters
    ----------
    values
        Values as they were given. Those beside ``preset`` win.

    Raises
    ------
    InputError
        There is no such preset. It begins from a restored estimate, and ``start: zero`` is given.
    """
    name = values.get("preset")
    if name is None:
        return dict(values)
    if values.get("start") == "zero" and preset_named(name).values["start"] == "restored":
        raise InputError(
            "start",
            "zero",
            f"the preset {name} begins from a restored estimate, and its few iterations suit no other",
            "give the preset classic",
        )
    return {**preset_named(name).values, **values}


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
