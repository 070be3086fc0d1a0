"""The place of one view's pixels: the map of its binned image, and the shift that remains."""

from __future__ import annotations

import math

from ddgm_dist.acquisition.geometry.alignment import Alignment
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.source import Source
from ddgm_dist.views.affine import Affine
from ddgm_dist.views.binning import binned_affine

__all__ = ["place_binned", "shift_of"]

Pair = tuple[float, float]


def place_binned(
    affine: Affine, before: tuple[int, int], after: tuple[int, int], factor: int
) -> tuple[Affine, Pair]:
    """The map of binned images, and the shift that remains where it moves no pixel.

    Parameters
    ----------
    affine
        Map of the stored image to the aligned one, pixels of the source.
    before, after
        Rows and columns of the stored and of the aligned image, pixels of the source.
    factor
        Binning.

    Returns
    -------
    tuple
        The map, and ``(dy, dx)``, both in binned pixels.
    """
    if factor == 1:
        return affine, (0.0, 0.0)
    if affine.is_identity and before == after:
        # Rows and columns that are left over at the end move the centre.
        height, width = before
        return affine, (height % factor / (2 * factor), width % factor / (2 * factor))
    # Of whole blocks, so that the axis stays in the middle of the binned image.
    whole = (after[0] // factor * factor, after[1] // factor * factor)
    return binned_affine(affine, before, whole, factor), (0.0, 0.0)


def shift_of(
    source: Source,
    found: Alignment,
    options: IngestOptions,
    index: int,
    angle: float,
    *,
    mirrored: bool,
) -> Pair:
    """Shift of a view that the operator takes into account.

    Parameters
    ----------
    source
        The open source.
    found
        Alignment of the images.
    options
        Options of the ingest.
    index
        Number of the view in the source, from 0.
    angle
        Its angle, degrees; of a mirrored view that after mirroring.
    mirrored
        Whether the view is mirrored.

    Returns
    -------
    tuple
        ``(dy, dx)``, pixels of the aligned image.
    """
    dy, dx = source.shifts_px[index] if source.shifts_px is not None else (0.0, 0.0)
    sign = -1.0 if mirrored else 1.0
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    dx *= sign
    # IMOD moves the slab up by SHIFT's z. At the angle of a mirrored view cosine and sine have the
    # opposite sign, and so has u.
    dx += found.shift_z * sin
    if options.axis_column is not None:  # in place of what files say of the axis
        return dy, dx + sign * (options.axis_column - (found.size[1] - 1) / 2)
    dx += sign * found.axis_moved
    # Images whose middle lies beside the axis show the specimen there, as cropped columns do.
    dx += sign * found.centre_x * (sign * cos - 1)
    # It turns the slab about an axis that OFFSET moves along x.
    dx += sign * found.axis_offset * (1 - sign * cos)
    return dy, dx
