"""Rows and columns of the source's detector that do not work: found, named, and left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.prepared import PreparedViews
from ddgm_dist.tilts.provenance import Provenance
from ddgm_dist.views.dead_lines import find_dead_lines
from ddgm_dist.views.kept_part import KeptPart
from ddgm_dist.views.statistics import ViewStatistics

__all__ = ["DeadLines", "find_dead", "leave_out_dead"]

# Lines that a message names, and points of a line that are looked up.
_SHOWN, _POINTS = 5, 65

_KEPT = "kept, as all pixels are; --impute-nonfinite makes them unmeasured"
_ASKED = "kept, by --no-despike; without it they are unmeasured"


@dataclass(frozen=True)
class DeadLines:
    """Dead lines of the source's images, counted from 0.

    Attributes
    ----------
    rows, columns
        Indices, rising.
    """

    rows: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """Names of the first few, from 0."""
        kinds = (("column", self.columns), ("row", self.rows))
        return " and ".join(_named(kind, lines) for kind, lines in kinds if lines)


def find_dead(
    statistics: Sequence[ViewStatistics], kept: Sequence[KeptPart], shape: tuple[int, int]
) -> DeadLines:
    """Lines that hold one value in nearly all views, and of which some pixel is stored.

    Parameters
    ----------
    statistics
        Of the views that are kept.
    kept
        For each, its part that is stored.
    shape
        Rows and columns of the images.
    """
    height, width = shape

    def stored(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> bool:
        return any(bool(part.contains(rows, columns).any()) for part in kept)

    def along_row(line: int) -> bool:
        at = np.linspace(0, width - 1, _POINTS).astype(np.int64)
        return stored(np.full_like(at, line), at)

    def along_column(line: int) -> bool:
        at = np.linspace(0, height - 1, _POINTS).astype(np.int64)
        return stored(at, np.full_like(at, line))

    return DeadLines(
        _dead([s.constant_rows for s in statistics], along_row),
        _dead([s.constant_columns for s in statistics], along_column),
    )


def leave_out_dead(
    views: PreparedViews, dead: DeadLines, options: IngestOptions, record: Provenance
) -> PreparedViews:
    """The views without dead lines where these would spread or were asked away; else they are named.

    Where pixels keep their values, dead rows of the stored images are left to the scan of the store.

    Parameters
    ----------
    views
        The views as they will be stored.
    dead
        Dead lines of the source.
    options
        Options of the ingest.
    record
        Takes what is left out, or a warning of what is kept.
    """
    if views.is_plain:
        turned = all(abs(view.affine.a12) > abs(view.affine.a11) for view in views.views)
        dead = replace(dead, columns=()) if turned else replace(dead, rows=())
    if not (dead.rows or dead.columns):
        return views
    if not options.despike or (views.is_plain and not options.impute_nonfinite):
        record.warnings.append(
            f"{dead.text} of the images (from 0): one value in nearly each view, and many in those "
            f"beside: {_KEPT if options.despike else _ASKED}"
        )
        return views
    record.say("dead lines of the detector", f"{dead.text} (from 0), unmeasured", "all views")
    return replace(views, dead_rows=dead.rows, dead_columns=dead.columns)


def _dead(
    constant: Sequence[NDArray[np.bool_]], is_stored: Callable[[int], bool]
) -> tuple[int, ...]:
    return tuple(line for line in find_dead_lines(np.array(constant)) if is_stored(line))


def _named(kind: str, lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:_SHOWN])) + (", ..." if len(lines) > _SHOWN else "")
    return f"{kind}{'' if len(lines) == 1 else 's'} {shown}"
