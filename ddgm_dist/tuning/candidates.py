"""Candidates: the settings that `tune` tries, from a grid of values."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddgm_dist.errors import InputError
from ddgm_dist.planning.config import Config, parse_config

__all__ = [
    "DEFAULT_GRID",
    "TUNABLE",
    "Candidate",
    "Expanded",
    "Grid",
    "LeftOut",
    "expand_grid",
    "order_candidates",
]

Grid = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""Values by key, whose product is taken; or several such, whose union is."""

TUNABLE = (
    "start",
    "N",
    "K",
    "sigma_1",
    "sigma_N",
    "schedule",
    "step_rule",
    "data_weight_cap",
    "added_noise",
    "s_1",
    "s_N",
)

DEFAULT_GRID: Grid = (
    {"K": [25, 100, 400], "data_weight_cap": [1, 3, 10]},
    {"added_noise": [0.0, 0.6, 1.0]},
    {"sigma_1": [2.0, 15.0]},
    {"sigma_N": [0.1, 0.4]},
    {"N": [25, 100]},
    {
        "start": ["restored"],
        "N": [3, 6, 12],
        "sigma_1": [0.4, 0.5],
        "sigma_N": [0.15],
        "added_noise": [0.0, 0.3],
    },
    {
        "start": ["zero"],
        "step_rule": ["paper"],
        "added_noise": [1.0],
        "schedule": ["exponential"],
        "sigma_1": [3.0],
        "sigma_N": [0.03],
        "K": [15, 25],
    },
)

# More would not be tried in a day, and are a slip.
MOST = 10_000


@dataclass(frozen=True)
class Candidate:
    """One choice of settings.

    Attributes
    ----------
    settings
        Values that differ from the configuration tuned, by key; none for that itself.
    config
        All keys of the configuration.
    """

    settings: tuple[tuple[str, Any], ...]
    config: Config

    @property
    def name(self) -> str:
        """``K=100 data_weight_cap=1``, for people."""
        words = [f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.settings]
        return " ".join(words) or "as given"


@dataclass(frozen=True)
class LeftOut:
    """A combination of a grid that cannot be tried.

    Attributes
    ----------
    name
        Values that differ from the configuration tuned, as text.
    why
        What is wrong with them.
    """

    name: str
    why: str

    def __str__(self) -> str:
        return f"left out {self.name}: {self.why}"


@dataclass(frozen=True)
class Expanded:
    """Candidates of a grid, and what cannot be one.

    Attributes
    ----------
    candidates
        Those that can be tried; the configuration tuned is the first.
    left_out
        Combinations that cannot.
    """

    candidates: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...] = ()


def _no_check(config: Config) -> None:
    """Refuse nothing more."""


def expand_grid(grid: Grid, base: Config, check: Callable[[Config], None] = _no_check) -> Expanded:
    """The candidates of a grid on top of a configuration, which is the first; each once.

    A combination whose noise levels do not decrease, or that ``check`` refuses, is left out.
    ``data_weight_cap`` makes no difference where the rule is ``paper``.

    Parameters
    ----------
    grid
        Values by key, whose product is taken, or a list of such, whose union is.
    base
        Configuration that is tuned.
    check
        Raises :class:`InputError` for a configuration that cannot be run.

    Raises
    ------
    InputError
        The grid is empty or is not made of lists of values. A key is unknown or cannot be tuned. A
        value is out of bounds. The configuration tuned is refused, or everything else is.
    """
    parts = [grid] if isinstance(grid, Mapping) else grid
    if isinstance(parts, str) or not isinstance(parts, Sequence):
        raise InputError("grid", grid, "is not a mapping of keys to lists of values")
    _check_falling(base)
    check(base)
    found = {_identity(base): Candidate((), base)}
    refused: dict[tuple[Any, ...], LeftOut] = {}
    for part in parts:
        for settings in _product(part):
            own = base.model_dump(exclude_unset=True)
            if settings.get("start") == "zero":  # has no share in a result, and no restorer
                own = {k: v for k, v in own.items() if k not in ("start_share", "restorer_calls")}
            config = parse_config({**own, **settings})
            if _identity(config) in found or _identity(config) in refused:
                continue
            candidate = Candidate(_changes(config, base), config)
            try:
                _check_falling(config)
                check(config)
            except InputError as error:
                why = f"{error.argument} = {error.value} {error.why}"
                refused[_identity(config)] = LeftOut(candidate.name, why)
            else:
                found[_identity(config)] = candidate
    left_out = tuple(refused.values())
    if len(found) < 2 and left_out:
        hint = "drop those values, or split the grid into a list of mappings"
        raise InputError(
            "grid",
            left_out[0].name,
            f"cannot be tried, nor can the others: {left_out[0].why}",
            hint,
        )
    if len(found) < 2:
        raise InputError(
            "grid",
            grid,
            "holds nothing but the settings there are: nothing is left to choose from",
            "give values, such as K: [25, 100]",
        )
    return Expanded(tuple(found.values()), left_out)


def _changes(config: Config, base: Config) -> tuple[tuple[str, Any], ...]:
    """The values in which a configuration differs from another, by key."""
    unused = ("data_weight_cap",) if config.step_rule == "paper" else ()
    return tuple(
        (k, getattr(config, k))
        for k in TUNABLE
        if k not in unused and getattr(config, k) != getattr(base, k)
    )


def _check_falling(config: Config) -> None:
    if config.N > 1 and not config.sigma_N < config.sigma_1:
        raise InputError(
            "sigma_N",
            config.sigma_N,
            f"is not below sigma_1 = {config.sigma_1:g}: noise levels must decrease",
            "set sigma_N below sigma_1",
        )


def order_candidates(candidates: Sequence[Candidate], seed: int) -> list[Candidate]:
    """The first one first, the others drawn: so that any number of them is spread over the grid."""
    first, *others = candidates
    return [first, *random.Random(seed).sample(others, len(others))]


def _product(part: object) -> list[dict[str, Any]]:
    if not isinstance(part, Mapping):
        raise InputError("grid", part, "is not a mapping of keys to lists of values")
    values: dict[str, list[Any]] = {}
    for key, given in part.items():
        if key in Config.model_fields and key not in TUNABLE:
            raise InputError(
                "grid", key, f"cannot be tuned; there are {', '.join(TUNABLE)}", "set it instead"
            )
        listed = list(given) if isinstance(given, list | tuple) else [given]
        if not listed:
            raise InputError("grid", key, "has no values", f"give some, such as {key}: [1, 2]")
        values[str(key)] = listed
    count = 1
    for listed in values.values():
        count *= len(listed)
    if count > MOST:
        raise InputError(
            "grid", f"{count} candidates", f"are more than {MOST}", "give fewer values"
        )
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]


def _identity(config: Config) -> tuple[Any, ...]:
    unused = ("data_weight_cap",) if config.step_rule == "paper" else ()
    return tuple(None if k in unused else getattr(config, k) for k in TUNABLE)
