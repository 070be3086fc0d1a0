"""The residual of one view, or of all, against limits of what is explained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

__all__ = ["Limits", "ViewResidual", "total"]

# Limits, as in `Limits`, of a single view, whose residual is also larger than usual by a factor.
VIEW_STRUCTURE, VIEW_MISFIT, VIEW_FACTOR = 0.3, 0.2, 1.5


@dataclass(frozen=True)
class Limits:
    """Limits of what is explained.

    Data are not explained if the first three are exceeded, or the last two.

    Attributes
    ----------
    structure
        Magnitude of the structure.
    misfit
        Misfit.
    ratio
        Ratio: a residual that is far below the noise follows it, and what is left says little.
    excess_ratio, excess
        Ratio; what is left besides noise as a fraction of the contrast, root mean square.
    """

    structure: float = 0.1
    misfit: float = 0.03
    ratio: float = 0.7
    excess_ratio: float = 3.0
    excess: float = 0.1


@dataclass(frozen=True)
class ViewResidual:
    """Sums of one view, or of all."""

    squared: float
    samples: float
    spread: float
    shared: float

    @property
    def rms(self) -> float:
        """Root mean square of the residual per detector pixel."""
        return math.sqrt(self.squared / self.samples) if self.samples > 0 else math.nan

    @property
    def structure(self) -> float:
        """Share of the squared residual that pixels have in common."""
        return self.shared / self.squared if self.squared > 0 else 0.0

    @property
    def misfit(self) -> float:
        """The shared part against the data without what pixels do not share; 0 to 1."""
        shared = abs(self.shared)
        contrast = max(self.spread - self.squared + shared, shared)
        return math.sqrt(shared / contrast) if contrast > 0 else 0.0

    def ratio(self, noise: float) -> float:
        """The residual over the noise."""
        if noise > 0 or not self.samples > 0:
            return self.rms / noise if noise > 0 else math.nan
        return math.inf

    def exceeds(self, limits: Limits, noise: float) -> bool:
        """Return whether the data are not explained; without a noise, by the structure alone."""
        ratio, white = self.ratio(noise), self.samples * noise * noise
        contrast = self.spread - white
        excess = math.sqrt(max(self.squared - white, 0) / contrast) if contrast > 0 else math.inf
        shared = abs(self.structure) > limits.structure and self.misfit > limits.misfit
        above = noise > 0 and ratio > limits.excess_ratio and excess > limits.excess
        return (shared and ratio > limits.ratio) or above

    def stands_out(self, usual: float) -> bool:
        """Return whether it fits worse than views usually do, and not because of its noise."""
        return (
            self.rms > VIEW_FACTOR * usual
            and abs(self.structure) > VIEW_STRUCTURE
            and self.misfit > VIEW_MISFIT
        )


def total(views: Sequence[ViewResidual]) -> ViewResidual:
    """Sums of several views."""
    return ViewResidual(
        *(sum(getattr(view, f.name) for view in views) for f in fields(ViewResidual))
    )
