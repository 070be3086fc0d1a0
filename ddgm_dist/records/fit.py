"""The verdict on a run: whether its volume explains the data, overall and view by view.

Two figures are taken from the residual of the final estimate.

*ratio*: its root mean square over sigma_y, the noise of the projections. A volume that explains its
data has about 1, or less where it follows some of the noise. But sigma_y is an estimate itself. In
images that were resampled it is too small, and the ratio is 1.3 to 1.5 although nothing is wrong.

*structure*: the share of the squared residual that pixels some way apart have in common. Noise has
none, whatever its level. So the verdict rests on it, and on *misfit*, the size of that shared part
against the contrast that the data have besides noise. Detail that is finer than the distance may leave
no such share. So a residual that is far above the noise, and large against the contrast, counts too.

docs/verdict.md has the measurements behind the limits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from statistics import median
from typing import Any

from ddgm_dist.core.intensity import Intensity
from ddgm_dist.core.view_names import ViewNames
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.records.fit_causes import Beam, likely_causes
from ddgm_dist.records.view_residual import Limits, ViewResidual, total

__all__ = ["Fit", "Limits"]


# Views that stand out are the cause as long as they are few.
_FEW = 0.25
# Views that are named, and causes in a warning.
_SHOWN, _WARNED = 5, 3


@dataclass(frozen=True)
class Fit:
    """The verdict on a run: how well the final estimate explains the data.

    Attributes
    ----------
    explained
        Whether the data are explained: the residual is noise, in all views.
    ratio
        Root-mean-square residual of all measured samples over sigma_y; infinite if sigma_y is 0.
    views
        The same of each view, in the order of the array; NaN where a view has no measured sample.
    residual, sigma_y
        Root-mean-square residual and noise per detector pixel, in the data's unit.
    structure
        Share of the squared residual that pixels some way apart have in common; negative where it
        changes its sign in between.
    misfit
        That part as a fraction of the data's contrast without noise, root mean square.
    worst_indices
        Array indices, from 0, of the views with a measured sample; largest ratio first.
    bad_indices
        Array indices of those that fit far worse than the others, if they are few.
    coverage
        Fraction of the volume that the figures are of; below 1 if former versions wrote parts of it.
    names
        Names of the views.
    beam
        Origin of the beam that the data are a logarithm of.
    """

    explained: bool
    ratio: float
    views: tuple[float, ...]
    residual: float
    sigma_y: float
    structure: float
    misfit: float
    worst_indices: tuple[int, ...]
    bad_indices: tuple[int, ...] = ()
    coverage: float = 1.0
    names: ViewNames = field(default_factory=ViewNames)
    beam: Beam = "unknown"

    @property
    def worst(self) -> tuple[int, ...]:
        """Numbers of the views in their source, from 1; largest ratio first."""
        return tuple(map(self.names.number, self.worst_indices))

    @property
    def bad(self) -> tuple[int, ...]:
        """Numbers, in their source, of the views that fit far worse than the others."""
        return tuple(map(self.names.number, self.bad_indices))

    @property
    def causes(self) -> tuple[str, ...]:
        """Likely causes, the likeliest first; none if the data are explained."""
        return () if self.explained else likely_causes(self.misfit, self.beam, bad=bool(self.bad))

    @classmethod
    def judge(
        cls,
        sums: ViewSums,
        intensity: Intensity,
        coverage: float = 1.0,
        limits: Limits | None = None,
        *,
        names: ViewNames | None = None,
        beam: Beam = "unknown",
    ) -> Fit | None:
        """The verdict on sums over all tiles; None if nothing was measured.

        Parameters
        ----------
        sums
            Sums over the samples, in normalised units.
        intensity
            Gives sigma_y, and the data's unit.
        coverage
            Fraction of the volume that the sums are over.
        limits
            Limits of what is explained; those of a run when None.
        names
            Names of the views; those of the array when None.
        beam
            Origin of the beam that the data are a logarithm of.
        """
        limits = limits or Limits()
        each = [ViewResidual(*parts) for parts in zip(*asdict(sums).values(), strict=True)]
        whole = total(each)
        if not whole.samples > 0:
            return None
        noise = intensity.relative_noise
        ratios = tuple(view.ratio(noise) for view in each)
        order = sorted((-view.rms, t) for t, view in enumerate(each) if view.samples > 0)
        usual = median(view.rms for view in each if view.samples > 0)
        bad = tuple(t for _, t in order if each[t].stands_out(usual))
        # Where all views fit badly, some do so more than others: those are not to blame.
        rest = total([view for t, view in enumerate(each) if t not in bad])
        far_worse = not rest.exceeds(limits, noise) or rest.misfit < whole.misfit / 2
        if len(bad) > _FEW * len(each) or not far_worse:
            bad = ()
        return cls(
            explained=not bad and not whole.exceeds(limits, noise),
            ratio=whole.ratio(noise),
            views=ratios,
            residual=whole.rms * intensity.std,
            sigma_y=intensity.sigma_y,
            structure=whole.structure,
            misfit=whole.misfit,
            worst_indices=tuple(t for _, t in order),
            bad_indices=bad,
            coverage=coverage,
            names=names or ViewNames(),
            beam=beam,
        )

    @classmethod
    def from_dict(cls, found: object) -> Fit | None:
        """The verdict in a file; None where there is none, or it is damaged."""
        try:
            values: dict[str, Any] = {**found} if isinstance(found, Mapping) else {}
            values["views"] = tuple(math.nan if v is None else float(v) for v in values["views"])
            values["ratio"] = math.inf if values["ratio"] is None else float(values["ratio"])
            numbers, angles = values.pop("view_numbers", None), values.pop("angles_deg", ())
            values["names"] = ViewNames(
                tuple(map(float, angles)), None if numbers is None else tuple(map(int, numbers))
            )
            values.pop("causes", None)
            for key in ("worst", "bad"):
                # Former versions numbered the stored views from 1.
                stored = [number - 1 for number in values.pop(key)]
                values[f"{key}_indices"] = tuple(values.get(f"{key}_indices", stored))
            return cls(**values)
        except (KeyError, TypeError, ValueError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; None where a view has no ratio, or sigma_y is 0.

        ``worst`` and ``bad`` are numbers in the source, as ``--exclude`` takes them. ``view_numbers``
        has that of each stored view, and is None where they are unknown.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "names"}
        numbers = self.names.numbers
        return {
            **values,
            "ratio": _finite(self.ratio),
            "views": [_finite(v) for v in self.views],
            "worst": list(self.worst),
            "bad": list(self.bad),
            "worst_indices": list(self.worst_indices),
            "bad_indices": list(self.bad_indices),
            "view_numbers": None if numbers is None else list(numbers),
            "angles_deg": list(self.names.angles_deg),
            "causes": list(self.causes),
        }

    def summary(self) -> str:
        """The verdict in a clause, without views and causes."""
        if math.isfinite(self.ratio):
            size = f"the residual is {self.ratio:.3g} times the noise (sigma_y {self.sigma_y:.4g})"
        else:
            size = f"the residual is {self.residual:.4g} per pixel, where sigma_y is 0"
        part = "" if self.coverage >= 1 else f", in {100 * self.coverage:.0f} % of the volume"
        if self.explained and Limits.excess_ratio < self.ratio < math.inf and self.structure:
            left = self.misfit / math.sqrt(abs(self.structure))
            return f"data explained but for {_percent(left)} of their contrast: {size}{part}"
        if self.explained:
            return f"data explained: {size}{part}"
        shared = f", and {100 * abs(self.structure):.0f} % of its square is structure"
        return f"data NOT explained: {size}{'' if self.bad else shared}{part}"

    def text(self) -> str:
        """The verdict in lines: the figures, and where data are not explained views and causes."""
        return "\n".join([self.summary(), *self._blame()])

    def outlook(self) -> str:
        """The verdict on a quick fit of a few rows, in lines."""
        if self.explained:
            return "a quick fit of a few rows finds nothing that speaks against the data"
        left = (
            f"{_percent(self.misfit)} of their contrast is left, {self.ratio:.3g} times the noise"
        )
        what = f"a quick fit of a few rows does NOT explain the data: {left}"
        return "\n".join([what, *self._blame()])

    def warning(self) -> str | None:
        """One sentence with the likeliest causes; None if the data are explained."""
        if self.explained:
            return None
        first = enumerate(self.causes[:_WARNED], start=1)
        listed = "; ".join(f"({n}) {cause}" for n, cause in first)
        return f"{self.summary()}; likely causes: {listed}"

    def _blame(self) -> list[str]:
        """Worst views and likely causes, a line each."""
        if self.explained:
            return []
        which = "views that do not fit" if self.bad else "worst views"
        shown = self.names.listed(self.bad_indices or self.worst_indices, _SHOWN)
        note = f"; {self.names.note}" if self.names.note else ""
        causes = [f"  {n}. {cause}" for n, cause in enumerate(self.causes, start=1)]
        return [f"{which}: {shown}{note}", "likely causes, the likeliest first:", *causes]


def _percent(share: float) -> str:
    """A share to two digits, or to the whole percent from 100 on."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
