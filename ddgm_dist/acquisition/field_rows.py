"""The first row of a dark or flat field and of its source, where one of the two files does not say it.

TIFF and PNG files begin with the top row and are turned. Arrays (NumPy, HDF5, Zarr) say nothing and are
taken as they are. Where one of the two is an array and the other was turned, both are taken to have the
same row first in their files. Most arrays come from programs that read TIFF files in that order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.acquisition.source import Source
from ddgm_dist.acquisition.upright import FromBottom
from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.tilts.provenance import Provenance

__all__ = ["match_rows"]

_ARRAY_FILES = (".npy", ".npz", ".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".he5")
_ARRAYS = ("NumPy array", "NumPy archive", "HDF5", "Zarr")
# Views that a field is compared with.
_VIEWS = 8
# Root mean square by which a field differs from itself upside down, as a share, that is worth a word.
_DIFFERS = 0.005
# Correlation with the views from which they say which row is the first.
_CLEAR = 0.3
# Quantiles beyond which pixels are outliers.
_QUANTILES = (0.01, 0.99)

Floats = NDArray[np.float32]


def match_rows(
    field: Floats,
    images: VolumeSource,
    path: Path,
    source: Source,
    argument: str,
    record: Provenance,
) -> Floats:
    """A field with the rows in the order of the source's.

    Parameters
    ----------
    field
        Mean of the images, ``(row, column)``.
    images
        The images of the field's file, as they were opened.
    path
        Path of that file.
    source
        The source that it belongs to.
    argument
        ``dark`` or ``flat``, for messages.
    record
        Takes what was assumed, and a warning where the views do not confirm it.

    Raises
    ------
    InputError
        The views contradict it.
    """
    is_array = is_zarr(path) or path.suffix.lower() in _ARRAY_FILES
    turned, source_turned = isinstance(images, FromBottom), isinstance(source.stack, FromBottom)
    if not ((is_array and source_turned) or (turned and source.kind in _ARRAYS)):
        return field
    upside = np.ascontiguousarray(field[::-1])
    views = _mean_view(source.stack)
    with np.errstate(invalid="ignore"):
        odd = upside - field
        scale = np.nanmean(np.abs(field if argument == "flat" else views))
        differs = float(np.sqrt(np.nanmean(odd.astype(np.float64) ** 2)) / max(scale, 1e-30))
    if not differs > _DIFFERS:
        return upside
    what = f"rows of the {argument} field"
    record.say(what, "in the order of the source's file", f"{path.name} or the source is an array")
    agrees = _correlation(odd, views - views[::-1])
    known = "unknown" if is_array else "the top one; that of the source is unknown"
    which = f"whose first row is {known}"
    hint = "give the field in a file of the format of the source"
    if agrees < -_CLEAR:
        raise InputError(
            argument,
            str(path),
            f"holds an image {which}: it fits the views better upside down than in the order of rows of "
            f"the source's file (correlation {agrees:.2f})",
            hint,
        )
    if agrees < _CLEAR:
        record.warnings.append(
            f"the {argument} field {path.name} has an image {which}; it is taken in the order of rows "
            f"of the source's file, which the views do not tell: {hint}"
        )
    return upside


def _mean_view(stack: VolumeSource) -> Floats:
    """Mean of some views from all over the series."""
    count, height, width = stack.shape
    chosen = np.unique(np.linspace(0, count - 1, _VIEWS).astype(int)).tolist()
    total = np.zeros((height, width), dtype=np.float32)
    for view in chosen:
        total += stack.read(Box((view, 0, 0), (view + 1, height, width)))[0]
    return total / np.float32(len(chosen))


def _correlation(a: Floats, b: Floats) -> float:
    """Correlation of two images without their outliers; 0 where one of them has no contrast."""
    good = np.isfinite(a) & np.isfinite(b)
    if not good.any():
        return 0.0
    parts = [image[good].astype(np.float64) for image in (a, b)]
    x, y = (np.clip(part, *np.quantile(part, _QUANTILES)) for part in parts)
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt(np.sum(x * x) * np.sum(y * y)))
    return float(np.sum(x * y)) / norm if norm > 0 else 0.0
