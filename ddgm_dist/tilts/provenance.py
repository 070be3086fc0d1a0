"""Where everything in a tilt series comes from, and which files beside it were not used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ddgm_dist.core.view_names import degrees

__all__ = ["Fact", "LeftOut", "Provenance", "Unused", "ViewRecord", "degrees", "ranges"]

# Names of the beam in facts: counts, or a share where there is a flat field.
_BEAM = ("counts of the beam", "transmission of the beam")


@dataclass(frozen=True)
class Fact:
    """One property of the series: its name, its value, and the file or option that it comes from."""

    what: str
    value: str
    origin: str


@dataclass(frozen=True)
class Unused:
    """Something that lies beside the source and was not used, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class LeftOut:
    """A view of the source that is not in the series.

    Attributes
    ----------
    view
        Number of the view in the source, from 1.
    angle_deg
        Its tilt angle, degrees; None where it is unknown.
    why
        Reason, as a clause.
    """

    view: int
    angle_deg: float | None
    why: str


@dataclass(frozen=True)
class ViewRecord:
    """Record of what was done to one view of the series.

    Attributes
    ----------
    view
        Number of the view in the source, from 1.
    angle_deg
        Its tilt angle, degrees.
    hot
        Hot pixels that were imputed.
    floored
        Pixels of the source without a count within what is stored; unmeasured ones and hot ones, which
        are imputed, are left out. A stored pixel without a count is taken for half a quantum.
    level
        Counts of the beam without a specimen; None where no logarithm was taken.
    sigma_y
        Noise of the line integrals by the counts; None where unknown.
    """

    view: int
    angle_deg: float
    hot: int = 0
    floored: int = 0
    level: float | None = None
    sigma_y: float | None = None


@dataclass
class Provenance:
    """The record of one ingest; it is kept in the store's attribute.

    Attributes
    ----------
    facts, unused, left_out, views
        See the classes.
    warnings
        Warnings, one line each.
    """

    facts: list[Fact] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    views: list[ViewRecord] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def say(self, what: str, value: str, origin: str) -> None:
        """Add a fact."""
        self.facts.append(Fact(what, value, origin))

    def skip(self, name: str, why: str) -> None:
        """Add something that was not used."""
        self.unused.append(Unused(name, why))

    @property
    def beam(self) -> Fact | None:
        """The beam that the logarithm was taken of; None where none was taken."""
        return next((f for f in reversed(self.facts) if f.what in _BEAM), None)

    @property
    def beam_origin(self) -> Literal["estimated", "given", "unknown"]:
        """Origin of that beam: the mean of the views, or something that is known; if there is one."""
        if self.beam is None:
            return "unknown"
        return "estimated" if self.beam.origin.startswith("estimated: mean") else "given"

    @property
    def values_assumed(self) -> bool:
        """True if values were taken as they are since nothing says that they are counts."""
        return any(f.what == "values" and f.origin.startswith("assumed") for f in self.facts)

    def left_out_together(self) -> list[tuple[str, str]]:
        """Views that were left out for the same reason, as text, and the reason."""
        together = dict[str, list[LeftOut]]()
        for view in self.left_out:
            together.setdefault(view.why, []).append(view)
        found = list[tuple[str, str]]()
        for why, views in together.items():
            if len(views) == 1:
                name = f"view {views[0].view} ({degrees(views[0].angle_deg)})"
            else:
                name = f"views {ranges(sorted(view.view for view in views))}"
            found.append((name, why))
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Provenance:
        """Restore a record from `to_dict`.

        Raises
        ------
        KeyError, TypeError
            The values are not such a dictionary.
        """
        return Provenance(
            [Fact(**v) for v in values["facts"]],
            [Unused(**v) for v in values["unused"]],
            [LeftOut(**v) for v in values["left_out"]],
            [ViewRecord(**v) for v in values["views"]],
            list(values["warnings"]),
        )


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as IMOD writes lists of views: ``1,7,33-35``."""
    parts, start = list[str](), 0
    for i in range(1, len(numbers) + 1):
        if i < len(numbers) and numbers[i] == numbers[i - 1] + 1:
            continue
        first, last = numbers[start], numbers[i - 1]
        parts.append(str(first) if first == last else f"{first}-{last}")
        start = i
    return ",".join(parts)
