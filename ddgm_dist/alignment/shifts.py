"""Shifts of the views that the geometry does not explain, by correlation of neighbours in angle.

A slab's point (x, z) is seen at ``u = x cos + z sin + c``, where c is the offset of the tilt axis from
the detector's middle. Two neighbours are compared after the less tilted one has been narrowed by the
ratio of the cosines. What is left of the slab's motion, added up from the least tilt, is
``c (1 - cos) + z sin + a cos``. Here z is the depth of what the correlation follows. The last term is
the first view's own shift, which is narrowed from view to view. The rest is misalignment, and along y
everything is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddgm_dist.alignment.correlation import Match, match, prepare
from ddgm_dist.alignment.isolated import centres_of_mass
from ddgm_dist.views.robust import robust_fit, robust_scale

__all__ = ["ShiftEstimate", "estimate_shifts"]

Floats = NDArray[np.float64]

# Neighbours on the side of zero tilt that a view is compared with.
_NEIGHBOURS = 2
_LEAST_VIEWS = 5
# Median angle between neighbours, degrees, beyond which they are too little alike.
_APART = 12.0
# Least edge of the images, pixels, and largest cosine of the steepest tilt that shows the axis.
_LEAST_EDGE, _LEAST_COSINE = 48, 0.85
# Views from which on their order is judged, and how many steps off a view is that is compared.
_LEAST_ORDERED, _FAR = 12, 4


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
        Offset of the tilt axis from the middle, along u; None where the tilts are too small for it.
    axis_error
        Its standard error, as far as the shifts are at random.
    isolated
        True if the specimen is alone in a vacuum, so that its centre of mass was followed.
    in_order
        Share of views that are more like their neighbours than like views farther off: about 1 if angles
        and views belong together.
    """

    shifts: Floats
    quality: Floats
    axis_offset: float | None
    axis_error: float
    isolated: bool
    in_order: float


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
        None where there are too few views, or they are too small or too far apart in angle.
    """
    angles = np.asarray(angles_deg, dtype=np.float64)
    if len(images) < _LEAST_VIEWS or float(np.median(np.diff(np.sort(angles)))) > _APART:
        return None
    if min(images[0].shape) < _LEAST_EDGE:
        return None
    views, theta = [prepare(image) for image in images], np.deg2rad(angles)
    centres = centres_of_mass(images)
    # A slab gets narrower with its tilt, what stands in a vacuum does not.
    cosines = np.maximum(np.cos(theta), 0.05) if centres is None else np.ones_like(theta)
    moved, quality = _added_up(views, angles, cosines)
    along = moved[:, 1] if centres is None else centres
    # The first view's own shift is carried on with the cosine.
    terms = [np.sin(theta), np.cos(theta)]
    # A cosine that hardly changes is much like a constant.
    clear = float(np.cos(theta).min()) < _LEAST_COSINE
    if clear:
        terms.append(np.ones_like(theta))
    basis = np.stack(terms, axis=1)
    found, weights = robust_fit(basis, along)
    rest = along - basis @ found
    inverse = np.linalg.pinv((basis * weights[:, None]).T @ basis)
    error = robust_scale(rest) * math.sqrt(max(0.0, float(inverse[-1, -1])))
    return ShiftEstimate(
        shifts=np.stack([moved[:, 0] - np.median(moved[:, 0]), rest], axis=1),
        quality=quality,
        axis_offset=float(found[-1]) if clear else None,
        axis_error=error,
        isolated=centres is not None,
        in_order=_in_order(views, angles, cosines),
    )


def _added_up(views: Sequence[Floats], angles: Floats, cosines: Floats) -> tuple[Floats, Floats]:
    """Shifts of all views against that of the least tilt, and correlations with their neighbours."""
    order = np.argsort(angles, kind="stable")
    start = int(np.argmin(np.abs(angles[order])))
    shifts, quality = np.zeros((len(views), 2)), np.ones(len(views))
    for side in (order[start:], order[: start + 1][::-1]):
        for k in range(1, len(side)):
            view = int(side[k])
            near = [int(v) for v in side[max(0, k - _NEIGHBOURS) : k]]
            found = np.array([_against(views, cosines, view, other) for other in near])
            weight = np.maximum(found[:, 2], 1e-3) ** 2
            # What a neighbour is shifted by is narrowed with it.
            before = shifts[near] * np.stack(
                [np.ones(len(near)), [_ratio(cosines, view, other) for other in near]], axis=1
            )
            shifts[view] = ((found[:, :2] + before) * weight[:, None]).sum(axis=0) / weight.sum()
            quality[view] = found[:, 2].max()
    return shifts, quality


def _in_order(views: Sequence[Floats], angles: Floats, cosines: Floats) -> float:
    """Share of views that are more like their neighbour in angle than like a view farther off."""
    order = [int(v) for v in np.argsort(angles, kind="stable")]
    count, best = len(order), 0.0
    if count < _LEAST_ORDERED:
        return 1.0
    near = [_against(views, cosines, a, b)[2] for a, b in pairwise(order)]
    for step in (_FAR, max(_FAR, count // 4)):
        far = [
            _against(views, cosines, order[k], order[k + step if k + step < count else k - step])[2]
            for k in range(count - 1)
        ]
        best = max(best, float(np.mean(np.array(near) > np.array(far))))
    return best


def _ratio(cosines: Floats, view: int, other: int) -> float:
    """Width of a slab in one view, as a share of that in another."""
    return float(cosines[view] / cosines[other])


def _against(views: Sequence[Floats], cosines: Floats, view: int, other: int) -> Match:
    """Shift of a view against another, in pixels of the view; and their correlation."""
    # The other view as it would be at this tilt: narrower by the ratio, about the middle.
    return match(views[view], _narrowed(views[other], _ratio(cosines, view, other)))


def _narrowed(image: Floats, ratio: float) -> Floats:
    middle = (image.shape[1] - 1) / 2
    matrix, offset = np.array([1.0, 1 / ratio]), np.array([0.0, middle - middle / ratio])
    out = np.asarray(ndimage.affine_transform(image, matrix, offset, order=1, mode="constant"))
    norm = float(np.linalg.norm(out))
    return out / norm if norm > 0 else out
