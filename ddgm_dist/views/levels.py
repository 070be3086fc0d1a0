"""The level of the incident beam in each view, estimated from the views themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.views.brightest import brightest_level, refuse_black
from ddgm_dist.views.cosine_law import LEAST_SPAN, CosineLaw, fit_cosine_law, path_length
from ddgm_dist.views.counts_evidence import looks_like_counts
from ddgm_dist.views.own_level import has_own_vacuum
from ddgm_dist.views.robust import robust_fit, robust_scale
from ddgm_dist.views.statistics import QUANTILES

__all__ = ["Levels", "estimate_levels"]

Floats = NDArray[np.float64]

# A view stands out whose level is off by so many deviations of the others, and by so much.
_ERRORS, _APART = 5.0, 0.1
# A level of vacuum is above the mean by so much, in the logarithm; more where the tilts cannot show
# that it is the same in all of them.
_ABOVE, _FAR_ABOVE = 0.03, 0.15
# It varies over the tilts by at most this share of that, or by so much.
_VARIES, _STEADY = 0.25, 0.02
# Doubts remain unless the slab's line integral is so many of its errors.
_SURE = 2.0
# A drift counts if it leaves so small a share of the scatter.
_BETTER = 0.6
# Means scatter by this much where the beam is steady: each view shows another part of the specimen.
_UNSTEADY = 0.02
# Degrees of the polynomial that follows what the specimen does to the mean.
_MOST_DEGREE, _VIEWS_A_DEGREE = 5, 6


@dataclass(frozen=True)
class Levels:
    """Counts that the beam without a specimen makes.

    Attributes
    ----------
    per_view
        Level of each view, counts above the dark ones; gains included.
    common
        The level that all views share, for the median exposure.
    gains
        Factor of each view beyond the common level and its exposure; 1 for views that stand out.
    how
        ``"vacuum"``: the brightest stable level of each view. ``"cosine"``: the mean against 1 / cos.
    thickness
        Mean line integral at zero tilt that follows, about.
    error
        Standard deviation of the common level's logarithm, which is an error of all line integrals.
    scatter
        Robust standard deviation of the gains' logarithms.
    outliers
        Views that stand out, counted from 0, or whose mean is not positive. Their level is that of the
        others.
    own
        Views that stand out, counted from 0, and keep their level: their vacuum is well measured.
    offset_deg
        Inclination of the slab that explains the means, degrees; 0 unless clear.
    """

    per_view: tuple[float, ...]
    common: float
    gains: tuple[float, ...]
    how: Literal["vacuum", "cosine"]
    thickness: float
    error: float
    scatter: float
    outliers: tuple[int, ...]
    offset_deg: float = 0.0
    own: tuple[int, ...] = ()

    @property
    def quality(self) -> float:
        """Mean line integral at zero tilt over the error of all; below 5 is doubtful."""
        return self.thickness / max(self.error, 1e-6)


def estimate_levels(
    means: Sequence[float],
    angles_deg: Sequence[float],
    quantiles: ArrayLike | None = None,
    *,
    probabilities: Sequence[float] = QUANTILES,
    exposures: Sequence[float] | None = None,
    order: Sequence[int] | None = None,
) -> Levels:
    """Estimate the incident level of each view.

    Vacuum in the views has a level that is above the mean and that is the same at all tilts. It must
    fill 8 % of most views, or more. A view that stands out keeps the level of its own vacuum where its
    transmissions are those of the views beside it; else it gets that of the others. Without vacuum
    the specimen is taken for a slab, whose mean falls as
    :mod:`ddgm_dist.views.cosine_law` says. What a view's mean deviates from that is taken for its gain.
    A specimen that is unevenly dense makes such a level wrong by about a tenth of the line integral,
    and ``error`` does not include that.

    Parameters
    ----------
    means
        Mean of each view above the dark counts; NaN where it has none.
    angles_deg
        Tilts, degrees.
    quantiles
        Of each view above the dark counts, shape (views, probabilities). Those of a thumbnail are
        better than those of the pixels, for they are less noisy. None to look for no vacuum.
    probabilities
        Of the quantiles, rising; those of :mod:`ddgm_dist.views.brightest` are best.
    exposures
        Exposure of each view in any unit, where it is known.
    order
        Rank of each view in the order of acquisition, where it is known. It tells a beam that fades
        from a slab.

    Raises
    ------
    InputError
        Sizes differ, exposures are not positive, or the views do not show the level: too few, tilts
        too alike, or a mean that does not fall with the tilt.
    """
    mean = np.asarray(means, dtype=np.float64)
    angles = np.asarray(angles_deg, dtype=np.float64)
    exposure = np.ones_like(mean) if exposures is None else np.asarray(exposures, dtype=np.float64)
    if not mean.shape == angles.shape == exposure.shape:
        sizes = (mean.size, angles.size, exposure.size)
        raise InputError("counts", sizes, "means, angles and exposures are not equally many")
    if not (np.isfinite(exposure).all() and (exposure > 0).all()):
        raise InputError("exposures", exposure.min(), "must be numbers above 0")
    log_exposure = np.log(exposure) - np.median(np.log(exposure))
    usable = np.isfinite(mean) & (mean > 0)
    log_mean = np.full(mean.shape, np.nan)
    log_mean[usable] = np.log(mean[usable]) - log_exposure[usable]
    if quantiles is not None:
        levels = brightest_level(quantiles, probabilities)
        good = usable & np.isfinite(levels) & (levels > 0)
        log_levels = np.full(mean.shape, np.nan)
        log_levels[good] = np.log(levels[good]) - log_exposure[good]
        values = np.asarray(quantiles, dtype=np.float64)

        def same(apart: NDArray[np.bool_]) -> NDArray[np.bool_]:
            return has_own_vacuum(values, levels, probabilities, angles, apart)

        found = _vacuum(log_levels, log_mean, angles, log_exposure, same)
        if found is not None:
            refuse_black(values, levels)
            return found
    rank = np.zeros_like(mean) if order is None else np.asarray(order, dtype=np.float64)
    if rank.shape != mean.shape:
        raise InputError("counts", rank.size, f"ranks of acquisition, but {mean.size} views")
    return _cosine(log_mean, angles, log_exposure, rank)


def _vacuum(
    log_levels: Floats,
    log_mean: Floats,
    angles: Floats,
    log_exposure: Floats,
    same: Callable[[NDArray[np.bool_]], NDArray[np.bool_]],
) -> Levels | None:
    """Levels from vacuum in the views; None if there is none.

    ``same`` returns which of the views that stand out show the specimen as those beside them do.
    """
    known = np.isfinite(log_levels)
    if known.sum() < max(1, len(known) // 2):
        return None
    above = float(np.median((log_levels - log_mean)[known]))
    law = fit_cosine_law(log_levels, angles)
    if law is None:
        if above < _FAR_ABOVE:
            return None
    else:
        path = path_length(angles)
        falls = abs(law.thickness) * float(np.ptp(path[known & np.isfinite(path)]))
        slack = 2 * law.error
        if above < _ABOVE or falls > max(_STEADY, _VARIES * above) + min(slack, above / 4):
            return None
    common = float(np.median(log_levels[known]))
    gains, scatter, outliers = _gains(log_levels - common)
    apart = np.isin(np.arange(len(gains)), outliers)
    own = apart & same(apart)
    gains = np.where(own, log_levels - common, gains)
    outliers = tuple(int(i) for i in np.flatnonzero(apart & ~own))
    error = scatter / np.sqrt(known.sum())
    path = path_length(angles)
    flat = known & np.isfinite(path)
    thickness = (
        above if not flat.any() else float(np.median((log_levels - log_mean)[flat] / path[flat]))
    )
    found = _levels(
        common, gains, log_exposure, "vacuum", thickness, float(error), scatter, outliers
    )
    return replace(found, own=tuple(int(i) for i in np.flatnonzero(own)))


def _cosine(log_mean: Floats, angles: Floats, log_exposure: Floats, rank: Floats) -> Levels:
    """Levels from the mean against 1 / cos."""
    hint = "give the level by --counts I0, or one for each view in a file"
    law = fit_cosine_law(log_mean, angles)
    if law is None:
        raise InputError(
            "counts",
            "auto",
            f"too few views, or tilts too alike: 1 / cos must reach over {LEAST_SPAN:g}",
            hint,
        )
    ranks = [int(r) for r in rank] if rank.any() else None
    evidence = looks_like_counts(np.exp(log_mean).tolist(), angles.tolist(), order=ranks)
    law, drift = _without_drift(law, log_mean, angles, rank)
    if evidence is None or law.thickness <= _SURE * law.error:
        raise InputError(
            "counts",
            "auto",
            "no vacuum is seen, and the mean does not fall with the tilt as that of a slab",
            hint + "; do these views hold line integrals already?",
        )
    gains, scatter, outliers = _gains(law.residuals - _smooth(law.residuals, angles))
    if scatter < _UNSTEADY:
        gains = np.zeros_like(gains)
    common, thickness, error = law.log_level, law.thickness, law.error
    gains = gains + drift
    return _levels(
        common, gains, log_exposure, "cosine", thickness, error, scatter, outliers, law.offset_deg
    )


def _smooth(residuals: Floats, angles: Floats) -> Floats:
    """The part of the residuals that changes slowly with the tilt.

    It is the specimen's, whose density is not the same everywhere: a beam does not know the angle. A
    polynomial has one degree for each `_VIEWS_A_DEGREE` views, and five at most.
    """
    known = np.isfinite(residuals)
    degree = min(_MOST_DEGREE, int(known.sum()) // _VIEWS_A_DEGREE)
    if degree < 1:
        return np.zeros_like(residuals)
    at = angles / max(1.0, float(np.abs(angles).max()))
    basis = np.stack([at**k for k in range(degree + 1)], axis=1)
    found, _ = robust_fit(basis[known], residuals[known])
    return np.asarray(basis @ found, dtype=np.float64)


def _without_drift(
    law: CosineLaw, log_mean: Floats, angles: Floats, rank: Floats
) -> tuple[CosineLaw, Floats]:
    """The law beside a drift with the order, and that drift, if this explains the means far better."""
    none = np.zeros_like(log_mean)
    path = path_length(angles)
    seen = np.isfinite(log_mean) & np.isfinite(path)
    if np.ptp(rank[seen]) == 0:
        return law, none
    rank = (rank - np.median(rank)) / float(np.ptp(rank[seen]))
    basis = np.stack([path, np.ones_like(path), rank], axis=1)[seen]
    drift = float(robust_fit(basis, log_mean[seen])[0][2]) * rank
    other = fit_cosine_law(log_mean - drift, angles)
    if other is None or other.scatter >= _BETTER * law.scatter:
        return law, none
    return other, drift


def _gains(residuals: Floats) -> tuple[Floats, float, tuple[int, ...]]:
    """Logarithms of the gains, their scatter, and the views that stand out or are not known."""
    scatter = robust_scale(residuals)
    middle = float(np.nanmedian(residuals))
    with np.errstate(invalid="ignore"):
        off = ~(np.abs(residuals - middle) <= max(_ERRORS * scatter, _APART))
    return np.where(off, 0.0, residuals), scatter, tuple(int(i) for i in np.flatnonzero(off))


def _levels(
    common: float,
    gains: Floats,
    log_exposure: Floats,
    how: Literal["vacuum", "cosine"],
    thickness: float,
    error: float,
    scatter: float,
    outliers: tuple[int, ...],
    offset_deg: float = 0.0,
) -> Levels:
    per_view = np.exp(common + gains + log_exposure)
    return Levels(
        tuple(float(level) for level in per_view),
        float(np.exp(common)),
        tuple(float(gain) for gain in np.exp(gains)),
        how,
        thickness,
        error,
        scatter,
        outliers,
        offset_deg,
    )
