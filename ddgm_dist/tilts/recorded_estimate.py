"""Estimates from sampled rows of a series, as its record keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ddgm_dist.core.intensity import Intensity
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.prior.likeness import Likeness

__all__ = ["Estimate", "RowsFit"]


@dataclass(frozen=True)
class RowsFit:
    """A fit of a few rows: what it leaves of them, and what the specimen looks like in it.

    Attributes
    ----------
    sums
        Sums of the residuals by view, in units of ``std``.
    rows
        Rows that the sums are over.
    std
        Standard deviation of the volume that the sums are normalised with, projection units per voxel.
    likeness
        Statistics of a first image of the rows; None where none was made, or it is too small.
    """

    sums: ViewSums
    rows: int
    std: float
    likeness: Likeness | None = None

    @staticmethod
    def from_dict(values: object) -> RowsFit | None:
        """Restore a fit from its plain values; None where there is none that is whole."""
        if not isinstance(values, Mapping):
            return None
        sums = ViewSums.from_dict(values.get("sums"))
        if sums is None:
            return None
        likeness = Likeness.from_dict(values.get("likeness"))
        return RowsFit(sums, int(values["rows"]), float(values["std"]), likeness)


@dataclass(frozen=True)
class Estimate:
    """Intensity of a series under a geometry, estimated from sampled rows.

    Attributes
    ----------
    intensity
        Mean, standard deviation and noise.
    omitted
        Tilt and detector row of lines that were left out.
    constant
        A constant that is in every pixel, and the specimen's own mean at zero tilt; None where there
        is none.
    noise
        Standard deviation of the noise of each tilt, projection units; 0 where it was not measured.
        Empty in records of former versions, and where the noise was given.
    unexplained
        Standard deviation of what no volume explains of each tilt, noise and misfit together. Empty
        where it was not estimated.
    fit
        The fit that it was estimated by. None in records of former versions, where the noise was
        given, and where the mean or the deviation is not the estimate.
    """

    intensity: Intensity
    omitted: tuple[tuple[int, int], ...] = ()
    constant: tuple[float, float] | None = None
    noise: tuple[float, ...] = ()
    unexplained: tuple[float, ...] = ()
    fit: RowsFit | None = None

    def with_given(self, mean: float | None, std: float | None) -> Estimate:
        """The estimate with a mean or a deviation that is given; without the fit if it differs."""
        own = self.intensity
        changed = replace(
            own, mean=own.mean if mean is None else mean, std=own.std if std is None else std
        )
        return replace(self, intensity=changed, fit=self.fit if changed == own else None)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Estimate:
        """Restore an estimate from `to_dict`; former versions had fewer keys.

        Raises
        ------
        KeyError, TypeError, ValueError
            The values are not those of an estimate.
        """
        constant = values["constant"]
        return Estimate(
            Intensity(**values["intensity"]),
            tuple((t, y) for t, y in values["omitted"]),
            None if constant is None else (constant[0], constant[1]),
            tuple(map(float, values.get("noise", ()))),
            tuple(map(float, values.get("unexplained", ()))),
            RowsFit.from_dict(values.get("fit")),
        )
