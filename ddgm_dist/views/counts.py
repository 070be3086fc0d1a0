"""From detector counts to line integrals, in one view or in a box of it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddgm_dist.errors import InputError

__all__ = ["line_integrals"]

# Transmissions below this are no specimen's that lets a measurable beam through.
_LEAST_TRANSMISSION = 1e-4


def line_integrals(
    counts: ArrayLike,
    level: float,
    dark: ArrayLike | None = None,
    flat: ArrayLike | None = None,
    *,
    floor: float | None = None,
    gain: float = 0.0,
) -> tuple[NDArray[np.float32], int]:
    """Return ``-log`` of the transmission, and how many pixels were too dark for it.

    The transmission is ``(counts - dark) / level``, or ``(counts - dark) / (flat - dark) / level``
    where a flat field is given (Beer's law).

    Parameters
    ----------
    counts
        Pixels; NaN and infinity are unmeasured.
    level
        Counts above the dark ones where there is no specimen. Where a flat field is given: the
        transmission there, which is 1 unless the beam changed. For data that need only a logarithm
        it is 1.
    dark
        Counts without a beam, a number or one for each pixel; None for 0.
    flat
        Counts without a specimen, one for each pixel; None for ``level`` in all of them. Pixels where it
        is not above the dark ones are dead, and unmeasured.
    floor
        Least counts above the dark ones; what is darker is taken for that. None for half of a
        quantum, ``gain / 2``, and at least 1e-4 of the counts without a specimen.
    gain
        Counts of one quantum (electron or photon); 0 where it is not known.

    Returns
    -------
    Line integrals, NaN where unmeasured, and the number of measured pixels raised to the floor.

    Raises
    ------
    InputError
        The level or the floor is not a positive number, or the gain is negative.
    """
    if not (math.isfinite(level) and level > 0):
        raise InputError("counts", level, "the incident level must be a number above 0")
    if floor is not None and not (math.isfinite(floor) and floor > 0):
        raise InputError("floor", floor, "must be a number of counts above 0")
    if not (math.isfinite(gain) and gain >= 0):
        raise InputError("gain", gain, "must be a number of at least 0")
    offset = np.asarray(0.0 if dark is None else dark, dtype=np.float64)
    signal = np.asarray(counts, dtype=np.float64) - offset
    white = np.asarray(level, dtype=np.float64)
    if flat is not None:
        white = (np.asarray(flat, dtype=np.float64) - offset) * level
    alive = np.isfinite(white) & (white > 0)
    white = np.where(alive, white, 1.0)
    least = np.maximum(gain / 2, _LEAST_TRANSMISSION * white) if floor is None else floor
    measured = np.isfinite(signal) & alive
    low = measured & (signal < least)
    usable = np.where(measured, np.maximum(np.nan_to_num(signal), least), white)
    out = -np.log(usable / white)
    out[~measured] = np.nan
    return out.astype(np.float32), int(np.count_nonzero(low))
