"""A first image of a few rows of a slab, to compare with what a denoiser was trained on.

Polarity and pixel size show in detail of about one pixel. So the rows are not binned, and the image is
made by so few steps of conjugate gradients that the fit follows little of the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddgm_dist.baselines.cgls import cgls
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.basis import period
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.prior.likeness import Likeness, measure_likeness

__all__ = ["ImageColumns", "image_columns", "likeness_of"]

_STEPS = 12
# Columns: a few hundred, and more where steep rays reach far.
_COLUMNS, _REACHES = 512, 4
# Elements of the operator's matrices, above which an image would take more than seconds.
_MOST = 2**25


@dataclass(frozen=True)
class ImageColumns:
    """Columns of the detector, and the geometry that they would have alone."""

    start: int
    stop: int
    geometry: Geometry


def image_columns(geometry: Geometry, start: int, stop: int) -> ImageColumns | None:
    """The middle of some columns, as far as an image needs them; None where none is to be made.

    The training images are of extended specimens, so none is made of one in vacuum, and none where that
    would take more than seconds.
    """
    if geometry.boundary == "vacuum":
        return None
    width = min(stop - start, max(_COLUMNS, _REACHES * geometry.reach))
    first = start + (stop - start - width) // 2
    off = (geometry.field - width) / 2 - first
    shifts = tuple((dy, dx + off) for dy, dx in map(geometry.shift, range(geometry.tilts)))
    own = replace(geometry, field=width, shifts_px=shifts)
    columns = own.domain[1] - own.domain[0]
    if (period(own, columns) // 2 + 1) * own.tilts * own.thickness > _MOST:
        return None
    return ImageColumns(first, first + width, own)


def likeness_of(
    columns: ImageColumns, values: Sequence[Tensor], valid: Sequence[Tensor]
) -> Likeness | None:
    """Statistics of a first image; None where it is too small or constant.

    Parameters
    ----------
    columns
        Columns that the rows consist of.
    values, valid
        Normalised rows and which of their pixels are valid, float32 ``(tilt, rows, columns)``; some at
        a time.
    """
    operator = SlabOperator(columns.geometry)
    data = operator.prepare(torch.cat(tuple(values), dim=1), torch.cat(tuple(valid), dim=1))
    ((_, estimate),) = cgls(operator, data, [_STEPS])
    first = -operator.columns[0]
    return measure_likeness([estimate[:, :, first : first + columns.geometry.field].numpy()])
