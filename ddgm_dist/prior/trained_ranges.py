"""Series that a restorer was trained for, as ranges of a few numbers."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.errors import InputError

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
    calls
        Calls of the restorer, all but the first with estimates; one where a recipe does not say.
    unknown
        Keys of a recipe that none of these is: of a newer version, or misspelt.
    """

    max_angle_deg: Range = _ANY
    step_deg: Range = _ANY
    thickness: Range = _ANY
    noise: Range = _ANY
    middle_deg: Range = _ANY
    gap_deg: Range = _ANY
    calls: Range = (1, 1)
    unknown: tuple[str, ...] = ()

    @staticmethod
    def from_dict(values: object, recipe: str) -> TrainedRanges | None:
        """Restore them from a recipe; None where it says nothing of them.

        Parameters
        ----------
        values
            What the recipe has under ``trained_for``.
        recipe
            Its path, for messages.

        Raises
        ------
        InputError
            A value is not a pair (least, most) of numbers; the message names its key.
        """
        if values is None:
            return None
        if not isinstance(values, Mapping):
            raise _unreadable(recipe, "trained_for", values, "is no table of ranges")
        found = {key: _range(recipe, key, value) for key, value in values.items() if key in _KEYS}
        return TrainedRanges(**found, unknown=tuple(str(key) for key in values if key not in _KEYS))

    def unread(self) -> tuple[str, ...]:
        """The keys that are not known, each with the one that may be meant."""
        near = {
            key: difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.75) for key in self.unknown
        }
        return tuple(f"{key} (for {n[0]}?)" if n else key for key, n in near.items())

    def outside(
        self, acquisition: Acquisition, noise: float | None, calls: int = 1
    ) -> tuple[str, ...]:
        """Clauses that say what of a series lies outside; empty where nothing does.

        Parameters
        ----------
        acquisition
            Angles and thickness.
        noise
            Noise as a fraction of the projections' standard deviation; None where it is unknown.
        calls
            Calls of the restorer.
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
            _clause("restorer_calls = {:g}", calls, self.calls),
        ]
        if noise is not None:
            words = "noise of {:.3g} % of the projections' deviation"
            clauses.append(_clause(words, 100 * noise, self.noise, 100))
        return tuple(clause for clause in clauses if clause)


# Keys of a recipe.
_KEYS = tuple(f.name for f in fields(TrainedRanges) if f.name != "unknown")


def _range(recipe: str, key: str, value: object) -> Range:
    match value:
        case [float() | int() as low, float() | int() as high] if low <= high:
            return float(low), float(high)
    raise _unreadable(recipe, f"trained_for.{key}", value, "is no pair (least, most) of numbers")


def _unreadable(recipe: str, key: str, value: object, why: str) -> InputError:
    return InputError(
        "restorer",
        recipe,
        f"{key} = {value!r} {why}",
        "correct the recipe, or copy it again together with the weights",
    )


def _clause(words: str, value: float, within: Range, unit: float = 1) -> str:
    """The words for a value outside of a range, which is in so many units; empty for one inside."""
    low, high = (unit * end for end in within)
    # Angles are decimal fractions: their sums are rounded.
    if low - 1e-6 <= value <= high + 1e-6:
        return ""
    return f"{words.format(value)} (trained for {low:g} to {high:g})"
