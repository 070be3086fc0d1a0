"""Images whose rows are stored from the top, as IMOD turns them when it reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.readers.base import VolumeSource, check_box

__all__ = ["FromBottom"]


@dataclass(frozen=True)
class FromBottom:
    """A stack with its rows in the reverse order, so that row 0 is the lowest of the image.

    TIFF and PNG files begin with the top row, MRC files with the lowest. Without this, a specimen read
    from them would be the mirror image of the one read from an MRC file.

    Attributes
    ----------
    stack
        Source ``(view, row, column)``, rows from the top.
    """

    stack: VolumeSource

    @property
    def shape(self) -> Triple:
        """Views, rows and columns."""
        return self.stack.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the stored values."""
        return self.stack.dtype

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box; IndexError when it reaches outside the stack."""
        check_box(box, self.shape)
        height = self.shape[1]
        (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
        turned = Box((z0, height - y1, x0), (z1, height - y0, x1))
        return np.ascontiguousarray(self.stack.read(turned)[:, ::-1])
