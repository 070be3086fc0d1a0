"""Keys to change so that a problem fits a worker's memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import period
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.tiling import (
    blend_half_width,
    columns_and_margin,
    equal_columns,
    narrowest_tile,
    widest_read,
)

__all__ = ["fitting_keys", "variant"]

Keys = Mapping[str, int]
# Whether a problem, whose Fourier transform has that period, fits.
Fits = Callable[[Problem, int], bool]


def variant(problem: Problem, keys: Keys) -> tuple[Problem, int]:
    """The problem with other keys, and the period of its transform.

    Raises
    ------
    InputError
        If windows of that width cannot overlap as they should.
    """
    g, config = problem.geometry, problem.config.model_copy(update=dict(keys))
    changed = Problem.derive(
        g,
        config,
        problem.intensity,
        stride=problem.lattice.stride,
        data_digest=problem.data_digest,
        denoiser_digest=problem.denoiser_digest,
        screen=problem.screen,
        restorer=None if problem.restored is None else problem.restored.restorer,
        step_size=problem.step_size,
    )
    return changed, period(g, widest_read(g, config))


def fitting_keys(problem: Problem, fits: Fits) -> list[str]:
    """Settings with which the problem fits, the largest of each key, as ``--set key=value``.

    If no key alone is enough, one setting of several; empty if nothing helps.
    """

    def good(keys: Keys) -> bool:
        try:
            return fits(*variant(problem, keys))
        except InputError:
            return False

    choices = {
        "rows_per_call": list(range(problem.rows_per_call - 1, 0, -1)),
        "window": _windows(problem),
        "tile_columns": _columns(problem),
    }
    found = []
    for key, values in choices.items():
        best = _first(values, lambda value, key=key: good({key: value}))  # type: ignore[misc]
        if best is not None:
            found.append(f"--set {key}={best}")
    if found:
        return found
    keys: dict[str, int] = {}
    for key, values in choices.items():
        best = _first(values, lambda value, key=key: good({**keys, key: value}))  # type: ignore[misc]
        if best is not None:
            return [" ".join(f"--set {k}={v}" for k, v in {**keys, key: best}.items())]
        if values:
            keys[key] = values[-1]
    return []


def _windows(problem: Problem) -> list[int]:
    """Narrower windows, widest first."""
    lattice, overlap = problem.lattice, problem.config.overlap
    step = math.lcm(lattice.stride, 64)
    least = max(2 * overlap, 2 * lattice.stride, 64)
    return [w for w in range((lattice.width - 1) // step * step, 0, -step) if w >= least]


def _columns(problem: Problem) -> list[int]:
    """Narrower tiles, widest first: the field in so many equal parts."""
    g = problem.geometry
    now, margin = columns_and_margin(g, problem.config)
    least = max(2 * blend_half_width(margin), 2 * margin)
    counts = range(math.ceil(g.field / now) + 1, max(2, g.field // least) + 1)
    widths = dict.fromkeys(equal_columns(g.field, math.ceil(g.field / n)) for n in counts)
    return [
        w for w in widths if w < now and narrowest_tile(g.field, w) >= 2 * blend_half_width(margin)
    ]


def _first(values: Sequence[int], good: Callable[[int], bool]) -> int | None:
    """The first good one of values that are bad up to some point and good from there on."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if good(values[middle]):
            high = middle
        else:
            low = middle + 1
    return values[low] if low < len(values) else None
