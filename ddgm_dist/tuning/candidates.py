"""Candidates: the settings that `tune` tries, from a grid of values."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddgm_dist.errors import InputError
from ddgm_dist.planning.config import Config, parse_config

__all__ = ["DEFAULT_GRID", "TUNABLE", "Candidate", "Grid", "expand_grid", "order_candidates"]

Grid = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""Values by key, whose product is taken; or several such, whose union is."""

TUNABLE = (
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


def expand_grid(grid: Grid, base: Config) -> list[Candidate]:
    """The candidates of a grid on top of a configuration, which is the first; each once.

    ``data_weight_cap`` makes no difference where the rule is ``paper``.

    Raises
    ------
    InputError
        The grid is empty or is not made of lists of values. A key is unknown or cannot be tuned. A
        value is out of bounds.
    """
    parts = [grid] if isinstance(grid, Mapping) else grid
    if isinstance(parts, str) or not isinstance(parts, Sequence):
        raise InputError("grid", grid, "is not a mapping of keys to lists of values")
    _check_falling("sigma_N", base.sigma_N, base)
    found = {_identity(base): Candidate((), base)}
    for part in parts:
        for settings in _product(part):
            config = parse_config({**base.model_dump(exclude_unset=True), **settings})
            _check_falling("grid", ", ".join(f"{k}: {v}" for k, v in settings.items()), config)
            changed = tuple(
                (k, getattr(config, k)) for k in TUNABLE if getattr(config, k) != getattr(base, k)
            )
            if config.step_rule == "paper":
                changed = tuple((k, v) for k, v in changed if k != "data_weight_cap")
            found.setdefault(_identity(config), Candidate(changed, config))
    if len(found) < 2:
        raise InputError(
            "grid",
            grid,
            "holds nothing but the settings there are: nothing is left to choose from",
            "give values, such as K: [25, 100]",
        )
    return list(found.values())


def _check_falling(argument: str, value: object, config: Config) -> None:
    if config.N > 1 and not config.sigma_N < config.sigma_1:
        raise InputError(
            argument,
            value,
            f"noise levels must decrease, from sigma_1 = {config.sigma_1:g} to "
            f"sigma_N = {config.sigma_N:g}",
            "drop that value, or split the grid into a list of mappings"
            if argument == "grid"
            else "set sigma_N below sigma_1",
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
