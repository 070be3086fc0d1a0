"""Sums over the measured samples of each view, from which a run's fit to its data is judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

__all__ = ["ViewSums"]

# Digits that a receipt keeps: sums of many tiles stay exact enough, and the file small.
_DIGITS = 8


@dataclass(frozen=True)
class ViewSums:
    """Sums by view, in normalised units; those of tiles that share no sample can be added.

    Attributes
    ----------
    squared
        Squared residual of the final estimate.
    samples
        Squared residual that white noise of unit variance on the detector would leave: the number of
        measured detector samples, less what interpolation takes of their noise.
    spread
        Squared deviation of the data from the mean of each block of rows.
    shared
        The part of ``squared`` that pixels some way apart share; around 0 if the residual is noise.
    """

    squared: tuple[float, ...]
    samples: tuple[float, ...]
    spread: tuple[float, ...]
    shared: tuple[float, ...]

    @classmethod
    def zero(cls, views: int) -> ViewSums:
        """Sums over nothing."""
        return cls(*((0.0,) * views for _ in range(len(fields(cls)))))

    @classmethod
    def from_dict(cls, found: object) -> ViewSums | None:
        """The sums in a file; None where there are none, or they are no finite numbers."""
        names = [field.name for field in fields(cls)]
        if not isinstance(found, Mapping) or not all(_finite(found.get(name)) for name in names):
            return None
        parts = [tuple(float(value) for value in found[name]) for name in names]
        return cls(*parts) if len({len(part) for part in parts}) == 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {k: [float(f"{v:.{_DIGITS}g}") for v in part] for k, part in asdict(self).items()}

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.squared)

    def __add__(self, other: ViewSums) -> ViewSums:
        """Sums over the samples of both."""
        mine, more = astuple(self), astuple(other)
        return ViewSums(
            *(
                tuple(a + b for a, b in zip(*pair, strict=True))
                for pair in zip(mine, more, strict=True)
            )
        )


def _finite(values: object) -> bool:
    """Return whether a value is a list of finite numbers."""
    return isinstance(values, list | tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values
    )
