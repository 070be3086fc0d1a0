"""Series that a restorer was trained for, as ranges of a few numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from ddgm_dist.algorithm.restorer import Acquisition

__all__ = ["TrainedRanges"]

Range = tuple[float, float]
_ANY: Range = (-math.inf, math.inf)


@dataclass(frozen=True)
class TrainedRanges:
    """Ranges of the series that a restorer was trained for, each as (least, most).

    Attributes
    ----------
    max_angle_deg
        Half of the range of tilt angles, degrees; of a symmetric series the largest angle.
    step_deg
        Mean step between neighbouring tilts, degrees.
    thickness
        Thickness of the slab, voxels.
    noise
        Noise as a fraction of the projections' standard deviation.
    middle_deg
        Distance of the middle of the range of angles from zero tilt, degrees.
    gap_deg
        Largest step between neighbouring tilts, degrees.
    """

    max_angle_deg: Range = _ANY
    step_deg: Range = _ANY
    thickness: Range = _ANY
    noise: Range = _ANY
    middle_deg: Range = _ANY
    gap_deg: Range = _ANY

    @staticmethod
    def from_dict(values: object) -> TrainedRanges | None:
        """Restore them from a recipe; None where it has none that can be read."""
        if not isinstance(values, Mapping):
            return None
        try:
            found = {name: tuple(map(float, pair)) for name, pair in values.items()}
            return TrainedRanges(**{name: (low, high) for name, (low, high) in found.items()})
        except (TypeError, ValueError):
            return None

    def outside(self, acquisition: Acquisition, noise: float | None) -> tuple[str, ...]:
        """Clauses that say what of a series lies outside; empty where nothing does.

        Parameters
        ----------
        acquisition
            Angles and thickness.
        noise
            Noise as a fraction of the projections' standard deviation; None where it is unknown.
        """
        angles = sorted(acquisition.angles_deg)
        span, count = angles[-1] - angles[0], len(angles)
        gap = max((b - a for a, b in pairwise(angles)), default=0.0)
        step = span / max(1, count - 1)
        clauses = [
            _clause("a tilt range of {:g} degrees", span, self.max_angle_deg, 2),
            _clause(f"{count} tilts, {{:.3g}} degrees apart", step, self.step_deg),
            _clause("a middle of {:.3g} degrees", abs(angles[0] + angles[-1]) / 2, self.middle_deg),
            _clause("a gap of {:.3g} degrees between tilts", gap, self.gap_deg),
            _clause("a thickness of {:g} voxels", acquisition.thickness, self.thickness),
        ]
        if noise is not None:
            words = "noise of {:.3g} % of the projections' deviation"
            clauses.append(_clause(words, 100 * noise, self.noise, 100))
        return tuple(clause for clause in clauses if clause)


def _clause(words: str, value: float, within: Range, unit: float = 1) -> str:
    """The words for a value outside of a range, which is in so many units; empty for one inside."""
    low, high = (unit * end for end in within)
    # Angles are decimal fractions: their sums are rounded.
    if low - 1e-6 <= value <= high + 1e-6:
        return ""
    return f"{words.format(value)} (trained for {low:g} to {high:g})"
