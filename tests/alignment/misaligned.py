"""Series with planted shifts, axis and noise, made from aligned projections."""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi

from ddgm_dist.tilts.metadata import TiltSeriesMeta

ANGLES = np.arange(-60.0, 61.0, 3.0)


@dataclass
class Planted:
    """Images ``(tilt, y, u)`` and what was planted, as ``(dy, dx)`` of each view."""

    images: np.ndarray
    angles: np.ndarray
    shifts: np.ndarray

    @property
    def meta(self):
        return TiltSeriesMeta(tuple(self.angles.tolist()), thickness_px=32)


def plant(
    projections,
    *,
    size=(128, 128),
    axis=0.0,
    shift=0.0,
    offset=0.0,
    noise=0.0,
    counts=False,
    hot=0,
    angles=ANGLES,
    seed=0,
):
    """Views of some size from aligned projections at `ANGLES`, of which those at ``angles`` are taken.

    Parameters
    ----------
    axis
        Degrees that the tilt axis is turned by, counter-clockwise where rows count upwards.
    shift
        Largest random shift, pixels.
    offset
        Offset of the axis along u, pixels.
    noise
        Standard deviation, as a share of that of the images.
    counts
        Add the noise of 3,000 counts.
    hot
        Hot pixels of each view.
    """
    r = np.random.default_rng(seed)
    shifts = r.uniform(-shift, shift, (len(angles), 2)) + np.array([0.0, offset])
    c, s = np.cos(np.deg2rad(axis)), np.sin(np.deg2rad(axis))
    y, x = (np.mgrid[: size[0], : size[1]].T - (np.array(size) - 1) / 2).T
    images = []
    for (dy, dx), angle in zip(shifts, angles, strict=True):
        view = projections[int(np.argmin(np.abs(ANGLES - angle)))].astype(float)
        at = np.array([[c, -s], [s, c]]) @ np.stack([(y - dy).ravel(), (x - dx).ravel()])
        middle = (np.array(view.shape) - 1) / 2
        moved = ndi.map_coordinates(view, at + middle[:, None], order=3, mode="nearest")
        images.append(moved.reshape(size))
    views = np.array(images)
    if counts:
        views = -np.log(np.maximum(r.poisson(3000 * np.exp(-views)), 1) / 3000)
    views += noise * views.std(axis=(1, 2)).mean() * r.standard_normal(views.shape)
    for view in views:
        view[r.integers(0, size[0], hot), r.integers(0, size[1], hot)] += 8 * views.std()
    return Planted(views, np.asarray(angles, dtype=float), shifts)


def left_over(found, planted):
    """Root mean squares of what the found shifts leave, but for shifts of the whole volume."""
    rest = np.array(found.shifts_px) + np.array([0.0, found.axis_offset_px or 0.0]) - planted.shifts
    theta = np.deg2rad(planted.angles)
    volume = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    along = rest[:, 1] - volume @ np.linalg.lstsq(volume, rest[:, 1], rcond=None)[0]
    return float(np.std(rest[:, 0])), float(np.sqrt(np.square(along).mean()))
