"""Mean and standard deviation of volumes that are seen one after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments"]

Floats = NDArray[np.float32]


class Moments:
    """Sums over samples, in float64 and in the order in which they are added.

    Let T_j be the sum of the first j values. The sum of squared deviations from their mean grows by
    ``(j x_j - T_j)^2 / (j (j - 1))`` (Youngs & Cramer 1971). Nothing cancels as it does in
    ``sum x^2 - T^2 / S``, and each sample is read once.

    Parameters
    ----------
    shape
        Shape of each sample.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0
        self._sum, self._squared = np.zeros(shape), np.zeros(shape)

    def add(self, sample: Floats) -> None:
        """Add the next sample, float32 of the shape."""
        x = sample.astype(np.float64)
        self._sum += x
        self.count += 1
        j = self.count
        if j > 1:
            x *= j
            x -= self._sum
            x *= x
            x /= j * (j - 1)
            self._squared += x

    def mean(self) -> Floats:
        """Mean of the samples, in their unit."""
        return (self._sum / self.count).astype(np.float32)

    def std(self) -> Floats:
        """Standard deviation, with ``count - 1`` in the denominator; needs two samples."""
        if self.count < 2:
            raise ValueError("the deviation of one sample is not known")
        variance = self._squared / (self.count - 1)
        return np.sqrt(variance, out=variance).astype(np.float32)
