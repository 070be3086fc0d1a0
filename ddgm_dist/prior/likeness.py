"""Polarity and pixel size of an image, against those of the images that a denoiser was trained on.

Skewness of the grey levels says little of polarity, for large structures dominate it. Membranes are
thin. So the skewness of fine detail is used, which is negative where they are dark. The pixel size shows
in the power of fine detail against that of coarse detail, by octaves of width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Likeness", "measure_likeness", "mismatches"]

Floats = NDArray[np.floating[Any]]

# Widths of Gaussians, pixels, between which power is measured; and those that fine detail is seen at.
_WIDTHS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
_FINE, _BACKGROUND = (0.7, 1.0), 3.0
# Power of white noise between the second two widths, and what it has between the first two.
_WHITE = 0.137
_LEAST_COLUMNS, _LEAST_PIXELS = 96, 20_000
# Skewness of the other sign that is clear; largest sound differences of fine power, octaves.
_CLEAR, _COARSER, _FINER = 0.09, 0.75, 1.2
# Share of the fine power that must not be noise.
_OWN = 0.5


@dataclass(frozen=True)
class Likeness:
    """Statistics of images; none depends on brightness or contrast.

    Attributes
    ----------
    skewness
        Of detail of about one pixel, at two widths.
    power
        Of detail between widths of 0, 1, 2, 4, 8 and 16 pixels along x, as a share of the last.
    """

    skewness: tuple[float, ...]
    power: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {key: list(value) for key, value in asdict(self).items()}

    @staticmethod
    def from_dict(values: object) -> Likeness | None:
        """Restore statistics from `to_dict`; None where there are none that are whole."""
        if not isinstance(values, Mapping):
            return None
        try:
            found = Likeness(
                tuple(map(float, values["skewness"])), tuple(map(float, values["power"]))
            )
        except (KeyError, TypeError, ValueError):
            return None
        whole = len(found.skewness) == len(_FINE) and len(found.power) == len(_WIDTHS) - 1
        return found if whole and np.isfinite([*found.skewness, *found.power]).all() else None


def measure_likeness(volumes: Sequence[NDArray[Any]]) -> Likeness | None:
    """Statistics of volumes ``(z, y, x)`` together; None where they are too small or constant."""
    used = [v.astype(np.float64) for v in volumes if v.shape[2] >= _LEAST_COLUMNS]
    if sum(v.size for v in used) < _LEAST_PIXELS:
        return None
    sizes = [v.size for v in used]
    moments = np.array([[_moments(v, width) for width in _FINE] for v in used])
    second, third = (np.average(moments[:, :, k], axis=0, weights=sizes) for k in (0, 1))
    bands = np.average([_bands(v) for v in used], axis=0, weights=sizes)
    if not (second > 0).all() or not (bands > 0).all():
        return None
    return Likeness(tuple(map(float, third / second**1.5)), tuple(map(float, bands / bands[-1])))


def mismatches(found: Likeness, trained: Likeness) -> tuple[str, ...]:
    """Clauses that name what differs clearly; empty where nothing does, or noise hides it.

    Parameters
    ----------
    found
        Statistics of a first estimate.
    trained
        Those of the training images.
    """
    said = []
    opposite = [a * -np.sign(b) for a, b in zip(found.skewness, trained.skewness, strict=True)]
    if max(opposite) > _CLEAR and min(opposite) > 0:
        said.append("its contrast is inverted: ingest with the other --polarity")
    own = found.power[1] - _WHITE * found.power[0]
    if own > _OWN * found.power[1]:
        change = float(np.log2(own / trained.power[1]))
        if change > _COARSER:
            said.append("its detail is finer, as of pixels about twice as large")
        elif change < -_FINER:
            said.append(
                "its detail is coarser, as of pixels about half as large: try ingest --bin 2"
            )
    return tuple(said)


def _moments(volume: Floats, width: float) -> tuple[float, float]:
    """Second and third moment of detail of some width, in planes of z and x."""
    smooth = ndimage.gaussian_filter(volume, (width, 0, width))
    detail = smooth - ndimage.gaussian_filter(volume, (width, 0, _BACKGROUND * width))
    detail -= detail.mean()
    return float(np.square(detail).mean()), float((detail**3).mean())


def _bands(volume: Floats) -> Floats:
    """Power along x between neighbouring widths."""
    # Along z, a first estimate has noise in every layer.
    plane = ndimage.gaussian_filter1d(volume, 1.0, axis=0)
    seen = [plane if w == 0 else ndimage.gaussian_filter1d(plane, w, axis=2) for w in _WIDTHS]
    return np.array([float(np.var(a - b)) for a, b in pairwise(seen)])
