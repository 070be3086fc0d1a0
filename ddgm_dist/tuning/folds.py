"""Folds of a tilt series: the tilts that are held out, between the kept ones and beyond them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ddgm_dist.errors import InputError

__all__ = ["LEAST_TILTS", "Fold", "make_fold", "measured_share"]

LEAST_TILTS = 8


@dataclass(frozen=True)
class Fold:
    """Indices of tilts, in order of their angles.

    Attributes
    ----------
    kept
        Tilts that a block is solved from.
    between, beyond
        Held out: within the kept ones' range of angles, and outside it.
    """

    kept: tuple[int, ...]
    between: tuple[int, ...]
    beyond: tuple[int, ...]


def make_fold(angles_deg: Sequence[float], folds: int, which: int) -> Fold:
    """Every ``folds``-th tilt is held out, and the outermost.

    Parameters
    ----------
    angles_deg
        Tilt angles, degrees, in any order.
    folds
        f: about a share 1/f of the tilts is held out between the kept ones, half of that beyond.
    which
        0 to f - 1: the first held out; larger ones begin anew.

    Raises
    ------
    InputError
        If f is below 2, or so large that tilts do not make so many folds.
    """
    tilts = len(angles_deg)
    if tilts < LEAST_TILTS:
        raise InputError(
            "tilts",
            f"{tilts} projections",
            f"cross-validation holds some out and needs at least {LEAST_TILTS}",
            "use the default settings",
        )
    if not 2 <= folds <= tilts // 2:
        raise InputError(
            "folds", folds, f"must be 2 to {tilts // 2}, half of the {tilts} tilts there are"
        )
    order = sorted(range(tilts), key=lambda t: (angles_deg[t], t))
    outer = max(1, tilts // (4 * folds))
    inner = order[outer:-outer]
    inside = inner[1:-1]  # the ends stay, so that what is between is between
    between = inside[which % min(folds, len(inside)) :: folds]
    kept = [t for t in inner if t not in between]
    return Fold(tuple(kept), tuple(between), (*order[:outer], *order[-outer:]))


def measured_share(angles_deg: Sequence[float]) -> float:
    """Share of all directions that the tilts cover, each for the width of a mean step; at most 1."""
    span = max(angles_deg) - min(angles_deg)
    return min(1.0, span * len(angles_deg) / (len(angles_deg) - 1) / 180)
