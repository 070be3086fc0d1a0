"""Shifts of the views that the geometry does not explain, by correlation of neighbours in angle.

A slab's point (x, z) is seen at ``u = x cos + z sin + c``, where c is the offset of the tilt axis from
the detector's middle. Two neighbours are compared after the less tilted one has been narrowed by the
ratio of the cosines. What is left of the slab's motion, added up from zero tilt, is
``c (1 - cos) + z sin``. Here z is the depth of what the correlation follows. The rest is misalignment,
and along y everything is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddgm_dist.alignment.correlation import match, prepare

__all__ = ["ShiftEstimate", "estimate_shifts"]

Floats = NDArray[np.float64]

# Neighbours on the side of zero tilt that a view is compared with.
_NEIGHBOURS = 2
_LEAST_VIEWS = 5


@dataclass(frozen=True)
class ShiftEstimate:
    """Shifts, in pixels of the images that they were estimated from.

    Attributes
    ----------
    shifts
        ``(dy, dx)`` of each view that the geometry does not explain, in the order of the series.
    quality
        Correlation of each view with its neighbours.
    axis_offset
        Offset of the tilt axis from the middle, along u.
    axis_error
        Its standard error.
    depth
        Depth of the specimen's middle against the axis.
    """

    shifts: Floats
    quality: Floats
    axis_offset: float
    axis_error: float
    depth: float


def estimate_shifts(images: Sequence[Floats], angles_deg: Sequence[float]) -> ShiftEstimate | None:
    """Estimate the shifts of all views.

    Parameters
    ----------
    images
        Views ``(rows, columns)``, tilt axis along the rows' direction y; NaN where not measured.
    angles_deg
        Tilt angle of each view, degrees.

    Returns
    -------
    ShiftEstimate
        None where there are too few views.
    """
    if len(images) < _LEAST_VIEWS:
        return None
    moved, quality = _added_up(images, np.asarray(angles_deg, dtype=np.float64))
    theta = np.deg2rad(np.asarray(angles_deg, dtype=np.float64))
    basis = np.stack([1 - np.cos(theta), np.sin(theta), np.ones_like(theta)], axis=1)
    found, rest = _robust(basis, moved[:, 1])
    shifts = np.stack([moved[:, 0] - np.median(moved[:, 0]), rest], axis=1)
    inverse = np.linalg.pinv(basis.T @ basis)
    error = 1.4826 * float(np.median(np.abs(rest))) * math.sqrt(max(0.0, float(inverse[0, 0])))
    return ShiftEstimate(shifts, quality, float(found[0]), error, float(found[1]))


def _added_up(images: Sequence[Floats], angles: Floats) -> tuple[Floats, Floats]:
    """Shifts of all views against that of the least tilt, and correlations with their neighbours."""
    order = np.argsort(angles)
    start = int(np.argmin(np.abs(angles[order])))
    shifts, quality = np.zeros((len(images), 2)), np.ones(len(images))
    for side in (order[start:], order[: start + 1][::-1]):
        for k in range(1, len(side)):
            view = int(side[k])
            near = [int(v) for v in side[max(0, k - _NEIGHBOURS) : k]]
            found = np.array([_against(images, angles, view, other) for other in near])
            weight = np.maximum(found[:, 2], 1e-3) ** 2
            # A neighbour two steps away was shifted to where it should be, like the nearest.
            total = found[:, :2] + shifts[near]
            shifts[view] = (total * weight[:, None]).sum(axis=0) / weight.sum()
            quality[view] = found[:, 2].max()
    return shifts, quality


def _against(images: Sequence[Floats], angles: Floats, view: int, other: int) -> tuple[float, ...]:
    """Shift of a view against a less tilted one, in pixels of the view; and their correlation."""
    cosines = np.cos(np.deg2rad(angles))
    ratio = float(max(cosines[view], 0.05) / max(cosines[other], 0.05))
    # The other view as it would be at this tilt: narrower by the ratio, about the middle.
    narrow = _narrowed(images[other], ratio)
    return match(prepare(images[view]), prepare(narrow))


def _narrowed(image: Floats, ratio: float) -> Floats:
    middle = (image.shape[1] - 1) / 2
    known = np.isfinite(image)
    filled = np.where(known, image, float(np.mean(image[known])) if known.any() else 0.0)
    matrix, offset = np.array([1.0, 1 / ratio]), np.array([0.0, middle - middle / ratio])
    out = ndimage.affine_transform(filled, matrix, offset, order=1, mode="nearest")
    seen = ndimage.affine_transform(
        known.astype(np.float64), matrix, offset, order=1, mode="constant"
    )
    return np.where(seen > 0.5, out, np.nan)


def _robust(basis: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Coefficients and residuals of a fit by least absolute deviations, reweighted."""
    weights: Floats = np.ones(len(values))
    found: Floats = np.zeros(basis.shape[1])
    for _ in range(20):
        root = np.sqrt(weights)
        found = np.asarray(np.linalg.lstsq(basis * root[:, None], values * root, rcond=None)[0])
        rest = values - basis @ found
        weights = 1 / np.maximum(np.abs(rest), 1e-3 + 0.1 * float(np.median(np.abs(rest))))
    return found, np.asarray(values - basis @ found)
