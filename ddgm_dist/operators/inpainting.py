"""Images with missing pixels: a mask in space, whose K gradient steps have a closed form."""

from __future__ import annotations

from torch import Tensor

from ddgm_dist.algorithm.residual import masked_residual
from ddgm_dist.errors import InputError
from ddgm_dist.operators.base import check_mask

__all__ = ["Inpainting"]


class Inpainting:
    """The operator ``A x = S x``, with S 1 where a pixel was measured and 0 where it is missing.

    ``A^T A = S``, so K gradient steps are ``x + (1 - (1 - eta)^K) S (b - x)``.

    Parameters
    ----------
    mask
        S, ``(z, x)`` for all rows alike, or ``(z, rows, x)``.
    shape
        Shape of the images, if known; a mask that does not fit it is refused.

    Notes
    -----
    Images and data are float32 ``(z, rows, columns)``.

    Raises
    ------
    InputError
        If the mask does not fit or is not of 0 and 1.
    """

    norm_squared = 1.0

    def __init__(self, mask: Tensor, shape: tuple[int, ...] | None = None) -> None:
        if mask.ndim not in (2, 3):
            raise InputError("mask", tuple(mask.shape), "must be (z, x) or (z, rows, x)")
        mask = check_mask(mask, shape or tuple(mask.shape), of="the image")
        self.mask = mask[:, None] if mask.ndim == 2 else mask

    def A(self, x: Tensor) -> Tensor:
        """Masked images ``S x``, float32 ``(z, rows, columns)``."""
        self._check(x, "x")
        return self.mask * x

    def T(self, y: Tensor) -> Tensor:
        """Adjoint ``S y``: A is its own adjoint."""
        self._check(y, "data")
        return self.mask * y

    def descend(self, x: Tensor, data: Tensor, steps: float, step_size: float) -> Tensor:
        """``steps`` gradient steps in closed form; a fraction is a shorter last step."""
        if steps <= 0:
            return x
        self._check(x, "x")
        whole = int(steps)
        left = (1 - step_size) ** whole * (1 - (steps - whole) * step_size)
        return x + (1 - left) * masked_residual(data, x, self.mask)

    def _check(self, stack: Tensor, name: str) -> None:
        z, rows, columns = self.mask.shape
        fits = stack.ndim == 3 and (stack.shape[0], stack.shape[2]) == (z, columns)
        if not fits or rows not in (1, stack.shape[1]):
            raise InputError(
                name,
                tuple(stack.shape),
                f"the mask is of images (z, rows, columns) = ({z}, {rows or 'any'}, {columns})",
            )
