"""A fit of a few rows of a tilt series before a run: they are read once, for all that asks for them.

Four rows that are spread over the field are fitted by a long descent (:mod:`ddgm_dist.tilts.misfit`). It
says what no volume explains, which the step rule heeds, and gives the sums of the quick verdict. The
same rows, with their neighbours, give a first image (:mod:`ddgm_dist.tilts.first_image`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.operators.slab.stretch import DetectorPart
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.tilts.first_image import image_columns, likeness_of
from ddgm_dist.tilts.misfit import Unexplained, binned_columns, fit_rows
from ddgm_dist.tilts.reader import TiltSeries
from ddgm_dist.tilts.recorded_estimate import RowsFit
from ddgm_dist.tilts.rows import read_rows

__all__ = ["SampledFit", "fit_sampled_rows"]

_ROWS = 4
# So much of white noise must be left, or the views are too few for an image without streaks.
_LEAST_LEFT = 0.1


@dataclass(frozen=True)
class SampledFit:
    """The two results of a fit of sampled rows.

    Attributes
    ----------
    unexplained
        What no volume explains; None where the views hardly depend on each other.
    rows
        Sums of the residuals, and what the specimen looks like.
    """

    unexplained: Unexplained | None
    rows: RowsFit


def fit_sampled_rows(
    series: TiltSeries, geometry: Geometry, intensity: Intensity, screen: Screen | None = None
) -> SampledFit:
    """Read a few rows, and fit them.

    Parameters
    ----------
    series, geometry
        Open store; of the problem.
    intensity
        Mean and standard deviation of the volume.
    screen
        Rule that says which pixels are masked.

    Raises
    ------
    StorageError
        Pixels that are read are damaged or missing.
    """
    columns = binned_columns(geometry)
    image = image_columns(geometry, columns.start, columns.stop)
    part = DetectorPart((columns.start,) * geometry.tilts, columns.stop - columns.start)
    values, valid, seen, known = (list[Tensor]() for _ in range(4))
    for row, near in _places(geometry.rows):
        lines = near if image is not None else range(row, row + 1)
        read, ok = read_rows(
            series, geometry, intensity, lines.start, lines.stop, part, screen=screen
        )
        trusted = torch.ones_like(read) if ok is None else ok
        own = slice(row - lines.start, row - lines.start + 1)
        # Binned and cut at once, as rows of many views are large.
        values.append(columns.average(read[:, own]).clone())
        valid.append(columns.average(trusted[:, own]).eq(1).float())
        if image is not None:
            cut = slice(image.start - columns.start, image.stop - columns.start)
            seen.append(read[..., cut].clone())
            known.append(trusted[..., cut].clone())
        del read, ok, trusted
    unexplained, sums = fit_rows(columns, intensity, geometry.thickness, values, valid)
    rounded = ViewSums.from_dict(sums.to_dict())
    likeness = None
    if image is not None and unexplained is not None and unexplained.left > _LEAST_LEFT:
        likeness = likeness_of(image, seen, known)
    return SampledFit(unexplained, RowsFit(rounded or sums, len(values), intensity.std, likeness))


def _places(rows: int) -> list[tuple[int, range]]:
    """Rows that are fitted, and each with those of its neighbours that go to no other place."""
    own = [int(y) for y in np.unique((2 * np.arange(_ROWS) + 1) * rows // (2 * _ROWS))]
    found, first = list[tuple[int, range]](), 0
    for row, following in pairwise([*own, rows]):
        stop = min(row + 2, following)
        found.append((row, range(max(first, row - 1), stop)))
        first = stop
    return found
