"""Views of larger pixels: means or sums over square blocks, and how that moves their centres."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.views.affine import Affine

__all__ = ["Binning", "bin_view", "binned_affine", "binned_shape"]

Binning = Literal["mean", "sum"]


def _checked(factor: int) -> int:
    if factor < 1 or factor != int(factor):
        raise InputError("bin", factor, "must be a whole number of at least 1")
    return int(factor)


def binned_shape(shape: tuple[int, int], factor: int) -> tuple[int, int]:
    """Rows and columns after binning; the trailing pixels that fill no block are dropped.

    Raises
    ------
    InputError
        The factor is not a whole number from 1, or larger than the image.
    """
    factor = _checked(factor)
    rows, columns = shape[0] // factor, shape[1] // factor
    if rows < 1 or columns < 1:
        raise InputError(
            "bin", factor, f"is larger than an image of {shape[0]} x {shape[1]} pixels"
        )
    return rows, columns


def bin_view(
    block: NDArray[np.floating] | NDArray[np.integer], factor: int, how: Binning
) -> NDArray[np.float32]:
    """Return means or sums over square blocks of pixels.

    A result is unmeasured if fewer than half of its pixels are measured. Otherwise it is the mean of the
    measured ones, or for sums that mean times the number of all pixels of the block, so that a
    sum of counts keeps its level.

    Parameters
    ----------
    block
        Pixels, shape (rows, columns); NaN and infinity are unmeasured. Its first pixel is the first
        of a block of the image.
    factor
        Edge of the blocks, pixels.
    how
        ``"mean"`` for line integrals, ``"sum"`` for counts before the logarithm.

    Returns
    -------
    Shape (rows // factor, columns // factor). It does not depend on how an image is cut into blocks.

    Raises
    ------
    InputError
        The factor is not a whole number from 1, or larger than the image.
    """
    rows, columns = binned_shape((block.shape[0], block.shape[1]), factor)
    factor = int(factor)
    values = block[: rows * factor, : columns * factor].astype(np.float64)
    measured = np.isfinite(values)
    size = factor * factor
    if measured.all():
        out = _sums(values, factor)
        return (out / size if how == "mean" else out).astype(np.float32)
    values[~measured] = 0
    count = _sums(measured.astype(np.float64), factor)
    out = _sums(values, factor) / np.maximum(count, 1)
    if how == "sum":
        out *= size
    out[2 * count < size] = np.nan
    return out.astype(np.float32)


def _sums(values: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Sums over blocks, in an order of additions that does not depend on the array's shape."""
    rows = values[::factor].copy()
    for i in range(1, factor):
        rows += values[i::factor]
    out = rows[:, ::factor].copy()
    for j in range(1, factor):
        out += rows[:, j::factor]
    return out


def binned_affine(
    affine: Affine, in_shape: tuple[int, int], out_shape: tuple[int, int], factor: int
) -> Affine:
    """Return the map between binned images that does what a map does between those of full size.

    Where a size is no multiple of the factor, its rest of pixels is dropped at the end. Then the centre
    of the binned image lies half of the rest before that of the image, which shifts the map.

    Parameters
    ----------
    affine
        Map from input to output pixels of full size.
    in_shape, out_shape
        Rows and columns of input and output at full size; the binned ones follow from `binned_shape`.
    factor
        Edge of the blocks, pixels.

    Raises
    ------
    InputError
        The factor is not a whole number from 1, or larger than an image.
    """
    binned_shape(in_shape, factor)
    binned_shape(out_shape, factor)
    factor = int(factor)
    y_in, x_in = (size % factor / 2 for size in in_shape)
    y_out, x_out = (size % factor / 2 for size in out_shape)
    return Affine(
        affine.a11,
        affine.a12,
        affine.a21,
        affine.a22,
        (affine.dx - affine.a11 * x_in - affine.a12 * y_in + x_out) / factor,
        (affine.dy - affine.a21 * x_in - affine.a22 * y_in + y_out) / factor,
    )
